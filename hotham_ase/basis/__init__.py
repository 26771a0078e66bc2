"""Orbitals of every species, the conventions of codes, and harmonics."""
