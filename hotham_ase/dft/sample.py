"""Sample: one structure with its Hamiltonian, overlap and origin, whatever code it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.matrices.realspace import RealSpaceMatrix
    from hotham_ase.orbitals import OrbitalBasis


class DFTReadError(ValueError):
    """A folder or file of another code that cannot be read; the message says why."""


class UnsupportedRunError(DFTReadError):
    """A valid calculation of a kind that is not supported yet."""


class SampleError(ValueError):
    """The parts of a sample do not belong together."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure and the matrices that a calculation found for it.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure; a copy, without calculator.
    basis : OrbitalBasis
        Orbitals of at least the species present.
    hamiltonian : RealSpaceMatrix
        H in eV.
    overlap : RealSpaceMatrix
        S; its pairs may be fewer than those of H.
    fermi_level : float or None
        eV, on the energy scale of H; None if not known.
    n_electrons : float
        Valence electrons in the cell.
    provenance : dict
        Where the data come from, JSON-able. Readers set ``name``, ``code`` and ``overlap``
        ("read" or "computed"), and what else they know.

    Raises
    ------
    SampleError
        If atoms, matrices and basis disagree, or the provenance is not JSON-able.
    """

    atoms: Atoms
    basis: OrbitalBasis
    hamiltonian: RealSpaceMatrix = field(repr=False)
    overlap: RealSpaceMatrix = field(repr=False)
    fermi_level: float | None
    n_electrons: float
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        atoms = self.atoms.copy()
        object.__setattr__(self, "atoms", atoms)
        expected = self.basis.n_orbitals(atoms.numbers)
        for label, matrix in (("hamiltonian", self.hamiltonian), ("overlap", self.overlap)):
            _check_matrix(label, matrix, atoms, expected)
        if self.fermi_level is not None:
            object.__setattr__(self, "fermi_level", float(self.fermi_level))
            if not np.isfinite(self.fermi_level):
                raise SampleError(f"fermi_level must be finite or None, got {self.fermi_level}")
        n_electrons = float(self.n_electrons)
        object.__setattr__(self, "n_electrons", n_electrons)
        if not 0 <= n_electrons <= 2 * self.hamiltonian.n_basis:
            raise SampleError(
                f"n_electrons must lie between 0 and twice the {self.hamiltonian.n_basis} "
                f"orbitals, got {n_electrons}"
            )
        try:
            provenance = json.loads(json.dumps(self.provenance, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise SampleError(f"provenance must be JSON-able: {error}") from error
        if not isinstance(provenance, dict):
            raise SampleError(f"provenance must be a dict, got {type(self.provenance).__name__}")
        object.__setattr__(self, "provenance", provenance)

    @property
    def name(self) -> str:
        """A short name for messages: the provenance's, else the chemical formula."""
        return str(self.provenance.get("name") or self.atoms.get_chemical_formula())


def _check_matrix(label: str, matrix: RealSpaceMatrix, atoms: Atoms, expected: np.ndarray) -> None:
    """Refuse a matrix that is not of these atoms and this basis."""
    pairs = matrix.pairs
    if pairs.n_atoms != len(atoms) or not np.array_equal(pairs.numbers, atoms.numbers):
        raise SampleError(
            f"{label} must be of the sample's {len(atoms)} atoms {atoms.symbols}, got a matrix "
            f"of {pairs.n_atoms} atoms or other elements"
        )
    same_place = np.allclose(pairs.positions, atoms.positions, atol=1e-8)
    if not same_place or not np.allclose(pairs.cell, atoms.cell[:], atol=1e-8):
        raise SampleError(f"{label} must have the sample's positions and cell")
    if not np.array_equal(matrix.n_orbitals, expected):
        atom = int(np.flatnonzero(matrix.n_orbitals != expected)[0])
        raise SampleError(
            f"{label} has {matrix.n_orbitals[atom]} orbitals on atom {atom} "
            f"({atoms.symbols[atom]}), where the basis has {expected[atom]}"
        )
