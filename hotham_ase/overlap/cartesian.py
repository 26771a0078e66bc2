"""Results with three Cartesian components on the blocks of an overlap matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

SYMMETRY_TOLERANCE = 1e-6  # absolute, in Å or 1/Å, the overlap of normalised orbitals being <= 1


@dataclass(frozen=True, eq=False)
class _CartesianBlocks:
    """Blocks (3, n_orb_i, n_orb_j) in the layout of an overlap matrix's values."""

    overlap: RealSpaceMatrix
    values: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=float).view()
        expected = (3, self.overlap.layout.n_values)
        if values.shape != expected:
            raise MatrixError(
                f"values must have shape (3, n_values) = {expected}, got {values.shape}"
            )
        if not np.isfinite(values).all():
            raise MatrixError("values must be finite numbers")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def pairs(self) -> PairList:
        """The directed pairs, those of ``overlap``."""
        return self.overlap.pairs

    def onsite_block(self, atom: int) -> np.ndarray:
        """(3, n_orb, n_orb) block of one atom."""
        return self.overlap.layout.block(self.values, range(self.pairs.n_atoms)[atom])

    def hopping_block(self, edge: int) -> np.ndarray:
        """(3, n_orb_i, n_orb_j) block of one pair."""
        block = self.pairs.n_atoms + range(self.pairs.n_edges)[edge]
        return self.overlap.layout.block(self.values, block)

    def _check(self, residuals: Iterable[np.ndarray], rule: str) -> None:
        error = max(float(np.abs(residual).max(initial=0.0)) for residual in residuals)
        if error > SYMMETRY_TOLERANCE:
            raise MatrixError(f"values must obey {rule}, but differ from it by {error:.3g}")


@dataclass(frozen=True, eq=False)
class PositionMatrix(_CartesianBlocks):
    """The position operator r_ij(R) = ⟨φ_i, cell 0 | r | φ_j, cell R⟩ in Å.

    r is measured from the origin of the coordinates in which ``overlap.pairs.positions`` are
    given, for bra atoms where these positions put them: moving all atoms by d adds d S. Position
    is not translation invariant, so this is no :class:`~hotham_ase.matrices.RealSpaceMatrix`:
    the reverse block is

        r_ji(−R) = r_ij(R)ᵀ − R S_ij(R)ᵀ,

    which is checked at construction; never symmetrise r(R) like a Hamiltonian. In the lattice
    gauge r(k) = Σ_R exp(+2πi k·R) r(R), of which the Hermitian conjugate is
    r(k)† = r(k) + i ∂S(k)/∂k.

    Parameters
    ----------
    overlap
        S on the same pairs.
    values : (3, n_values) Å
        x, y, z of every element, in the layout of ``overlap.values``.

    Raises
    ------
    MatrixError
        If the shape is wrong, a value is not finite or the symmetry does not hold.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        s = self.overlap
        lattice = s.layout.shifts @ s.pairs.cell  # (n_blocks, 3) Å
        # one component at a time: three of everything would be much memory
        residuals = (
            r - s.layout.mirror(r) - np.repeat(shift, s.layout.sizes) * s.single
            for r, shift in zip(self.values, lattice.T, strict=True)
        )
        self._check(residuals, "r_ij(R) = r_ji(−R)ᵀ + R S_ij(R)")


@dataclass(frozen=True, eq=False)
class OverlapGradient(_CartesianBlocks):
    """Derivative dS_ij(R)/dr_j of the overlap with respect to the ket's position, in 1/Å.

    The derivative with respect to the bra's position is its negative, and ⟨φ_i|∇|φ_j⟩ too. Where
    a pair links an atom to its own image, or onsite, it is the derivative as if bra and ket were
    moved separately. dS_ji(−R) = −dS_ij(R)ᵀ, checked at construction.

    Parameters
    ----------
    overlap
        S on the same pairs.
    values : (3, n_values) 1/Å
        x, y, z of every element, in the layout of ``overlap.values``.

    Raises
    ------
    MatrixError
        If the shape is wrong, a value is not finite or the symmetry does not hold.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        mirror = self.overlap.layout.mirror
        residuals = (gradient + mirror(gradient) for gradient in self.values)
        self._check(residuals, "dS_ji(−R) = −dS_ij(R)ᵀ")
