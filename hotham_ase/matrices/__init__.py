"""Matrices in real space and at k-points; numpy and scipy only."""

from hotham_ase.matrices.layout import BlockLayout, MatrixError
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

__all__ = ["BlockLayout", "MatrixError", "RealSpaceMatrix", "Spin"]
