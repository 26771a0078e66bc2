"""ABACUS's numerical orbitals: .orb files, and the basis of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dft.abacus.input import Settings
from hotham_ase.dft.abacus.stru import Structure
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import find_in, read_text

_LARGEST_ORB = 64 * 2**20  # bytes of an orbital file
_LARGEST_VALUE = 1e6  # of a radial function, Bohr^(-3/2)


def read_basis(
    settings: Settings,
    structure: Structure,
    n_valence: Mapping[str, float],
    orbitals: str | Path | None = None,
) -> OrbitalBasis:
    """Read the orbitals of a run, wherever its files may lie.

    Parameters
    ----------
    settings, structure
        Of the run.
    n_valence
        Valence electrons by the label of the atom type.
    orbitals
        Where the files must be; by default where INPUT says, or near the run.

    Raises
    ------
    DFTReadError
        If a file is not found, damaged, or for another element; or an electron number is missing.
    UnsupportedRunError
        If two types of one element have different orbitals.
    """
    folder = settings.folder
    places = settings.places("orbital_dir") if orbitals is None else [Path(orbitals)]
    species: dict[str, SpeciesBasis] = {}
    for label, symbol, name in structure.species:
        path = find_in(places, name)
        if path is None:
            raise DFTReadError(
                f"orbital file {name} of {label} was not found in "
                + (
                    f"{places[0]}, {folder} or an orbitals/ folder above it"
                    if orbitals is None
                    else str(orbitals)
                )
            )
        if label not in n_valence:
            raise DFTReadError(f"running_scf.log of {folder} has no electron number of {label}")
        found = read_orb(path, n_valence[label])
        if found.symbol != symbol:
            raise DFTReadError(f"{path} is for {found.symbol}, STRU uses it for {label}")
        # the basis knows elements, not types such as Fe1 and Fe2
        if symbol in species and OrbitalBasis((found,)) != OrbitalBasis((species[symbol],)):
            raise UnsupportedRunError(f"{folder} uses different orbitals for atoms of {symbol}")
        species[symbol] = found
    return OrbitalBasis(tuple(species.values()))


def read_orb_files(files: Iterable[str | Path], n_valence: Mapping[str, float]) -> OrbitalBasis:
    """Read the basis of several ``.orb`` files, one for each element; see :func:`read_orb`."""
    return OrbitalBasis(tuple(read_orb(path, n_valence) for path in files))


def read_orb(path: str | Path, n_valence: Mapping[str, float] | float) -> SpeciesBasis:
    """Read one ABACUS ``.orb`` file and normalise its functions, as ABACUS does on reading.

    Parameters
    ----------
    path
        The file: a header, ``Mesh`` and ``dr`` in Bohr, then one block of values per shell.
    n_valence
        Valence electrons, as a number or by chemical symbol: they are the pseudopotential's, and
        not in the file.

    Raises
    ------
    DFTReadError
        If the file cannot be read, is not of this format or is cut short, or n_valence lacks the
        element.
    """
    path = Path(path)
    words = read_text(path, _LARGEST_ORB).split()
    try:
        symbol, step, blocks = _parse_orb(words)
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} is not a complete ABACUS .orb file: {error}") from error
    if isinstance(n_valence, Mapping):
        if symbol not in n_valence:
            raise DFTReadError(f"n_valence lacks {symbol}, which {path} describes")
        n_valence = n_valence[symbol]
    # a file may give p before s; within one l the order is the order of the orbitals in H
    blocks.sort(key=lambda block: block[0])
    radial = np.array([values for _, values in blocks])
    mesh = step * np.arange(radial.shape[1])  # Bohr
    norms = np.sqrt(simpson(mesh**2 * radial**2, x=mesh))
    if not (norms > 0).all():
        raise DFTReadError(f"{path} has a radial function that is zero or not a number")
    try:
        return SpeciesBasis(
            symbol=symbol,
            shells=tuple(l for l, _ in blocks),
            cutoffs=(mesh[-1] * Bohr,) * len(blocks),
            n_valence=float(n_valence),
            grid=mesh * Bohr,
            radial=radial / norms[:, None] / Bohr**1.5,
        )
    except BasisError as error:
        raise DFTReadError(f"{path} does not describe a basis: {error}") from error


def _parse_orb(tokens: list[str]) -> tuple[str, float, list[tuple[int, np.ndarray]]]:
    """Element, mesh step in Bohr, and (l, values) of the functions that an .orb file declares.

    As in ABACUS, functions that follow but are not declared in the header are not part of the
    basis.
    """
    symbol = tokens[tokens.index("Element") + 1]
    n_mesh = int(tokens[tokens.index("Mesh") + 1])
    step = float(tokens[tokens.index("dr") + 1])
    if not 0 < step < np.inf:
        raise ValueError(f"dr must be a positive length, got {step}")
    functions: dict[tuple[int, int], np.ndarray] = {}
    for head in (k for k, token in enumerate(tokens) if token == "Type"):
        l, n = int(tokens[head + 4]), int(tokens[head + 5])
        values = np.array(tokens[head + 6 : head + 6 + n_mesh], dtype=float)
        if len(values) != n_mesh:
            raise ValueError(f"a function has {len(values)} of {n_mesh} values")
        if not (np.abs(values) < _LARGEST_VALUE).all():
            raise ValueError(f"function {n} of l = {l} has values that cannot be")
        if (l, n) in functions:
            raise ValueError(f"function {n} of l = {l} comes twice")
        functions[l, n] = values
    # "Number of Sorbital--> 2", "Number of Porbital--> 2", …
    declared = {
        "SPDFGHI".index(token[0]): int(tokens[k + 1])
        for k, token in enumerate(tokens)
        if token[1:] == "orbital-->" and token[0] in "SPDFGHI"
    }
    wanted = [(l, n) for l, count in declared.items() for n in range(count)] or list(functions)
    missing = [key for key in wanted if key not in functions]
    if missing or not wanted:
        raise ValueError(f"it has {len(wanted) - len(missing)} of {len(wanted)} functions")
    return symbol, step, [(l, functions[l, n]) for l, n in wanted]
