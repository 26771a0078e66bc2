"""Operations on Bloch functions of one k: every atom's orbitals go to one other atom's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hotham_ase.electronic.solvers.space_group import Operation

SAME = 1e-9  # difference of phases that rounding makes


@dataclass(frozen=True, eq=False)
class Monomial:
    """c′ of atom p(i) is f(i) D c(i), or of c(i)* where time is reversed.

    Of φ_k(i) = Σ_R exp(ik·R) φ(i, R) an operation makes exp(−ik·n(i)) D φ_k(p(i)) where it leaves k
    as it is, or takes −k there together with time reversal.

    Attributes
    ----------
    rotation : (3, 3) int
        Which tells how orbitals turn, D.
    atoms : (n_atoms,) int
        p.
    phases : (n_atoms,)
        f.
    conjugates
        Whether time is reversed.
    """

    rotation: np.ndarray
    atoms: np.ndarray = field(repr=False)
    phases: np.ndarray = field(repr=False)
    conjugates: bool = False

    @classmethod
    def at(cls, operation: Operation, kpt: np.ndarray, *, conjugates: bool = False) -> Monomial:
        """An operation at k, with time reversal or without."""
        phases = np.exp(-2j * np.pi * (operation.shifts @ kpt))
        return cls(operation.rotation, operation.atoms, phases, conjugates)

    @classmethod
    def identity(cls, n_atoms: int) -> Monomial:
        """What changes nothing."""
        return cls(np.eye(3, dtype=int), np.arange(n_atoms), np.ones(n_atoms, complex))

    def __matmul__(self, first: Monomial) -> Monomial:
        """Another first, then this one."""
        phases = first.phases.conj() if self.conjugates else first.phases
        return Monomial(
            self.rotation @ first.rotation,
            self.atoms[first.atoms],
            self.phases[first.atoms] * phases,
            self.conjugates != first.conjugates,
        )

    def inverse(self) -> Monomial:
        """What undoes it."""
        atoms = np.argsort(self.atoms)
        phases = self.phases[atoms].conj()
        return replace(
            self,
            rotation=np.rint(np.linalg.inv(self.rotation)).astype(int),
            atoms=atoms,
            phases=phases.conj() if self.conjugates else phases,
        )

    def factor(self) -> complex | None:
        """The number that it multiplies every function by; None if it does anything else."""
        is_number = (
            not self.conjugates
            and np.array_equal(self.rotation, np.eye(3))
            and np.array_equal(self.atoms, np.arange(len(self.atoms)))
            and bool((np.abs(self.phases - self.phases[0]) < SAME).all())
        )
        return complex(self.phases[0]) if is_number else None

    def is_same(self, other: Monomial) -> bool:
        """Whether both do the same."""
        factor = (self @ other.inverse()).factor()
        return factor is not None and abs(factor - 1) < SAME
