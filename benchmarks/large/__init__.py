"""Bands of large systems near the Fermi level, with time and memory of every stage."""
