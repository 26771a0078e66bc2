"""Errors of a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hotham_ase.dataset import Dataset
from hotham_ase.orbitals import BasisError, OrbitalBasis
from hotham_ase.predict import HamiltonianModel, Prediction, load_model
from hotham_ase.train.loss_config import EnergyZero
from hotham_ase.train.metrics import (
    BandComparison,
    BlockComparison,
    band_metrics,
    block_metrics,
    compare_bands,
    compare_blocks,
)
from hotham_ase.train.tallies import ErrorStatistics

if TYPE_CHECKING:
    from hotham_ase.dft.sample import Sample

#: Errors of a structure; of the signed ones the mean over structures is that of their size.
MEANS = (
    "mae_meV",
    "rmse_meV",
    "mae_onsite_meV",
    "mae_hopping_meV",
    "mae_raw_meV",
    "band_mae_meV",
    "fermi_error_meV",
    "gap_error_meV",
    "dos_distance",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Errors of a model on several structures.

    Attributes
    ----------
    structures
        ``name`` and errors of each, see :func:`~hotham_ase.train.metrics.block_metrics`,
        :func:`~hotham_ase.train.metrics.band_metrics` and :func:`trust_metrics`.
    statistics
        Errors of all elements of H by shells and distance.
    energy_zero
        What zero of energy was removed.
    """

    structures: list[dict[str, Any]]
    statistics: ErrorStatistics
    energy_zero: EnergyZero

    def summary(self) -> dict[str, Any]:
        """Means over all structures and each group of them, and the errors of each."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.structures:
            groups.setdefault(str(row["name"]).rpartition("/")[0], []).append(row)
        return {
            **_mean(self.structures),
            "energy_zero": self.energy_zero,
            "groups": {group: _mean(members) for group, members in groups.items()},
            "structures": self.structures,
        }

    def details(self) -> dict[str, Any]:
        """The summary with errors by species, shells and distance."""
        return {
            **self.summary(),
            "by_species": self.statistics.by_species(),
            "by_shell": self.statistics.by_shell(),
            "by_distance": self.statistics.by_distance(),
            "by_expected_error": self.statistics.by_expected_error(),
        }

    def ranked(self) -> list[int]:
        """Indices of the structures, by their error of H, the largest first."""
        return sorted(range(len(self.structures)), key=lambda k: -self.structures[k]["mae_meV"])


def evaluate(
    model: str | Path | HamiltonianModel,
    dataset: str | Path,
    *,
    device: str = "auto",
    energy_zero: EnergyZero | None = None,
    report: str | Path | None = None,
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
    energy_zero
        See :func:`~hotham_ase.train.metrics.compare_blocks`; by default what the model was
        trained with.
    report
        Also write an HTML page with plots to this file, see
        :func:`~hotham_ase.train.report.write_report`.
    on_progress
        Called with (done, total).

    Returns
    -------
    dict
        That of :func:`evaluate_samples`, and ``by_species``, ``by_shell``, ``by_distance``:
        errors of the elements of H over all structures; ``by_expected_error``: of blocks.

    Raises
    ------
    BasisError
        If the model's orbitals are not those of the data.
    """
    if not isinstance(model, HamiltonianModel):
        model = load_model(model)
    energy_zero = check_zero(energy_zero or trained_zero(model))
    with Dataset(dataset) as data:
        check_basis(model, data.basis)

        def samples() -> Iterator[Sample]:
            for k in range(len(data)):
                yield data[k]
                if on_progress is not None:
                    on_progress(k + 1, len(data))

        result = assess(model, samples(), device=device, energy_zero=energy_zero)
        if report is not None:
            from hotham_ase.train.report import write_report

            order = result.ranked()
            shown = dict.fromkeys([order[0], order[len(order) // 2]])
            bands = [_bands(model, data[k], result.structures[k], device) for k in shown]
            source = {"file": Path(dataset).name, "sha256": data.fingerprint}
            write_report(report, model, result, [b for b in bands if b is not None], source)
        return result.details()


def evaluate_samples(
    model: HamiltonianModel,
    samples: Iterable[Sample],
    *,
    device: str = "auto",
    energy_zero: EnergyZero = "fit",
) -> dict[str, Any]:
    """Compare a model with samples, one at a time.

    H is compared on all pairs within the model's cutoff, and those of H0 where the model needs one;
    bands, Fermi level, gap and density of states on a mesh, from the same S. The code's arbitrary
    zero of energy is removed from every structure, see
    :func:`~hotham_ase.train.metrics.compare_blocks` and
    :func:`~hotham_ase.train.metrics.band_metrics`.

    Parameters
    ----------
    model
        The model.
    samples
        References in the model's basis.
    device
        See :meth:`HamiltonianModel.predict`.
    energy_zero
        What zero is removed.

    Returns
    -------
    dict
        Means over structures, of the size of signed errors: ``mae_meV``, ``rmse_meV``,
        ``mae_onsite_meV``, ``mae_hopping_meV``, ``mae_raw_meV`` (no shift removed),
        ``band_mae_meV``, ``fermi_error_meV``, ``gap_error_meV``, ``dos_distance``;
        ``n_structures``; ``groups``, the same for each group of structures; ``structures``, the
        same for each, with its shifts ``mu_meV`` and ``band_shift_meV``, and the
        :func:`trust_metrics` where the model has an uncertainty.

    Raises
    ------
    ValueError
        If there are no samples, or one lacks the H0 that the model needs.
    """
    return assess(model, samples, device=device, energy_zero=energy_zero).summary()


def assess(
    model: HamiltonianModel,
    samples: Iterable[Sample],
    *,
    device: str = "auto",
    energy_zero: EnergyZero = "fit",
) -> Evaluation:
    """Compare a model with samples, as :func:`evaluate_samples` does, and keep statistics."""
    rows, statistics = [], ErrorStatistics(model.basis)
    for sample in samples:
        prediction = predict_sample(model, sample, device)
        comparison = compare_blocks(prediction.hamiltonian, sample, energy_zero)
        statistics.add(comparison, prediction.uncertainty)
        blocks, bands = block_metrics(comparison), band_metrics(comparison, sample, energy_zero)
        trust = trust_metrics(prediction, comparison)
        rows.append({"name": sample.name, **blocks, **bands, **trust})
    if not rows:
        raise ValueError("samples must hold at least one structure, got none")
    return Evaluation(rows, statistics, energy_zero)


def predict_sample(model: HamiltonianModel, sample: Sample, device: str = "auto") -> Prediction:
    """H of a sample's structure, from its H0 where the model needs that.

    Raises
    ------
    ValueError
        If the sample has no H0, but the model needs it.
    """
    initial = sample.initial_hamiltonian if model.needs_initial else None
    if model.needs_initial and initial is None:
        raise ValueError(
            f"samples must have an initial_hamiltonian for {model.name}, which predicts the "
            f"correction to it, but {sample.name} has none"
        )
    return model.predict_with_uncertainty(sample.atoms, device=device, initial_hamiltonian=initial)


def trust_metrics(prediction: Prediction, comparison: BlockComparison) -> dict[str, Any]:
    """What errors a model expected; nothing if it has no uncertainty.

    Returns
    -------
    dict
        ``expected_block_error_meV`` and ``block_error_meV``, expected and seen, root mean squares
        over the blocks that the network predicts; ``expected_atom_error_meV`` and
        ``expected_band_error_meV``, see :class:`~hotham_ase.uncertainty.Uncertainty`, the second
        None if the model does not know; ``largest_grade`` of extrapolation, None if it is
        infinite; ``n_extrapolating``, atoms.
    """
    uncertainty = prediction.uncertainty
    if uncertainty is None:
        return {}
    grade = float(uncertainty.grades.max())
    seen, bands = comparison.block_squares[: uncertainty.n_blocks], uncertainty.band_error
    return {
        "expected_block_error_meV": 1e3 * uncertainty.rms_error,
        "block_error_meV": 1e3 * float(np.sqrt(seen.mean())),
        "expected_atom_error_meV": 1e3 * uncertainty.atom_error,
        "expected_band_error_meV": None if bands is None else 1e3 * bands,
        "largest_grade": grade if np.isfinite(grade) else None,
        "n_extrapolating": len(uncertainty.extrapolating_atoms),
    }


def check_zero(energy_zero: str) -> EnergyZero:
    """The word, if it is one of the choices.

    Raises
    ------
    ValueError
        Otherwise.
    """
    for choice in get_args(EnergyZero):
        if energy_zero == choice:
            zero: EnergyZero = choice
            return zero
    raise ValueError(f"energy_zero must be none, fermi or fit, got {energy_zero!r}")


def trained_zero(model: HamiltonianModel) -> str:
    """The zero of energy that a model was trained with, ``fit`` if its file does not say."""
    settings = model.provenance.get("settings", {}).get("training", {})
    return str(settings.get("loss", {}).get("energy_zero", "fit"))


def _bands(
    model: HamiltonianModel, sample: Sample, row: dict[str, Any], device: str
) -> BandComparison | None:
    """Bands of one structure along its path, once more predicted."""
    predicted = predict_sample(model, sample, device).hamiltonian
    return compare_bands(predicted, sample, row["band_shift_meV"] / 1e3)


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
    means = {key: float(np.mean([abs(row[key]) for row in rows])) for key in MEANS}
    return {**means, "n_structures": len(rows)}
