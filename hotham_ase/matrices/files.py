"""Files of real-space matrices (HDF5)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.hdf5 import (
    HDF5Error,
    map_array,
    open_hdf5,
    read_array,
    read_attribute,
    reserve,
    write_hdf5,
)
from hotham_ase.matrices.layout import MatrixError
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from hotham_ase.matrices.realspace import RealSpaceMatrix

# kind and shape of each array of the pair list
PAIRS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "numbers": ("i", (None,)),
    "positions": ("f", (None, 3)),
    "cell": ("f", (3, 3)),
    "pbc": ("b", (3,)),
    "edge_index": ("i", (2, None)),
    "cell_shifts": ("i", (None, 3)),
}
SPINOR_COMPONENTS = "1, x, y, z"  # files without this word have uu, ud, du, dd


def write_matrix(matrix: RealSpaceMatrix, path: str | Path) -> None:
    """Write to an HDF5 file, whole or not at all."""
    with write_hdf5(path) as file:
        reserve(file, matrix.values.nbytes + 64 * matrix.pairs.n_edges)
        file.attrs["spin"] = matrix.spin.value
        file.attrs["name"] = matrix.name
        if matrix.spin.is_spinor:
            file.attrs["components"] = SPINOR_COMPONENTS
        file["n_orbitals"] = matrix.n_orbitals
        file["values"] = matrix.values
        for key in PAIRS:
            file[f"pairs/{key}"] = getattr(matrix.pairs, key)


def read_matrix(
    path: str | Path, *, mapped: bool = False
) -> tuple[PairList, np.ndarray, np.ndarray, Spin, str]:
    """What :func:`write_matrix` wrote: the arguments of :class:`RealSpaceMatrix`.

    Parameters
    ----------
    path
        The file.
    mapped
        Whether the values are a memory map of it.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be opened.
    MatrixError
        If it is not one of ours.
    """
    try:
        with open_hdf5(path) as file:
            spin = Spin(read_attribute(file, "spin", "s"))
            # the same numbers mean something else in components up and down than in Pauli's
            if spin.is_spinor and file.attrs.get("components") != SPINOR_COMPONENTS:
                raise MatrixError(
                    f"its {spin.value} matrix has the components uu, ud, du, dd of an earlier "
                    f"version instead of {SPINOR_COMPONENTS}; write it again"
                )
            return (
                PairList(*(read_array(file, f"pairs/{k}", *kind) for k, kind in PAIRS.items())),
                read_array(file, "n_orbitals", "i", (None,)),
                (map_array if mapped else read_array)(file, "values", "fc", (None, None)),
                spin,
                read_attribute(file, "name", "s"),
            )
    except (HDF5Error, ValueError) as error:
        raise MatrixError(f"{path} is not a file of RealSpaceMatrix.save: {error}") from error
