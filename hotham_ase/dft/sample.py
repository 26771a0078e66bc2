"""Sample: one structure with its Hamiltonian, overlap and origin, whatever code it came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.dft.provenance import Provenance
from hotham_ase.errors import HothamError
from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.basis.orbitals import OrbitalBasis


class DFTReadError(HothamError, ValueError):
    """A folder or file of another code that cannot be read; the message says why."""


class UnsupportedRunError(DFTReadError):
    """A valid calculation of a kind that is not supported yet."""


@contextmanager
def damage_refused(name: str) -> Iterator[None]:
    """Whatever a parser stumbles over within becomes a DFTReadError that names the file."""
    try:
        yield
    except DFTReadError:
        raise
    except (ValueError, IndexError, OverflowError) as error:
        raise DFTReadError(f"{name} is damaged or cut short: {error}") from error


class ExportError(HothamError, ValueError):
    """A sample that a format has no place for; the message says why."""


class SampleError(HothamError, ValueError):
    """The parts of a sample do not belong together."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure and the matrices that a calculation found for it.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure; a copy, without calculator. Its initial magnetic moments are those that the
        calculation began with.
    basis : OrbitalBasis
        Orbitals of at least the species present.
    hamiltonian : RealSpaceMatrix
        H in eV.
    overlap : RealSpaceMatrix
        S, the same for both spins; its pairs may be fewer than those of H.
    fermi_level : float or None
        eV, on the energy scale of H; None if not known.
    n_electrons : float
        Valence electrons in the cell.
    provenance : Provenance
        Where the data come from. Readers set ``name``, ``code`` and ``overlap``, and what else
        they know.
    initial_hamiltonian : RealSpaceMatrix or None
        H0 in eV, with the zero of energy of H: what the code builds before the first update of the
        density, for example H of the superposed densities of the atoms. None if not known.

    Raises
    ------
    SampleError
        If atoms, matrices and basis disagree.
    """

    atoms: Atoms
    basis: OrbitalBasis
    hamiltonian: RealSpaceMatrix = field(repr=False)
    overlap: RealSpaceMatrix = field(repr=False)
    fermi_level: float | None
    n_electrons: float
    provenance: Provenance = field(default_factory=Provenance, repr=False)
    initial_hamiltonian: RealSpaceMatrix | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        atoms = self.atoms.copy()
        object.__setattr__(self, "atoms", atoms)
        expected = self.basis.n_orbitals(atoms.numbers)
        try:
            for label in ("hamiltonian", "overlap", "initial_hamiltonian"):
                matrix = getattr(self, label)
                if matrix is not None:
                    matrix.check_belongs(atoms, expected, label)
        except MatrixError as error:
            raise SampleError(str(error)) from error
        if self.overlap.spin is not Spin.UNPOLARIZED:
            kind = self.overlap.spin.value
            raise SampleError(f"overlap must be unpolarized, the same for both spins, got {kind}")
        # H - H0 is learned element by element
        initial = self.initial_hamiltonian
        if initial is not None and initial.spin != self.hamiltonian.spin:
            raise SampleError(
                f"initial_hamiltonian must be {self.hamiltonian.spin.value} like hamiltonian, "
                f"got {initial.spin.value}"
            )
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
        if not isinstance(self.provenance, Provenance):
            kind = type(self.provenance).__name__
            raise SampleError(f"provenance must be a Provenance, got {kind}")

    @property
    def name(self) -> str:
        """A short name for messages: the provenance's, else the chemical formula."""
        return self.provenance.name or str(self.atoms.get_chemical_formula())
