"""A commented configuration for an engine."""

from __future__ import annotations

from pathlib import Path

from hotham_ase.engines.engine import ENGINES, engine_class
from hotham_ase.errors import UsageError
from hotham_ase.generate.config import DynamicsConfig, GenerateConfig, StructuresConfig
from hotham_ase.settings import comment, commented

#: Stand for what only the user knows.
_GIVEN = {"template": Path("my_run"), "data": Path("known.h5")}
_HEAD = (
    "Compute it with: hotham generate THIS_FILE, after --dry-run, which says how long it takes. "
    "Lines may be left out; these are the defaults, but for the structures, which are an example."
)


def template(engine: str) -> str:
    """YAML of a data set to be computed: every setting with its value and its meaning.

    Parameters
    ----------
    engine
        Its name.

    Raises
    ------
    UsageError
        If there is none of this name.
    """
    if engine not in ENGINES:
        raise UsageError(f"--init takes the name of an engine, {', '.join(ENGINES)}; got {engine}")
    kind = engine_class({"name": engine})
    given = {key: value for key, value in _GIVEN.items() if key in kind.model_fields}
    example = {"start": "cubic-silicon", "number": 40, "displacement": 0.06, "strain": 0.02}
    if engine == "pyscf":
        example = {"start": "molecule:H2O", "number": 100, "displacement": 0.05}
    config = GenerateConfig(
        output=Path("data.h5"),
        structures=(StructuresConfig(**example, dynamics=DynamicsConfig(calculator="emt")),),
        engine=kind.model_validate({"name": engine, **given}),
    )
    return "\n".join([*comment(_HEAD), "", *commented(config, off={"dynamics"})]) + "\n"
