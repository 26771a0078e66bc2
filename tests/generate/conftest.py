"""A data set of water that stands for an engine's results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.io import write

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft import Provenance, Sample
from hotham_ase.overlap import kinetic_matrix, overlap_matrix

N = 6


def species(symbol: str, n_valence: float) -> SpeciesBasis:
    mesh = np.linspace(0, 2.0, 201)
    radial = (1 - (mesh / 2.0) ** 2) ** 3
    radial /= np.sqrt(np.trapezoid(mesh**2 * radial**2, mesh))
    return SpeciesBasis(symbol, (0,), (2.0,), n_valence, mesh, radial[None])


@pytest.fixture(scope="session")
def known(tmp_path_factory) -> Path:
    """Folder with ``known.h5``, and the structures in it as ``frames.traj``."""
    folder = tmp_path_factory.mktemp("known")
    basis = OrbitalBasis((species("H", 1), species("O", 1)))
    frames = []
    with DatasetWriter(folder / "known.h5") as writer:
        for n in range(N):
            atoms = molecule("H2O")
            atoms.rattle(0.05, seed=n)
            frames.append(atoms)
            writer.add(
                Sample(
                    atoms,
                    basis,
                    kinetic_matrix(atoms, basis),
                    overlap_matrix(atoms, basis),
                    None,
                    3.0,
                    Provenance(name=f"known/{n}", code="test", overlap="computed"),
                )
            )
    write(folder / "frames.traj", frames)
    return folder


@pytest.fixture
def config_file(known, tmp_path):
    """Function (seconds, **settings) that writes a configuration of a replay."""

    def make(seconds: float = 0.0, **settings) -> Path:
        content = {
            "output": "data.h5",
            "structures": [{"start": str(known / "frames.traj"), "name": "water"}],
            "engine": {"name": "replay", "data": str(known / "known.h5"), "seconds": seconds},
            "workers": 2,
        } | settings
        path = tmp_path / "generate.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return make
