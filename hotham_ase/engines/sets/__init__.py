"""Published sets of molecules: files of many small H, read with PySCF's orbitals."""

from hotham_ase.engines.sets.databases import FORMATS, MoleculeSet, open_set

__all__ = ["FORMATS", "MoleculeSet", "open_set"]
