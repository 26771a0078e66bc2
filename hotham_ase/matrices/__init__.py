"""Matrices in real space and at k-points; numpy and scipy only."""

from hotham_ase.matrices.realspace import MatrixError, RealSpaceMatrix, SpinKind

__all__ = ["MatrixError", "RealSpaceMatrix", "SpinKind"]
