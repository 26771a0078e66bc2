"""FHI-aims's input: ``geometry.in`` and what of ``control.in`` bears on the matrices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError, damage_refused
from hotham_ase.dft.textfiles import read_text

GEOMETRY, CONTROL = "geometry.in", "control.in"
# what makes H another one than that of these atoms and their electrons
_CHANGE_H = ("empty", "homogeneous_field", "multipole", "pseudocore")
_LARGEST = 1e6  # Å; beyond, positions have too few digits left


@dataclass(frozen=True)
class Species:
    """What ``control.in`` says of a species.

    Attributes
    ----------
    symbol
        Of the element with its nuclear charge.
    reach : float or None
        Å, where its orbitals end; None if it is not said.
    """

    symbol: str
    reach: float | None


@dataclass(frozen=True)
class Control:
    """What ``control.in`` says; nothing where the file is not there.

    Attributes
    ----------
    species
        By label.
    xc
        The functional.
    charge
        Of the whole structure.
    """

    species: dict[str, Species]
    xc: str | None = None
    charge: float = 0.0


def _rows(path: Path) -> list[list[str]]:
    rows = [line.partition("#")[0].split() for line in read_text(path).splitlines()]
    return [row for row in rows if row]


def read_control(path: Path) -> Control:
    """Read ``control.in``.

    Raises
    ------
    DFTReadError
        If what bears on the matrices is not understood.
    UnsupportedRunError
        For runs with spin-orbit coupling, which the matrices lack, or of several structures.
    """
    if not path.is_file():
        return Control({})
    rows = _rows(path)
    starts = [k for k, row in enumerate(rows) if row[0] == "species"]
    general = {row[0].lower(): row[1:] for row in rows[: starts[0] if starts else None]}
    if "include_spin_orbit" in general:
        raise UnsupportedRunError(
            f"{path} has include_spin_orbit, which comes after the matrices that are written: "
            "Fermi level and levels are not those of H"
        )
    if general.get("relax_geometry", ["none"])[:1] != ["none"] or "md_run" in general:
        raise UnsupportedRunError(f"{path} moves the atoms: run a single point of the last ones")
    with damage_refused(str(path)):
        species = {}
        for a, b in zip(starts, [*starts[1:], len(rows)], strict=True):
            label, own = rows[a][1], {row[0].lower(): row[1:] for row in rows[a + 1 : b]}
            charge = float(own["nucleus"][0]) if "nucleus" in own else 0.0
            if charge not in range(1, len(chemical_symbols)):
                raise UnsupportedRunError(f"{path}: species {label} is of no element")
            onset, width = own.get("cut_pot", ["nan", "nan"])[:2]
            reach = float(onset) + float(width)
            species[label] = Species(chemical_symbols[int(charge)], reach if reach > 0 else None)
        charge = float(general.get("charge", ["0"])[0])
        xc = " ".join(general["xc"]) if "xc" in general else None
    return Control(species, xc, charge)


def read_geometry(path: Path, control: Control) -> Atoms:
    """Read ``geometry.in``; initial moments are kept.

    Raises
    ------
    DFTReadError
        If it has no atoms, or what is not understood.
    UnsupportedRunError
        For external fields and atoms that are none.
    """
    cell, places, fractional, symbols, moments = [], [], [], [], []
    with damage_refused(str(path)):
        for word, *rest in _rows(path):
            if word in _CHANGE_H:
                raise UnsupportedRunError(f"{path} has {word}: not supported")
            if word == "lattice_vector":
                cell.append([float(x) for x in rest[:3]])
            elif word in ("atom", "atom_frac"):
                places.append([float(x) for x in rest[:3]])
                fractional.append(word == "atom_frac")
                symbols.append(_symbol(rest[3], control, path))
                moments.append(0.0)
            elif word == "initial_moment":
                moments[-1] = float(rest[0])
        vectors = np.array(cell or np.zeros((0, 3)))
        positions = np.array(places).reshape(-1, 3)
        if vectors.shape not in ((0, 3), (3, 3)) or not len(positions):
            raise DFTReadError(f"{path} must have atoms, and three lattice vectors or none")
        if not (np.abs(np.concatenate([vectors, positions])) < _LARGEST).all():
            raise DFTReadError(f"{path} has coordinates that cannot be")
        if len(vectors) and np.linalg.matrix_rank(vectors) < 3:
            raise DFTReadError(f"{path} has lattice vectors that are not independent")
        if any(fractional):
            if not len(vectors):
                raise DFTReadError(f"{path} has atom_frac, but no lattice vectors")
            positions[fractional] = positions[fractional] @ vectors
    atoms = Atoms(symbols, positions=positions)
    if len(vectors):
        atoms.set_cell(vectors)
        atoms.pbc = True
    if any(moments):
        atoms.set_initial_magnetic_moments(moments)
    return atoms


def _symbol(label: str, control: Control, path: Path) -> str:
    if label in control.species:
        return control.species[label].symbol
    if control.species or label not in atomic_numbers or label == "X":
        raise DFTReadError(f"{path}: nothing says which element {label} is")
    return label
