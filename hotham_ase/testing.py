"""What tests of this package and of programs built on it share."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.harmonics import orbital_rotation
from hotham_ase.structures import build_structure

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.matrices import RealSpaceMatrix

#: Largest difference that rounding may make, relative to the largest value, by precision.
TOLERANCE = MappingProxyType({"float32": 2e-5, "float64": 1e-10})


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

    # coordinates that nobody has folded back, and a cell far from its reduced form
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
    # H_ji(−R) = H_ij(R)† makes every H(k) Hermitian, the k-point without symmetry too
    h_k = matrix.at_k((0.137, -0.291, 0.383), format="dense")
    error = float(np.abs(h_k - h_k.conj().T).max(initial=0.0))
    largest = float(np.abs(matrix.values).max(initial=0.0))
    if error > tolerance * largest:
        raise AssertionError(
            f"{matrix.name} is not Hermitian: elements differ by {error:.3g}, "
            f"the largest is {largest:.3g}"
        )


def assert_equivariant(
    predict: Callable[[Atoms], RealSpaceMatrix],
    atoms: Atoms,
    basis: OrbitalBasis,
    matrix: np.ndarray,
    tolerance: float = TOLERANCE["float64"],
) -> None:
    """Check that turning a structure turns its matrix: ``H(Q r) = D H(r) Dᵀ``, block by block.

    Components of spins turn into one another as those of an axial vector.

    Parameters
    ----------
    predict
        Function of a structure, e.g. ``model.predict``.
    atoms
        Structure, best without symmetry.
    basis
        Orbitals.
    matrix : (3, 3)
        Orthogonal; determinant −1 checks parity too.
    tolerance
        Relative to the largest element.

    Raises
    ------
    AssertionError
        With the largest difference.
    """
    matrix = np.asarray(matrix)
    turned = atoms.copy()
    turned.positions = atoms.positions @ matrix.T
    turned.cell = atoms.cell[:] @ matrix.T
    before, after = predict(atoms), predict(turned)
    mixing = [orbital_rotation(basis[symbol].shells, matrix) for symbol in atoms.symbols]
    of_spins = np.eye(before.spin.n_components)
    if before.spin.is_spinor:
        of_spins[1:, 1:] = np.linalg.det(matrix) * matrix
    largest = float(np.abs(before.values).max())
    error = 0.0
    # a pair keeps its atoms and its lattice shift when the structure turns, not its place in the
    # list; what is no pair there has no block, and must be zero here
    layout = before.layout
    first, second = layout.atoms
    partner = after.layout.find(first, second, layout.shifts)
    for block, (i, j) in enumerate(zip(first, second, strict=True)):
        parts = mixing[i] @ layout.block(before.values, block) @ mixing[j].T
        expected = np.tensordot(of_spins, parts, axes=1)
        found = after.layout.block(after.values, partner[block]) if partner[block] >= 0 else 0.0
        error = max(error, float(np.abs(found - expected).max()))
    if error > tolerance * largest:
        raise AssertionError(
            f"{before.name} does not turn with the structure: blocks differ by {error:.3g}, "
            f"the largest element is {largest:.3g}"
        )
