"""SIESTA: ``.HSX`` and ``.TSHS`` matrices, ``.ion`` files of orbitals and projectors."""
