"""How levels are filled, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hotham_ase.engines.levels import fermi_level


@pytest.mark.parametrize(
    ("n_electrons", "expected"),
    [
        (2, -3.0),  # the middle of the gap
        (4, 1.0),  # nothing above
        (3, 0.0),  # the upper band is half full
        (1, -5.0),
    ],
)
def test_fermi_level_of_two_bands_at_two_points(n_electrons: float, expected: float):
    levels = np.array([[-5.0, -1.0], [-5.0, 1.0]])
    assert fermi_level(levels, n_electrons, 0.05) == pytest.approx(expected, abs=1e-6)
