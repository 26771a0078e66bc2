"""Spinor matrices of codes that do not say whether theirs is symmetric under time reversal."""

from __future__ import annotations

import numpy as np

from hotham_ase.dft.sample import DFTReadError
from hotham_ase.matrices.pairs import pair_keys
from hotham_ase.matrices.spin import Spin

SYMMETRIC = 1e-6  # relative to the largest element: what breaks time reversal less is rounding


def spinor_components(
    up: np.ndarray, down: np.ndarray, up_down: np.ndarray, down_up: np.ndarray
) -> tuple[Spin, np.ndarray]:
    """Components of spinor elements, and their kind by what the elements are.

    Time reversal makes H = H_0 + i Σ_a B_a σ_a with real H_0 and B_a; elements for which all four
    are real are ``spin-orbit``, others ``non-collinear``.

    Parameters
    ----------
    up, down, up_down, down_up : (n,) complex
        uu, dd, ud and du of every element.

    Returns
    -------
    spin : Spin
    components : (4, n) float or complex
    """
    blocks = np.array([[up, up_down], [down_up, down]])
    components = Spin.SPIN_ORBIT.components_of(blocks)
    if np.abs(components.imag).max(initial=0) <= SYMMETRIC * np.abs(blocks).max(initial=0):
        return Spin.SPIN_ORBIT, components.real
    return Spin.NON_COLLINEAR, Spin.NON_COLLINEAR.components_of(blocks)


def conjugate_reverse(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shifts: np.ndarray, name: str
) -> np.ndarray:
    """(n,) the conjugate of the element (column, row, −R) for every element: du of ud.

    Parameters
    ----------
    values : (n,) complex
        Elements.
    rows, columns : (n,) int
        Their orbitals.
    shifts : (n, 3) int
        Their R.
    name
        For messages.

    Raises
    ------
    DFTReadError
        If an element lacks its reverse.
    """
    n_basis = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    reach = np.abs(shifts).max(axis=0, initial=0)
    keys = pair_keys(rows, columns, shifts, n_basis, reach)
    order = np.argsort(keys)
    wanted = pair_keys(columns, rows, -shifts, n_basis, reach)
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    if missing := np.count_nonzero(keys[found] != wanted):
        raise DFTReadError(f"{name}: {missing} of {len(values)} elements lack their reverse")
    return values[found].conj()
