"""GPAW's calculations with local orbitals."""
