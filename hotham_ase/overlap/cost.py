"""What H0 takes, from the pairs of atoms only."""

from __future__ import annotations

import numpy as np

from hotham_ase.matrices import BlockLayout
from hotham_ase.overlap.three_centre import BUFFER_ELEMENTS

# One core, H0 of layers, tubes and crystals with the bundled models: within a factor of two
SECONDS_TABLES = 0.6  # for each two species, once in a process
SECONDS_SUMS = 1.5e-8
BYTES_TABLES = 60_000_000
BYTES_PER_PAIR = 600


def initial_cost(layout: BlockLayout) -> tuple[int, float]:
    """Bytes beside H0 and seconds on one core of :func:`~hotham_ase.overlap.initial_values`.

    Sums over third atoms take nearly all of the time. An atom with n orbitals has about 50 n
    separable functions, which act between the N orbitals of its neighbours, itself among them:
    between all of them if these were all neighbours of one another, as N². In layers and crystals,
    where fewer are, n N^1.5 fits what was measured.

    Parameters
    ----------
    layout
        Of its blocks.
    """
    pairs, n = layout.pairs, layout.n_orbitals
    i, j = pairs.edge_index
    near = n + np.bincount(i, weights=n[j], minlength=len(n))
    n_species = len(np.unique(pairs.numbers))
    n_tables = n_species * (n_species + 1) // 2
    n_bytes = BYTES_TABLES + 8 * BUFFER_ELEMENTS * n_tables + BYTES_PER_PAIR * pairs.n_edges
    return n_bytes, SECONDS_TABLES * n_tables + SECONDS_SUMS * float((n * near**1.5).sum())
