"""Stand-in."""

from hotham_ase.electronic.solvers.problem import EigenError


class FactorError(EigenError):
    """A matrix that has no accurate factorization."""
