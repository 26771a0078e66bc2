"""An engine that computes nothing: it gives back what a data set has of the same structures."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.dft.sample import Sample
from hotham_ase.engines.engine import Engine, EngineError

if TYPE_CHECKING:
    from ase import Atoms

SAME = 1e-6  # Å


class Replay(Engine):
    """Stands in for an engine where nothing shall be computed: to try a configuration, in tests."""

    name: Literal["replay"]
    """What a data set has of the same structures is given back."""
    data: Path
    """The data set."""
    seconds: float = Field(0.0, ge=0, le=3600)
    """Every structure takes so long."""

    def relative_to(self, folder: Path) -> Engine:
        """See :meth:`Engine.relative_to`."""
        return self.model_copy(update={"data": folder / self.data})

    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis:
        """See :meth:`Engine.basis_of`."""
        with Dataset(self.data) as known:
            return known.basis.subset(symbols)

    def calculate(self, atoms: Atoms, name: str) -> Sample:
        """See :meth:`Engine.calculate`."""
        time.sleep(self.seconds)
        with Dataset(self.data) as known:
            for index in range(len(known)):
                if _is_same(known.atoms(index), atoms):
                    sample = known[index]
                    return replace(sample, provenance=replace(sample.provenance, name=name))
        raise EngineError(f"{self.data} has no structure like this one")


def _is_same(a: Atoms, b: Atoms) -> bool:
    return (
        np.array_equal(a.numbers, b.numbers)
        and np.array_equal(a.pbc, b.pbc)
        and np.allclose(a.positions, b.positions, rtol=0, atol=SAME)
        and np.allclose(a.cell[:], b.cell[:], rtol=0, atol=SAME)
        and np.array_equal(a.get_initial_magnetic_moments(), b.get_initial_magnetic_moments())
    )
