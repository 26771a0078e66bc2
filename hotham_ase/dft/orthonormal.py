"""Löwdin's orbitals of a sample, and their order, for tools that know no overlap."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.dft.sample import ExportError, Sample
from hotham_ase.electronic.lowdin import OrthogonalMatrices, orthogonalized

if TYPE_CHECKING:
    from hotham_ase.overlap import PositionMatrix

ERROR = 1e-3  # eV, of levels between the points of the mesh, if no other is asked for


def orthonormal(
    sample: Sample, error: float, position: PositionMatrix | None = None
) -> OrthogonalMatrices:
    """H̃(R) of a sample, and r̃(R) if its r(R) is given.

    Parameters
    ----------
    sample, position
        As for :func:`hotham_ase.electronic.lowdin.orthogonalized`.
    error
        eV; what levels may be off. Ten times less needs a mesh some Å longer.

    Raises
    ------
    OrthogonalizationError
        If S is not positive definite.

    Warns
    -----
    UserWarning
        If no mesh that fits makes the error as small.
    """
    found = orthogonalized(sample.hamiltonian, sample.overlap, error=error, position=position)
    if found.error > error:
        warnings.warn(
            f"levels of {sample.name} are off by up to {found.error:.2g} eV between Löwdin's "
            f"orbitals, more than {error:.2g} eV: no larger mesh fits",
            stacklevel=3,
        )
    return found


def spin_fastest(sample: Sample) -> np.ndarray:
    """(n_rows,) our row of each function: of spinors we have all of spin up first."""
    n = sample.hamiltonian.n_basis
    n_spins = 2 if sample.hamiltonian.spin.is_spinor else 1
    return np.arange(n * n_spins).reshape(n_spins, n).T.ravel()


def tool(name: str, use: str, package: str) -> Any:
    """A module of another tool, imported where it is used.

    Parameters
    ----------
    name
        Of the module.
    use
        What it is needed for, for the message.
    package
        How it is installed.

    Raises
    ------
    ExportError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} is needed for {use}: {package}") from error
