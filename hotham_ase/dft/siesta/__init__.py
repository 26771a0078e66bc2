"""SIESTA: ``.HSX``, ``.TSHS`` and ``.nc`` matrices, ``.ion`` files of orbitals and projectors."""
