"""Eigenvalues of H(k) and S(k): dense and shift-invert solvers behind one policy."""
