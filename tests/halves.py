"""Halves of Hermitian matrices."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csr_array

from hotham_ase.matrices.hermitian import HermitianMatrix


def half(matrix) -> HermitianMatrix:
    """The upper half of a dense or sparse matrix, with all of its diagonal."""
    full = csr_array(matrix)
    diagonal = full.diagonal()
    upper = csr_array(sp.triu(full + sp.diags_array(np.where(diagonal == 0, 1.0, 0.0))))
    upper.setdiag(diagonal.real)
    upper.sort_indices()
    return HermitianMatrix(upper)
