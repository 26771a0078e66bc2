"""Errors of levels from errors of blocks, and how they are told."""

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.uncertainty import Uncertainty


def chain(band_factor=None, grade=0.5):
    """One atom per cell with three neighbours on either side."""
    atoms = Atoms("C", cell=(1.5, 20, 20), pbc=(True, False, False))
    pairs = PairList.from_atoms(atoms, 5.0)
    errors = 0.004 * np.exp(-pairs.edge_lengths)
    return Uncertainty(
        pairs,
        onsite_errors=np.array([0.003]),
        hopping_errors=errors,
        onsite_grades=np.array([grade]),
        hopping_grades=np.full(pairs.n_edges, 0.1),
        limit=1.5,
        band_factor=band_factor,
    )


def test_atom_error_is_the_spread_of_levels():
    """Random errors δ of H(R) move ε(k) of a chain by δ_0 + Σ_R 2 δ_R cos(kR)."""
    uncertainty = chain()
    ahead = uncertainty.pairs.edge_vectors[:, 0] > 0
    positions = uncertainty.pairs.edge_vectors[ahead, 0]
    assert len(positions) == 3
    rng = np.random.default_rng(0)
    onsite = rng.normal(scale=uncertainty.onsite_errors[0], size=(20000, 1))
    hopping = rng.normal(scale=uncertainty.hopping_errors[ahead], size=(20000, 3))
    k = np.linspace(0, 2 * np.pi / 1.5, 12, endpoint=False)
    shifts = onsite + 2 * hopping @ np.cos(np.outer(positions, k))
    assert uncertainty.atom_error == pytest.approx(np.sqrt((shifts**2).mean()), rel=0.02)


def test_errors_of_bands_are_known_where_they_were_calibrated():
    assert chain().band_error is None
    assert "bands" not in chain().describe()
    known = chain(band_factor=0.5)
    assert known.band_error == pytest.approx(0.5 * known.atom_error)
    assert known.describe().endswith(f"bands {1e3 * known.band_error:.2g} meV")


def test_no_error_is_told_without_a_warning_where_it_is_an_extrapolation():
    text = chain(band_factor=0.5, grade=1.6).describe()
    assert text.startswith("not to be relied on: 1 of 1 atoms")
    assert "times larger" in text
    assert "not to be relied on" not in chain(band_factor=0.5).describe()
