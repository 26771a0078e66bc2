"""CP2K: matrices of ``KS_CSR_WRITE`` and ``S_CSR_WRITE``, its input, output and basis files."""
