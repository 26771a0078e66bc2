"""Random Hermitian matrices of mixed species."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

SIZES = {"H": 1, "C": 4, "N": 3}


@pytest.fixture
def crystal() -> Atoms:
    rng = np.random.default_rng(5)
    cell = [[3.0, 0.3, 0.1], [1.7, 3.4, -0.2], [-0.9, 1.1, 4.1]]
    return Atoms("CHNH", rng.uniform(-2, 5, (4, 3)), cell=cell, pbc=True)


@pytest.fixture
def random_matrix() -> Callable[..., RealSpaceMatrix]:
    def build(
        atoms: Atoms, cutoff: float = 4.0, *, seed: int = 0, imaginary: bool = False
    ) -> RealSpaceMatrix:
        rng = np.random.default_rng(seed)
        pairs = PairList.from_atoms(atoms, cutoff)
        n = [SIZES[s] for s in atoms.symbols]

        def block(a: int, b: int) -> np.ndarray:
            return rng.normal(size=(a, b)) + (1j * rng.normal(size=(a, b)) if imaginary else 0)

        onsite = [block(a, a) for a in n]
        hopping = [block(n[i], n[j]) for i, j in pairs.edge_index.T]
        reverse = pairs.reverse_edge_index
        onsite = [(a + a.conj().T) / 2 for a in onsite]
        hopping = [(b + hopping[r].conj().T) / 2 for b, r in zip(hopping, reverse, strict=True)]
        return RealSpaceMatrix.from_blocks(pairs, onsite, hopping, name="random")

    return build
