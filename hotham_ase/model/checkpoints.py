"""Checkpoints of the published Hot-Ham code as models of this package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ase.units import Bohr

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.published.checkpoints import read_network
from hotham_ase.nn.published.settings import CheckpointError, PublishedSettings


def import_checkpoint(
    checkpoint: str | Path, settings: str | Path, name: str = "model"
) -> HamiltonianModel:
    """Read a checkpoint of the published code; nothing in it is executed.

    The basis has shells and ranges but no radial functions, and no numbers of valence electrons
    (0): a checkpoint holds neither. So H can be predicted, but S cannot be computed.

    Parameters
    ----------
    checkpoint
        ``cp….pth`` as the published code writes it.
    settings
        The ``train.json`` of the same training. Pairs reach as far as ``rc``, or, where OpenMX
        radii are given as ``cutoff`` (Bohr, by element), as far as the sum of two. ``orbit`` must
        list the shells of an element in ascending l, as bases of this package have them.
    name
        Name of the model.

    Returns
    -------
    HamiltonianModel, in the precision of the checkpoint.

    Raises
    ------
    CheckpointError
        If a file is damaged or something else, a setting is not supported, or tensors are
        missing, left over, of other shapes than the settings say, not real or not finite.
    OSError
        If a file cannot be read.
    """
    checkpoint, settings = Path(checkpoint), Path(settings)
    found = PublishedSettings.read(settings)
    basis = _basis(found)
    shells = [s.shells for s in basis.species]
    network = read_network(checkpoint, found, shells, cutoffs(basis))
    content = dict(found.content)
    provenance = {
        "imported": {
            "checkpoint": {"file": checkpoint.name, "sha256": _sha256(checkpoint)},
            "settings": {"file": settings.name, "sha256": _sha256(settings), "content": content},
            "valence electrons": "unknown",
        }
    }
    return HamiltonianModel(network, basis, name, provenance)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _basis(settings: PublishedSettings) -> OrbitalBasis:
    """Shells and ranges; half of rc for each atom where there are no radii."""
    species = []
    for symbol, shells in settings.shells.items():
        half = settings.config.cutoff / 2
        reach = half if settings.radii is None else settings.radii[symbol] * Bohr
        try:
            species.append(SpeciesBasis(symbol, shells, (reach,) * len(shells), 0.0))
        except BasisError as error:
            raise CheckpointError(f"{settings.path}: orbit: {error}") from error
    return OrbitalBasis(tuple(species))
