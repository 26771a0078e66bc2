"""Kohn-Sham Hamiltonians of structures in a localized-orbital basis, from an equivariant network.

The names below are imported on first use, so that ``import hotham_ase`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.dataset import Dataset
    from hotham_ase.dft import read_sample
    from hotham_ase.matrices import RealSpaceMatrix
    from hotham_ase.matrices.pairs import PairList
    from hotham_ase.model.model import load_model
    from hotham_ase.model.options import PredictionOptions
    from hotham_ase.overlap import overlap_matrix
    from hotham_ase.structures import build_structure

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "HotHamCalculator",
    "OrbitalBasis",
    "PairList",
    "PredictionOptions",
    "RealSpaceMatrix",
    "__version__",
    "build_structure",
    "load_model",
    "overlap_matrix",
    "read_sample",
]

_MODULES = {
    "Dataset": "dataset",
    "HotHamCalculator": "calculator",
    "OrbitalBasis": "basis.orbitals",
    "PairList": "matrices.pairs",
    "PredictionOptions": "model.options",
    "RealSpaceMatrix": "matrices",
    "build_structure": "structures",
    "load_model": "model.model",
    "overlap_matrix": "overlap",
    "read_sample": "dft",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hotham_ase' has no attribute {name!r}")
    value = getattr(import_module(f"hotham_ase.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
