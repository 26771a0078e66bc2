"""The pseudopotentials of a calculation, found and read, in the basis of its sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft.format import Format
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.textfiles import find_in


def with_potentials(
    sample: Sample, found: Format, folder: Path, pseudopotentials: str | Path | None
) -> Sample:
    """The sample with the potentials of its species in its basis.

    Parameters
    ----------
    sample
        As read from ``folder``.
    found
        The folder's format.
    folder
        Of the calculation.
    pseudopotentials
        Where the files must be; by default where the calculation says, if they are there.

    Raises
    ------
    DFTReadError, UnsupportedRunError
        If a file has other valence electrons than the calculation; or, of a folder that was given,
        if a file is not there or cannot be used.

    Warns
    -----
    UserWarning
        If a file that was found cannot be used.
    """
    if found.pseudopotentials is None:
        if pseudopotentials is None:
            return sample
        raise DFTReadError(
            f"{folder}: files of {found.name} do not say which pseudopotentials were used, so that "
            "none can be taken from a folder"
        )
    files = found.pseudopotentials(folder)
    folders = files.folders if pseudopotentials is None else (Path(pseudopotentials),)
    given = pseudopotentials is not None
    read: dict[str, AtomicPotential] = {}
    for symbol in sorted({symbol for symbol, _ in files.names}):
        names = [name for of, name in files.names if of == symbol]
        try:
            potential = _read(symbol, names, folders, files.read, must_exist=given)
        except DFTReadError as error:
            if given:
                raise
            warnings.warn(f"no pseudopotential of {symbol}: {error}", stacklevel=3)
        else:
            read |= {} if potential is None else {symbol: potential}
    return replace(sample, basis=_joined(sample.basis, read, folder)) if read else sample


def _read(
    symbol: str,
    names: list[str],
    folders: tuple[Path, ...],
    read: Callable[[Path, str], AtomicPotential],
    *,
    must_exist: bool,
) -> AtomicPotential | None:
    """What all types of an element have in common; None if a file is not there."""
    potentials: list[AtomicPotential] = []
    for name in names:
        path = find_in(folders, name)
        if path is None:
            if must_exist:
                raise DFTReadError(f"pseudopotential {name} of {symbol} is not in {folders[0]}")
            return None
        potential = read(path, symbol)
        # the basis knows elements, not types such as Fe1 and Fe2
        if potentials and not potential.agrees_with(potentials[0]):
            raise UnsupportedRunError(f"atoms of {symbol} have different pseudopotentials: {names}")
        potentials.append(potential)
    return potentials[0]


def _joined(basis: OrbitalBasis, read: dict[str, AtomicPotential], folder: Path) -> OrbitalBasis:
    species = []
    for one in basis.species:
        potential = read.get(one.symbol)
        if potential is not None and potential.n_valence != one.n_valence:
            raise DFTReadError(
                f"{folder} has {one.symbol} with {one.n_valence:g} valence electrons, but its "
                f"pseudopotential ({potential.source}) has {potential.n_valence:g}: it is not the "
                "run's; give the folder of the right ones (pseudopotentials)"
            )
        species.append(replace(one, potential=potential))
    return OrbitalBasis(tuple(species))
