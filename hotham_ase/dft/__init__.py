"""Other codes' files, in and out: the only place that knows their units and orbital orders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.plausibility import check_electrons, check_sample
from hotham_ase.dft.sample import DFTReadError, Sample, SampleError, UnsupportedRunError

__all__ = [
    "DFTReadError",
    "Sample",
    "SampleError",
    "UnsupportedRunError",
    "read_sample",
    "run_format",
]

INITIAL = "initial"  # where a run's folder has the run that H0 is taken from
_OF_INITIAL_RUN = ("code", "version", "xc", "scf_steps")


def read_sample(
    folder: str | Path, *, n_valence: Mapping[str, float] | None = None, verify: bool = True
) -> Sample:
    """Read a calculation of any supported code; the format is recognised from its files.

    Recognised are ABACUS run folders, legacy DeepH folders and DeePTB folders. Where a format
    needs to be told more than its files hold, call its own reader.

    Where the folder has a subfolder ``initial/`` with a run of one of these formats, H of that run
    is the sample's ``initial_hamiltonian``. It is taken as it is: nothing in it says from which
    density it was built.

    Parameters
    ----------
    folder
        The folder with the calculation's files.
    n_valence
        Valence electrons by chemical symbol, for formats that do not tell them.
    verify
        Refuse matrices that cannot be what a calculation found, see
        :mod:`hotham_ase.dft.plausibility`, and such that do not give the eigenvalues that their
        own run printed.

    Raises
    ------
    DFTReadError
        If the folder is not there, its format is not recognised, it cannot be read, or its
        matrices cannot be right; or if the run in ``initial/`` cannot be read, or is of other
        atoms or orbitals; or if the run's valence electrons are not those given.

    Warns
    -----
    UserWarning
        If the calculation says that it did not converge.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DFTReadError(f"{folder} is not a folder")
    reader = _reader(folder, n_valence, verify)
    if reader is None:
        raise DFTReadError(
            f"{folder} has no files of a known format: ABACUS (STRU and INPUT), DeepH "
            "(hamiltonians.h5 and lat.dat) or DeePTB (hamiltonians.h5 and cell.dat)"
        )
    sample = reader(folder)
    _check_valence(sample, n_valence or {}, folder)
    if verify:
        check_sample(sample)
        if sample.provenance.get("eigenvalues") != "compared":
            check_electrons(sample)
    if sample.provenance.get("scf_converged") is False:
        warnings.warn(f"{folder}: the self-consistent calculation did not converge", stacklevel=2)
    reader = _reader(folder / INITIAL, n_valence, verify)
    return sample if reader is None else _with_initial(sample, folder / INITIAL, reader, verify)


def _check_valence(sample: Sample, n_valence: Mapping[str, float], folder: Path) -> None:
    for symbol in sorted(set(sample.atoms.symbols) & set(n_valence)):
        found = sample.basis[symbol].n_valence
        if found != n_valence[symbol]:
            raise DFTReadError(
                f"{folder} has {symbol} with {found:g} valence electrons, but n_valence says "
                f"{n_valence[symbol]:g}"
            )


def run_format(folder: str | Path) -> str | None:
    """Which code's files a folder holds: "ABACUS", "DeepH" or "DeePTB"; None if of none."""
    from hotham_ase.dft import deeph
    from hotham_ase.dft.abacus import run as abacus

    known = {"ABACUS": abacus.is_abacus, "DeepH": deeph.is_deeph, "DeePTB": deeph.is_deeptb}
    return next((name for name, is_run in known.items() if is_run(folder)), None)


def _reader(
    folder: Path, n_valence: Mapping[str, float] | None, verify: bool
) -> Callable[[Path], Sample] | None:
    """The reader of a folder's format; None if it is not known."""
    from hotham_ase.dft import deeph
    from hotham_ase.dft.abacus import run as abacus

    readers: dict[str, Callable[[Path], Sample]] = {
        "ABACUS": partial(abacus.read_abacus, verify=verify),
        "DeepH": partial(deeph.read_deeph, n_valence=n_valence),
        "DeePTB": partial(deeph.read_deeptb, n_valence=n_valence),
    }
    return readers.get(run_format(folder) or "")


def _with_initial(
    sample: Sample, folder: Path, reader: Callable[[Path], Sample], verify: bool
) -> Sample:
    """The sample with H of another run as its H0, and a record of that run."""
    first = reader(folder)
    known = {key: first.provenance[key] for key in _OF_INITIAL_RUN if key in first.provenance}
    try:
        sample = replace(
            sample,
            initial_hamiltonian=first.hamiltonian,
            provenance={**sample.provenance, "initial": known},
        )
    except SampleError as error:
        raise DFTReadError(f"{folder} does not belong to its run: {error}") from error
    _check_same_orbitals(sample, first.basis, folder)
    if verify:
        check_sample(first)
    return sample


def _check_same_orbitals(sample: Sample, basis: OrbitalBasis, folder: Path) -> None:
    """Refuse other shells or radial functions; without these, cutoffs are but estimates."""
    for symbol in sorted(set(sample.atoms.symbols)):
        mine, theirs = sample.basis[symbol], basis[symbol]
        both = mine.has_radial and theirs.has_radial
        if mine.shells != theirs.shells or (
            both and sample.basis.subset([symbol]) != basis.subset([symbol])
        ):
            raise DFTReadError(
                f"{folder} does not belong to its run: its {theirs.label} orbitals of {symbol} "
                f"are not the run's {mine.label}"
            )
