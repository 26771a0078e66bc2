"""What tests of this package and of programs built on it share."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.structures import build_structure

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.matrices import RealSpaceMatrix

#: Largest difference that rounding may make, relative to the largest value, by precision.
TOLERANCE = MappingProxyType({"float32": 2e-5, "float64": 1e-10})

#: Largest difference of eigenvalues in eV between two exact ways to the same matrix.
EIGENVALUE_TOLERANCE = 1e-8


def reference_structures() -> dict[str, Atoms]:
    """Structures that every function of a structure must cope with, by what is hard in them.

    The atoms are displaced at random, with a fixed seed, so that no symmetry hides a mistake.

    Returns
    -------
    dict of Atoms, all of carbon.

    Examples
    --------
    >>> sorted(reference_structures())
    ['chain', 'crystal', 'far outside', 'layer', 'molecule', 'small cell', 'triclinic']
    """
    from ase import Atoms

    outside = build_structure("diamond").repeat((2, 1, 1))
    outside.positions[0] += 3 * outside.cell[0] - 2 * outside.cell[2]
    triclinic = build_structure("graphite")
    triclinic.set_cell(triclinic.cell[:] + [[0, 0, 0.4], [0.3, 0, 0], [0.2, 0.7, 0]])
    structures = {
        "molecule": Atoms("C4", [(0, 0, 0), (1.3, 0.2, 0), (2.1, 1.3, 0.4), (0.3, -1.4, 0.9)]),
        "chain": Atoms("C2", [(0, 0, 0), (0.3, 0.2, 1.3)], cell=(0, 0, 2.6), pbc=(0, 0, 1)),
        "layer": build_structure("graphene"),
        "crystal": build_structure("graphite"),
        "triclinic": triclinic,
        "small cell": Atoms("C", cell=[(0, 1.8, 1.8), (1.8, 0, 1.8), (1.8, 1.8, 0)], pbc=True),
        "far outside": outside,
    }
    rng = np.random.default_rng(0)
    for atoms in structures.values():
        atoms.positions += rng.normal(scale=0.03, size=(len(atoms), 3))
    return structures


def assert_hermitian(matrix: RealSpaceMatrix, tolerance: float = TOLERANCE["float64"]) -> None:
    """Check H(k) = H(k)† at a k-point without symmetry, to which every block contributes.

    Parameters
    ----------
    matrix
        Any real-space matrix.
    tolerance
        Relative to the largest element of H(R).

    Raises
    ------
    AssertionError
        With the largest difference.
    """
    h_k = matrix.at_k((0.137, -0.291, 0.383), format="dense")
    error = float(np.abs(h_k - h_k.conj().T).max(initial=0.0))
    largest = float(np.abs(matrix.values).max(initial=0.0))
    if error > tolerance * largest:
        raise AssertionError(
            f"{matrix.name} is not Hermitian: elements differ by {error:.3g}, "
            f"the largest is {largest:.3g}"
        )
