"""The best shift of the zero of energy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from hotham_ase.matrices.energy_zero import best_shift


def test_best_shift_leaves_the_smallest_squares():
    rng = np.random.default_rng(0)
    difference, overlap = rng.normal(size=(2, 40))
    found = best_shift(difference, overlap)
    best = minimize_scalar(lambda mu: ((difference - mu * overlap) ** 2).sum())
    np.testing.assert_allclose(found, best.x, atol=1e-7)
    shifted = best_shift(torch.tensor(difference + 3.5 * overlap), torch.tensor(overlap))
    np.testing.assert_allclose(shifted, found + 3.5)


def test_a_product_of_its_own_gives_a_shift_for_each_structure():
    rng = np.random.default_rng(1)
    overlap = rng.normal(size=(3, 20))
    mu = np.array([0.5, -2.0, 0.0])
    found = best_shift(mu[:, None] * overlap, overlap, lambda a, b: (a * b).sum(axis=1))
    np.testing.assert_allclose(found, mu)
