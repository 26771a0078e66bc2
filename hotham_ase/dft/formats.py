"""The formats that are known, and reading a folder of any of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.plausibility import check_electrons, check_sample
from hotham_ase.dft.potentials import with_potentials
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import (
    DFTReadError,
    ExportError,
    Sample,
    SampleError,
    UnsupportedRunError,
)
from hotham_ase.errors import HothamError
from hotham_ase.files import check_new, check_writable
from hotham_ase.matrices.spin import Spin

INITIAL = "initial"  # where a run's folder has the run that H0 is taken from
HAMGNN = "graph_data.npz"
_OF_INITIAL_RUN = ("code", "version", "xc", "scf_steps")


@cache
def formats() -> tuple[Format, ...]:
    """All formats, in the order in which a folder is asked for them.

    Their modules are imported on the first call. A new one needs a module with a ``FORMAT`` and
    its place here.
    """
    from hotham_ase.dft import deeph, deeph_new, deeptb, extxyz, sisl_files, wannier90
    from hotham_ase.dft.abacus import run as abacus
    from hotham_ase.dft.abacus import write
    from hotham_ase.dft.aims import run as aims
    from hotham_ase.dft.cp2k import run as cp2k
    from hotham_ase.dft.gpaw import run as gpaw
    from hotham_ase.dft.openmx import run as openmx
    from hotham_ase.dft.siesta import run as siesta

    return (
        *(abacus.FORMAT, openmx.FORMAT, siesta.FORMAT, cp2k.FORMAT, aims.FORMAT, gpaw.FORMAT),
        *(deeph.FORMAT, deeph_new.FORMAT, deeptb.FORMAT),
        *(write.FORMAT, sisl_files.FORMAT, wannier90.FORMAT, extxyz.FORMAT),
    )


@cache
def written_formats() -> dict[str, Format]:
    """Formats that can be written, by their words for the command line."""
    return {one.word: one for one in formats() if one.word}


def run_format(folder: str | Path) -> Format | None:
    """The format of a folder's files; None if it is not known."""
    return next((one for one in formats() if one.detect(Path(folder))), None)


def read_sample(
    folder: str | Path,
    *,
    n_valence: Mapping[str, float] | None = None,
    orbitals: str | Path | None = None,
    pseudopotentials: str | Path | None = None,
    verify: bool = True,
) -> Sample:
    """Read a calculation of any supported code; the format is recognised from its files.

    Where the folder has a subfolder ``initial/`` with another run, H of that run is the sample's
    ``initial_hamiltonian``. It is taken as it is: nothing in it says from which density it was
    built.

    Parameters
    ----------
    folder
        The folder with the calculation's files.
    n_valence
        Valence electrons by chemical symbol, for formats that do not tell them.
    orbitals
        Folder of the orbitals that the calculation names; by default where it says they are.
    pseudopotentials
        Folder of the pseudopotentials that the calculation names. By default those that are where
        it says, or beside its orbitals, and can be used become part of the basis.
    verify
        Refuse matrices that cannot be what a calculation found, or do not give the eigenvalues that
        their run printed, see :mod:`hotham_ase.dft.plausibility`.

    Raises
    ------
    DFTReadError
        If the folder is not there, its format is not recognised, it cannot be read, or its
        matrices cannot be right; or if the run in ``initial/`` cannot be read, or is of other
        atoms or orbitals; or if the run's valence electrons are not those given, or not those of
        its pseudopotentials.
    UnsupportedRunError
        If a calculation is of a kind that is not supported, or a pseudopotential in the folder
        ``pseudopotentials`` is; or for HamGNN's ``graph_data.npz``.

    Warns
    -----
    UserWarning
        If the calculation says that it did not converge, or a pseudopotential cannot be used.
    """
    folder, n_valence = Path(folder), n_valence or {}
    orbitals = None if orbitals is None else Path(orbitals)
    found = _format_of(folder)
    sample = _read(found, folder, n_valence, orbitals, verify)
    _check_valence(sample, n_valence, folder)
    sample = with_potentials(sample, found, folder, pseudopotentials)
    if verify:
        _check(sample)
    if sample.provenance.scf_converged is False:
        warnings.warn(f"{folder}: the self-consistent calculation did not converge", stacklevel=2)
    of_start = run_format(folder / INITIAL)
    if of_start is not None:
        start = _read(of_start, folder / INITIAL, n_valence, orbitals, verify)
        sample = _with_initial(sample, start, folder / INITIAL, verify)
    return sample


def _read(
    found: Format, folder: Path, n_valence: Mapping[str, float], orbitals: Path | None, verify: bool
) -> Sample:
    try:
        return found.read(folder, n_valence=n_valence, orbitals=orbitals, verify=verify)
    except DFTReadError:
        raise
    except HothamError as error:  # parts that do not go together
        raise DFTReadError(f"{folder} cannot be read: {error}") from error


def write_sample(sample: Sample, path: str | Path, to: str) -> None:
    """Write a structure with its H and S for another code, whole or not at all.

    Parameters
    ----------
    sample
        A calculation that was read, one of a data set, or a prediction:
        :meth:`HotHamCalculator.get_sample`.
    path
        The file, ending as the format's do, or a folder that must not exist yet.
    to
        A word of :func:`written_formats`: ``abacus``, ``deeph``, ``deeph-new``, ``deeptb``,
        ``extxyz``, ``pyatb``, ``tshs``, ``wannier90``.

    Raises
    ------
    ExportError
        If the format is not known, has no matrices of this spin kind, or needs what the sample
        lacks.
    FileExistsError
        If the folder exists.
    """
    check_target(path, to, sample.hamiltonian.spin).write(sample, Path(path))


def check_target(path: str | Path, to: str, spin: Spin | None = None) -> Format:
    """The format to write, if it can be written there, before any time is spent on what to write.

    Parameters
    ----------
    path, to
        As for :func:`write_sample`.
    spin
        Kind of H, if it is known yet.

    Raises
    ------
    ExportError
        If the format is not known, has no matrices of this spin kind, or its files end otherwise;
        or if a package that its writer needs is not installed.
    OSError
        If the folder exists, or the file cannot be written.
    """
    path, known = Path(path), written_formats()
    if to not in known:
        raise ExportError(f"the format must be one of {', '.join(sorted(known))}, got {to!r}")
    form = known[to]
    if spin is not None and spin not in form.written_spins:
        kinds = " or ".join(kind.value for kind in form.written_spins)
        raise ExportError(f"{form.name} files can hold {kinds} matrices, but H is {spin.value}")
    if form.suffixes:
        if path.suffix not in form.suffixes:  # its readers know the format by it
            endings = " or ".join(form.suffixes)
            raise ExportError(f"{form.name} files must end in {endings}, got {path.name}")
        check_writable(path)
    else:
        check_new(path)
    if form.needs is not None:
        form.needs()
    return form


def _format_of(folder: Path) -> Format:
    found = run_format(folder)
    if folder.name == HAMGNN or (found is None and (folder / HAMGNN).is_file()):
        raise UnsupportedRunError(
            f"{folder}: HamGNN's {HAMGNN} holds pickled objects, which may do anything when they "
            "are loaded, and is not read: import the runs of OpenMX, SIESTA or ABACUS that it was "
            "made from, or convert it with the script in docs/data.md, section HamGNN"
        )
    if not folder.is_dir():
        raise DFTReadError(f"{folder} is not a folder")
    if found is None:
        below = next((path for path in sorted(folder.iterdir()) if run_format(path)), None)
        if below is not None:
            raise DFTReadError(
                f"{folder} has no files of a known format, but {below.name} in it has: give that "
                "folder, or --recursive to import all below"
            )
        *others, last = (f"{one.name} ({one.files})" for one in formats() if one.is_read)
        raise DFTReadError(
            f"{folder} has no files of a known format: {', '.join(others)} or {last}"
        )
    return found


def _check(sample: Sample) -> None:
    check_sample(sample)
    # eigenvalues that agree with the run's leave no doubt about its electrons
    if sample.provenance.eigenvalues != "compared":
        check_electrons(sample)


def _check_valence(sample: Sample, n_valence: Mapping[str, float], folder: Path) -> None:
    for symbol in sorted(set(sample.atoms.symbols) & set(n_valence)):
        found = sample.basis[symbol].n_valence
        if found != n_valence[symbol]:
            raise DFTReadError(
                f"{folder} has {symbol} with {found:g} valence electrons, but n_valence says "
                f"{n_valence[symbol]:g}"
            )


def _with_initial(sample: Sample, start: Sample, folder: Path, verify: bool) -> Sample:
    """The sample with H of another run as its H0, and a record of that run."""
    record = start.provenance.to_dict()
    known = {key: record[key] for key in _OF_INITIAL_RUN if key in record}
    try:
        sample = replace(
            sample,
            initial_hamiltonian=start.hamiltonian,
            provenance=replace(sample.provenance, initial=Provenance.from_dict(known)),
        )
    except SampleError as error:
        raise DFTReadError(f"{folder} does not belong to its run: {error}") from error
    _check_same_orbitals(sample, start.basis, folder)
    if verify:
        check_sample(start)
    return sample


def _check_same_orbitals(sample: Sample, basis: OrbitalBasis, folder: Path) -> None:
    """Refuse other shells or radial functions; without these, cutoffs are but estimates."""
    for symbol in sorted(set(sample.atoms.symbols)):
        of_run, of_start = sample.basis[symbol], basis[symbol]
        both = of_run.has_radial and of_start.has_radial
        same = sample.basis.subset([symbol]).same_orbitals(basis.subset([symbol]))
        if of_run.shells != of_start.shells or (both and not same):
            raise DFTReadError(
                f"{folder} does not belong to its run: its {of_start.label} orbitals of {symbol} "
                f"are not the run's {of_run.label}"
            )
