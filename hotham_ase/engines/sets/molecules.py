"""A molecule with its dense Fock matrix in def2-SVP, and the sample that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Hartree
from scipy.linalg import eigh

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.plausibility import check_sample
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import DFTReadError, Sample
from hotham_ase.dft.short_ranged import in_our_order, short_ranged
from hotham_ase.engines.gaussians import orbital_basis
from hotham_ase.engines.levels import MOLECULAR_WIDTH, fermi_level, largest_error
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import overlap_matrix

BASIS = "def2-svp"
ELEMENTS = (1, 6, 7, 8, 9)
ORDERS = ("orca", "pyscf", "wiki")  # in which sets may have their orbitals
MOST_ATOMS = 200
LARGEST = 100.0  # Å, of coordinates
LARGEST_FOCK = 1e3  # Ha; 1s of F has −25
SYMMETRIC = 1e-6  # relative to the largest element; sets of single precision have 1e-7
OVERLAP_ERROR = 1e-4  # S of other orbitals, or in another order, is far beyond it
# −ε/Z² in Ha of the lowest level: 1/2 without other electrons, 0.28 of C, 0.29 of O; in another
# unit at least twice as much
LEAST_DEPTH, LARGEST_DEPTH = 0.15, 0.5
# of the likeness to H of an estimate from S: of 18 small molecules it is 0.66 to 0.89 in the right
# order, and less by 0.2 at least in the others
UNLIKE = 0.1


@dataclass(frozen=True, eq=False)
class Molecule:
    """What a set knows of one molecule, as it has it.

    Attributes
    ----------
    name
        Of the sample.
    atoms : ase.Atoms
        See :func:`make_atoms`.
    fock : (n_basis, n_basis) Ha
        Orbitals atom by atom.
    overlap : (n_basis, n_basis) or None
        Which tells their order; None where that is PySCF's.
    code, xc, scf_converged, extra
        For the provenance.
    """

    name: str
    atoms: Atoms
    fock: np.ndarray = field(repr=False)
    overlap: np.ndarray | None = field(repr=False)
    code: str | None = None
    xc: str | None = None
    scf_converged: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@cache
def set_basis() -> OrbitalBasis:
    """The orbitals of all elements that sets have; EngineError without PySCF."""
    return orbital_basis([chemical_symbols[z] for z in ELEMENTS], BASIS, None)


def make_atoms(numbers: np.ndarray, positions: np.ndarray) -> Atoms:
    """A molecule of these elements, if it can be one.

    Parameters
    ----------
    numbers : (n_atoms,)
    positions : (n_atoms, 3) Å

    Raises
    ------
    ValueError
        For other elements, and atoms that are too many, too far away or on top of each other.
    """
    if not 1 <= len(numbers) <= MOST_ATOMS:
        raise ValueError(f"molecules have up to {MOST_ATOMS} atoms, got {len(numbers)}")
    if not np.isin(numbers, ELEMENTS).all():
        raise ValueError("atoms must be of H, C, N, O and F")
    if not (np.abs(positions) < LARGEST).all():
        raise ValueError(f"coordinates must be below {LARGEST:g} Å")
    atoms = Atoms(numbers, positions=positions)
    PairList.from_atoms(atoms, 1.0).check_distances()
    return atoms


def sample_of(molecule: Molecule) -> Sample:
    """A molecule's sample, with S computed from the basis.

    H of atoms so far apart that their orbitals do not overlap is left out;
    ``provenance.extra["largest_level_error_meV"]`` says what that changes.

    Raises
    ------
    DFTReadError, ValueError, LinAlgError
        If its matrices are not those of its atoms in def2-SVP.
    """
    atoms = molecule.atoms
    basis = set_basis().subset(sorted({*atoms.symbols}))
    n_basis = int(basis.n_orbitals(atoms.numbers).sum())
    overlap = overlap_matrix(atoms, basis)
    gamma, n_electrons = np.zeros((1, 3)), basis.n_electrons(atoms.numbers)
    s = overlap.at_k(gamma[0], format="dense")
    fock = _symmetric(molecule.fock, n_basis, "the Fock matrix")
    order, extra = "pyscf", {"basis": BASIS, **molecule.extra}
    if molecule.overlap is None:
        _check_order(fock, s, atoms, basis)
    else:
        given = _symmetric(molecule.overlap, n_basis, "the overlap matrix")
        order, extra["largest_overlap_error"] = _order_of(given, s, atoms, basis)
    fock = in_our_order(Hartree * fock[None], atoms, basis, order)
    levels = eigh(fock[0], s, eigvals_only=True)[None]
    _check_unit(levels.min() / Hartree, atoms)
    hamiltonian = short_ranged(fock[None], (1, 1, 1), atoms, basis, name="hamiltonian")
    fermi = fermi_level(levels, n_electrons, MOLECULAR_WIDTH)
    error = largest_error(hamiltonian, overlap, gamma, levels, fermi)
    provenance = Provenance(
        name=molecule.name,
        code=molecule.code,
        xc=molecule.xc,
        scf_converged=molecule.scf_converged,
        overlap="computed",
        n_valence="given",
        extra={**extra, "largest_level_error_meV": 1e3 * error},
    )
    sample = Sample(atoms, basis, hamiltonian, overlap, fermi, n_electrons, provenance)
    check_sample(sample)
    return sample


def _symmetric(matrix: np.ndarray, n_basis: int, name: str) -> np.ndarray:
    """Exactly symmetric, if it is so but for rounding."""
    if matrix.shape != (n_basis, n_basis):
        raise ValueError(
            f"{name} must have the {n_basis} orbitals of {BASIS}, got shape {matrix.shape}"
        )
    matrix = matrix.astype(float)
    largest = np.abs(matrix).max()
    if not (
        largest < LARGEST_FOCK and np.abs(matrix - matrix.T).max(initial=0) <= SYMMETRIC * largest
    ):
        raise ValueError(f"{name} is not symmetric")
    return (matrix + matrix.T) / 2


def _order_of(
    given: np.ndarray, overlap: np.ndarray, atoms: Atoms, basis: OrbitalBasis
) -> tuple[str, float]:
    """In which of the known orders S is that of the atoms, and how nearly."""
    errors = {
        order: float(np.abs(in_our_order(given, atoms, basis, order) - overlap).max())
        for order in ORDERS
    }
    best = min(errors, key=lambda order: errors[order])
    if errors[best] > OVERLAP_ERROR:
        raise DFTReadError(
            f"its overlap matrix differs by {errors[best]:.2g} from that of {BASIS}: it is of "
            "other orbitals, in an unknown order, or of atoms elsewhere"
        )
    return best, errors[best]


def _check_order(fock: np.ndarray, overlap: np.ndarray, atoms: Atoms, basis: OrbitalBasis) -> None:
    """Hoppings are nearly (H_ii + H_jj) S_ij times a number, as Wolfsberg and Helmholz had it."""
    atom_of = np.repeat(np.arange(len(atoms)), basis.n_orbitals(atoms.numbers))
    hopping = atom_of[:, None] != atom_of
    likeness = {}
    for order in ORDERS:
        h = in_our_order(fock, atoms, basis, order)
        estimate = ((np.diag(h)[:, None] + np.diag(h)) * overlap)[hopping]
        sizes = np.linalg.norm(h[hopping]) * np.linalg.norm(estimate)
        likeness[order] = (h[hopping] @ estimate) / sizes if sizes else 0.0
    best = max(likeness, key=lambda order: likeness[order])
    if likeness["pyscf"] < likeness[best] - UNLIKE:
        raise DFTReadError(
            f"its orbitals are not in the order of PySCF, as they should be, but rather of {best}"
        )


def _check_unit(lowest: float, atoms: Atoms) -> None:
    """1s levels of known energy tell the unit of H."""
    depth = -lowest / max(atoms.numbers) ** 2
    if not LEAST_DEPTH < depth < LARGEST_DEPTH:
        raise DFTReadError(
            f"the lowest level is {lowest:.3g} Ha, which no molecule of these atoms has: H is in "
            "another unit, or of another molecule"
        )
