"""The arbitrary zero of energy: H and H + μS describe the same physics."""

from __future__ import annotations

from collections.abc import Callable
from operator import matmul
from typing import Any, Literal

#: none: as the DFT code has it; fermi: every structure's Fermi level; fit: the best shift.
EnergyZero = Literal["none", "fermi", "fit"]


def best_shift(difference: Any, overlap: Any, inner: Callable[[Any, Any], Any] = matmul) -> Any:
    """μ = ⟨S, ΔH⟩ / ⟨S, S⟩, which makes Σ |ΔH − μS|² smallest.

    Parameters
    ----------
    difference, overlap : (n_values,)
        ΔH in eV and S on the same pairs, as arrays or tensors, or whatever ``inner`` takes.
    inner
        The product ⟨A, B⟩ = Σ A B; by default of flat arrays. One that sums over each structure
        of a batch gives the shift of each.

    Returns
    -------
    What ``inner`` returns, eV.

    Examples
    --------
    >>> import numpy as np
    >>> float(best_shift(np.array([2.0, 1.0, 0.0]), np.array([1.0, 0.5, 0.0])))
    2.0
    """
    return inner(overlap, difference) / inner(overlap, overlap)
