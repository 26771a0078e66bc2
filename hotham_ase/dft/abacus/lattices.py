"""The lattice vectors that ABACUS's ``latname`` stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# In units of the lattice constant a; b and c stand for b/a and c/a, cosines are of the angles
# between the axes named. ABACUS's manual, "LATTICE_PARAMETERS"; ibrav of Quantum ESPRESSO.
_Rows = Sequence[Sequence[float]]


def _trigonal(cos: float) -> _Rows:
    """A three-fold star around z with the angle between any two vectors given."""
    x, y, z = np.sqrt((1 - cos) / 2), np.sqrt((1 - cos) / 6), np.sqrt((1 + 2 * cos) / 3)
    return [[x, -y, z], [0, 2 * y, z], [-x, -y, z]]


def _triclinic(b: float, c: float, cos_ab: float, cos_ac: float, cos_bc: float) -> _Rows:
    sin_ab = np.sqrt(1 - cos_ab**2)
    y = (cos_bc - cos_ac * cos_ab) / sin_ab
    return [
        [1, 0, 0],
        [b * cos_ab, b * sin_ab, 0],
        [c * cos_ac, c * y, c * np.sqrt(1 - cos_ac**2 - y**2)],
    ]


def _oblique(b: float, cos_ab: float) -> list[float]:
    return [b * cos_ab, b * np.sqrt(1 - cos_ab**2), 0]


_LATTICES: dict[str, tuple[int, Callable[..., _Rows]]] = {  # number of parameters, vectors
    "sc": (0, lambda: np.eye(3).tolist()),
    "fcc": (0, lambda: [[-0.5, 0, 0.5], [0, 0.5, 0.5], [-0.5, 0.5, 0]]),
    "bcc": (0, lambda: [[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [-0.5, -0.5, 0.5]]),
    "hexagonal": (1, lambda c: [[1, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [0, 0, c]]),
    "trigonal": (1, _trigonal),
    "st": (1, lambda c: [[1, 0, 0], [0, 1, 0], [0, 0, c]]),
    "bct": (1, lambda c: [[0.5, -0.5, c / 2], [0.5, 0.5, c / 2], [-0.5, -0.5, c / 2]]),
    "so": (2, lambda b, c: [[1, 0, 0], [0, b, 0], [0, 0, c]]),
    "baco": (2, lambda b, c: [[0.5, b / 2, 0], [-0.5, b / 2, 0], [0, 0, c]]),
    "fco": (2, lambda b, c: [[0.5, 0, c / 2], [0.5, b / 2, 0], [0, b / 2, c / 2]]),
    "bco": (
        2,
        lambda b, c: [[0.5, b / 2, c / 2], [-0.5, b / 2, c / 2], [-0.5, -b / 2, c / 2]],
    ),
    "sm": (3, lambda b, c, cos: [[1, 0, 0], _oblique(b, cos), [0, 0, c]]),
    "bacm": (3, lambda b, c, cos: [[0.5, 0, -c / 2], _oblique(b, cos), [0.5, 0, c / 2]]),
    "triclinic": (5, _triclinic),
}


def lattice_vectors(name: str, parameters: Sequence[float]) -> np.ndarray:
    """Lattice vectors of a named lattice in units of its lattice constant.

    Parameters
    ----------
    name
        ABACUS's ``latname``.
    parameters
        What the structure file gives under LATTICE_PARAMETERS.

    Returns
    -------
    (3, 3) array
        One vector per row.

    Raises
    ------
    ValueError
        If the name is not known or the parameters are too few or impossible.
    """
    if name not in _LATTICES:
        raise ValueError(f"latname {name!r} is not one of {list(_LATTICES)}")
    n_parameters, vectors = _LATTICES[name]
    if len(parameters) < n_parameters:
        raise ValueError(
            f"latname {name} needs {n_parameters} numbers under LATTICE_PARAMETERS, got "
            f"{len(parameters)}"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        cell = np.array(vectors(*parameters[:n_parameters]), dtype=float)
    if not np.isfinite(cell).all():
        raise ValueError(f"LATTICE_PARAMETERS {list(parameters)} give no {name} lattice")
    return cell
