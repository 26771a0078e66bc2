"""OpenMX: its ``.scfout`` with the input inside, and the ``.pao`` files of its orbitals."""
