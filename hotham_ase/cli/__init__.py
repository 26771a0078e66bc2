"""The ``hotham`` command: nothing but wiring; every heavy import waits for its command."""

from __future__ import annotations

import re
import signal
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hotham_ase.cli import data, electronic, exporting, generating, learning, planning
from hotham_ase.cli.tables import printable
from hotham_ase.errors import HothamError


class _PlainFlags:
    """Help without a type beside flags: typer writes ``<bool>``, as if a word had to follow."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The same, flags with no word for their value."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Command(_PlainFlags, TyperCommand):
    """One command."""


class _Commands(_PlainFlags, TyperGroup):
    """Ends any command that Ctrl-C interrupts in the same way; typer would say ``Aborted``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """With meshes as three words, see :func:`split_meshes`."""
        return super().parse_args(ctx, split_meshes(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; SystemExit with 130 where it is interrupted."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning exits with 1 where it was interrupted
            if not any(isinstance(e, KeyboardInterrupt) for e in (error, error.__context__)):
                raise
            typer.echo("hotham: interrupted", err=True)
            raise SystemExit(130) from None


app = typer.Typer(
    name="hotham",
    cls=_Commands,
    help="Predict Kohn-Sham Hamiltonians with Hot-Ham, and what follows from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("bands")(electronic.bands)
app.command("dos")(electronic.dos)
app.command("plan")(planning.plan)
app.command("info")(learning.info)
app.command("import-checkpoint")(learning.import_published)
app.command("generate")(generating.generate_data)
app.command("import")(data.import_runs)
app.command("check")(data.check_data)
app.command("export")(exporting.export)
app.command("convert")(exporting.convert)
app.command("formats")(exporting.list_formats)
app.command("train")(learning.train_model)
app.command("evaluate")(learning.evaluate_model)
for command in app.registered_commands:
    command.cls = _Command


def _print_version(wanted: bool) -> None:
    if wanted:
        from hotham_ase import __version__

        typer.echo(f"hotham_ase {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def split_meshes(words: list[str]) -> list[str]:
    """``--kpts 12,12,1`` and ``--kpts=12x12x1`` as ``--kpts 12 12 1``.

    Examples
    --------
    >>> split_meshes(["dos", "--kpts", "12,12,1", "-o", "1,2,3"])
    ['dos', '--kpts', '12', '12', '1', '-o', '1,2,3']
    """
    out: list[str] = []
    for word in words:
        name, _, value = word.partition("=")
        if name == "--kpts" and value:
            out.append(name)
        else:
            value = word if out[-1:] == ["--kpts"] else ""
        is_mesh = re.fullmatch(r"\d+([,x]\d+){2}", value)
        out += re.split("[,x]", value) if is_mesh else [value or word]
    return out


def main() -> None:
    """Run the command line; a mistake of the user's ends it with one sentence and exit code 2."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # nohup has SIGHUP ignored
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    warnings.showwarning = _show_warning
    try:
        app()
    except Exception as error:
        from ase.calculators.calculator import CalculatorError  # what our calculators raise

        # all else, a bare ValueError too, is a fault of ours and keeps its traceback
        if not isinstance(error, (HothamError, OSError, MemoryError, CalculatorError)):
            raise
        typer.echo(f"hotham: error: {describe_error(error)}", err=True)
        sys.exit(2)


def _terminate(number: int, _: object) -> None:
    """End on a signal as on an error, so that no temporary file stays behind."""
    raise SystemExit(128 + number)


def describe_error(error: Exception) -> str:
    """One line for one error, without what a terminal would obey: it may quote a file.

    Examples
    --------
    >>> describe_error(FileNotFoundError(2, "No such file or directory", "data.h5"))
    'data.h5: No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return printable(f"{where}{error.strerror}")
    return printable(str(error)) or type(error).__name__


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"hotham: warning: {printable(str(message))}", err=True)
