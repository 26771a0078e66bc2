"""Relaxing a structure by any ASE calculator, before its bands are predicted."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.errors import UsageError
from hotham_ase.structure_files import StructureWarning

if TYPE_CHECKING:
    from ase import Atoms


def relaxed(
    atoms: Atoms,
    calculator: Any,
    *,
    max_force: float = 0.01,
    max_steps: int = 1000,
    optimizer: Any = None,
) -> Atoms:
    """A copy of a structure with its atoms where a calculator's forces vanish, its cell unchanged.

    Of layers the calculator must know what holds them together, dispersion included.

    Parameters
    ----------
    atoms
        Structure; constraints on it hold.
    calculator
        Any ASE calculator of energies and forces.
    max_force
        eV/Å, the largest force on an atom that may be left.
    max_steps
        After which it ends in any case.
    optimizer
        A class of ``ase.optimize``; by default LBFGS.

    Returns
    -------
    Without a calculator; ``info`` has ``largest_force`` in eV/Å.

    Raises
    ------
    UsageError
        If ``max_force`` is not positive.

    Warns
    -----
    StructureWarning
        If larger forces are left after so many steps.
    """
    from ase.optimize import LBFGS

    if not max_force > 0:
        raise UsageError(f"max_force must be positive, got {max_force}")
    result = atoms.copy()
    result.calc = calculator
    kind: Any = LBFGS if optimizer is None else optimizer
    with kind(result, logfile=None) as search:
        search.run(fmax=max_force, steps=max_steps)
        steps = search.get_number_of_steps()
    left = float(np.linalg.norm(result.get_forces(), axis=1).max())
    if left > max_force:
        warnings.warn(
            f"not relaxed: after {steps} steps a force of {left:.3g} eV/Å is left, more than "
            f"max_force={max_force:g}; relax the result again, or allow more max_steps",
            StructureWarning,
            stacklevel=2,
        )
    result.calc = None
    result.info["largest_force"] = left
    return result
