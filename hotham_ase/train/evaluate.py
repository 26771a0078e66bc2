"""Errors of a model on a data set, in the terms a user judges by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.dataset import Dataset
from hotham_ase.electronic.eigen import eigenvalues_at_kpts
from hotham_ase.electronic.fermi import fermi_level
from hotham_ase.electronic.kmesh import build_mesh
from hotham_ase.orbitals import BasisError, OrbitalBasis
from hotham_ase.predict import HamiltonianModel, load_model

if TYPE_CHECKING:
    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

BAND_WINDOW = 5.0  # eV on either side of the Fermi level
BAND_KPTS_DENSITY = 1.5  # points per Å⁻¹ of the mesh on which bands are compared


def evaluate(
    model: str | Path | HamiltonianModel,
    dataset: str | Path,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare a model with a data set.

    Parameters
    ----------
    model
        A model, its file, or a bundled name.
    dataset
        HDF5 data set of ``hotham import``.
    device
        See :meth:`HamiltonianModel.predict`.
    on_progress
        Called with (done, total).

    Returns
    -------
    dict, see :func:`evaluate_samples`.

    Raises
    ------
    BasisError
        If the model's orbitals are not those of the data.
    """
    if not isinstance(model, HamiltonianModel):
        model = load_model(model)
    with Dataset(dataset) as data:
        check_basis(model, data.basis)

        def samples() -> Iterable[Sample]:
            for k in range(len(data)):
                yield data[k]
                if on_progress is not None:
                    on_progress(k + 1, len(data))

        return evaluate_samples(model, samples(), device=device)


def evaluate_samples(
    model: HamiltonianModel, samples: Iterable[Sample], *, device: str = "auto"
) -> dict[str, Any]:
    """Compare a model with samples, one at a time.

    H is compared on all pairs within the model's cutoff. The code's arbitrary zero of energy is
    removed from every structure by the shift μ that minimises ``Σ |ΔH − μS|²``; the errors
    without that are given too. Bands are compared on a mesh, from the same S, within ±5 eV of the
    reference's Fermi level, their mean difference removed.

    Parameters
    ----------
    model
        The model.
    samples
        References in the model's basis.
    device
        See :meth:`HamiltonianModel.predict`.

    Returns
    -------
    dict
        ``mae_meV``, ``mae_onsite_meV``, ``mae_hopping_meV``, ``mae_raw_meV`` (no shift removed),
        ``band_mae_meV``, each a mean over structures; ``n_structures``; ``groups``, the same for
        each group of structures; ``structures``, the same for each, with its ``mu_meV``.

    Raises
    ------
    ValueError
        If there are no samples.
    """
    rows = [{"name": s.name, **_compare(model, s, device)} for s in samples]
    if not rows:
        raise ValueError("samples must hold at least one structure, got none")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row["name"]).rpartition("/")[0], []).append(row)
    return {
        **_mean(rows),
        "groups": {group: _mean(members) for group, members in groups.items()},
        "structures": rows,
    }


def check_basis(model: HamiltonianModel, basis: OrbitalBasis) -> None:
    """Refuse data whose orbitals are not those the model was trained in.

    Raises
    ------
    BasisError
        Naming the species and what differs.
    """
    for theirs in basis.species:
        ours = model.basis[theirs.symbol]
        if ours.shells != theirs.shells:
            raise BasisError(
                f"the data have {theirs.label} orbitals on {theirs.symbol}, the model predicts "
                f"{ours.label}; use data of the model's basis"
            )
        if ours.radial is None or theirs.radial is None:
            continue
        if ours.radial.shape != theirs.radial.shape or not np.allclose(
            ours.radial, theirs.radial, atol=1e-6
        ):
            raise BasisError(
                f"the data's {theirs.symbol} orbitals have other radial functions than the "
                "model's; use data of the model's basis"
            )


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("mae_meV", "mae_onsite_meV", "mae_hopping_meV", "mae_raw_meV", "band_mae_meV")
    return {
        **{key: float(np.mean([row[key] for row in rows])) for key in keys},
        "n_structures": len(rows),
    }


def _compare(model: HamiltonianModel, sample: Sample, device: str) -> dict[str, float]:
    """Errors of one structure, meV."""
    predicted = model.predict(sample.atoms, device=device)
    reference = sample.hamiltonian.on_pairs(predicted.pairs)
    overlap = sample.overlap.on_pairs(predicted.pairs)
    error = predicted.values[0] - reference.values[0]
    s = overlap.values[0]
    mu = float(s @ error / (s @ s))
    aligned = np.abs(error - mu * s)
    n_onsite = int(predicted.block_offsets[sample.hamiltonian.pairs.n_atoms])
    return {
        "mae_meV": 1e3 * float(aligned.mean()),
        "mae_onsite_meV": 1e3 * float(aligned[:n_onsite].mean()),
        "mae_hopping_meV": 1e3 * float(aligned[n_onsite:].mean()) if len(s) > n_onsite else 0.0,
        "mae_raw_meV": 1e3 * float(np.abs(error).mean()),
        "mu_meV": 1e3 * mu,
        "band_mae_meV": 1e3 * _band_error(predicted, sample),
    }


def _band_error(predicted: RealSpaceMatrix, sample: Sample) -> float:
    """Mean |Δε| in eV within the window around E_F, after the mean difference."""
    mesh = build_mesh(sample.atoms, {"density": BAND_KPTS_DENSITY, "gamma": True})
    reference = eigenvalues_at_kpts(sample.hamiltonian, sample.overlap, mesh.ibz_kpts)
    ours = eigenvalues_at_kpts(predicted, sample.overlap, mesh.ibz_kpts)
    level = sample.fermi_level
    if level is None:
        level = fermi_level(reference, mesh.weights, sample.n_electrons)
    inside = np.abs(reference - level) < BAND_WINDOW
    if not inside.any():
        return 0.0
    difference = (ours - reference)[inside]
    return float(np.abs(difference - difference.mean()).mean())
