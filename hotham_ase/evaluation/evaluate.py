"""Errors of a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.errors import UsageError
from hotham_ase.evaluation.errors import (
    BandComparison,
    BlockComparison,
    band_metrics,
    block_metrics,
    compare_bands,
    compare_blocks,
    pairs_in_reach,
)
from hotham_ase.evaluation.parts import UNSEEN, check_choice, chosen, parts_of
from hotham_ase.evaluation.statistics import ErrorStatistics
from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Prediction
from hotham_ase.train.failures import devices_that_fail

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
    "ghost_states",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Errors of a model on several structures.

    Attributes
    ----------
    structures
        ``name`` and errors of each, see :func:`~hotham_ase.evaluation.errors.block_metrics`,
        :func:`~hotham_ase.evaluation.errors.band_metrics` and :func:`trust_metrics`; its ``part``,
        one of :data:`~hotham_ase.evaluation.parts.PARTS`, where that was looked at.
    statistics
        Errors of all elements of H by shells and distance, of the structures of the headline.
    energy_zero
        What zero of energy was removed.
    headline
        Which structures the means are of.
    """

    structures: list[dict[str, Any]]
    statistics: ErrorStatistics
    energy_zero: EnergyZero
    headline: str = "all"

    @property
    def judged(self) -> list[dict[str, Any]]:
        """The structures of the headline."""
        if self.headline != "unseen":
            return self.structures
        return [row for row in self.structures if row["part"] in UNSEEN]

    def summary(self) -> dict[str, Any]:
        """Means over the headline's structures, over groups and parts, and the errors of each."""
        judged = self.judged
        parts = {}
        if "part" in judged[0]:
            means = _means(self.structures, lambda row: str(row["part"]))
            parts = {"headline": self.headline, "parts": means}
        return {
            **_mean(judged),
            "energy_zero": self.energy_zero,
            **parts,
            "groups": _means(judged, lambda row: str(row["name"]).rpartition("/")[0]),
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

    def worst_and_median(self) -> list[int]:
        """Indices of two structures of the headline, or of one if there are no more."""
        names = [row["name"] for row in self.judged]
        order = [k for k in self.ranked() if self.structures[k]["name"] in names]
        return list(dict.fromkeys([order[0], order[len(order) // 2]]))


def evaluate(
    model: str | Path | HamiltonianModel,
    dataset: str | Path,
    *,
    device: str = "auto",
    energy_zero: EnergyZero | None = None,
    split: str = "all",
    report: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare a model with a data set.

    The model knows which structures it was trained on. With ``all`` every structure is looked at,
    each part has its means, and those at the top, as well as ``groups`` and all tables of elements,
    are of the structures that the model has not seen: its test structures and unknown ones. If it
    has seen all, they are of all, and ``headline`` says ``seen``.

    Parameters
    ----------
    model
        A model, its file, or a bundled name.
    dataset
        HDF5 data set of ``hotham import``.
    device
        See :meth:`HamiltonianModel.predict`.
    energy_zero
        See :func:`~hotham_ase.evaluation.errors.compare_blocks`; by default what the model was
        trained with.
    split
        ``all``, or one part only: ``training``, ``validation``, ``test`` (of the model's own
        split), ``unknown`` (not in it), ``unseen`` (test and unknown).
    report
        Also write an HTML page with plots to this file, see
        :func:`~hotham_ase.evaluation.report.write_report`.
    on_progress
        Called with (done, total).

    Returns
    -------
    dict
        That of :func:`evaluate_samples`; ``headline``, which structures the means at the top are
        of, and ``parts``, those of each part; ``by_species``, ``by_shell``, ``by_distance``:
        errors of the elements of H over the headline's structures; ``by_expected_error``: of
        blocks.

    Raises
    ------
    BasisError
        If the model's orbitals are not those of the data.
    ValueError
        If the data have no structure of the part.
    TrainingError
        If the GPU is lost.
    """
    if not isinstance(model, HamiltonianModel):
        model = load_model(model)
    energy_zero = check_zero(energy_zero or trained_zero(model))
    check_choice(split)
    with Dataset(dataset) as data, devices_that_fail():
        check_basis(model, data.basis)
        parts = parts_of(model.provenance, data, model.name)
        indices = chosen(parts, split)

        def samples() -> Iterator[Sample]:
            for n, k in enumerate(indices):
                yield data[k]
                if on_progress is not None:
                    on_progress(n + 1, len(indices))

        result = assess(
            model,
            samples(),
            device=device,
            energy_zero=energy_zero,
            parts=[parts[k] for k in indices],
            headline=split,
        )
        if report is not None:
            from hotham_ase.evaluation.report import write_report

            drawn = [(indices[k], result.structures[k]) for k in result.worst_and_median()]
            bands = [_bands(model, data[k], row, device) for k, row in drawn]
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

    H is compared on all pairs whose orbitals can overlap, whatever the model's cutoff, so that
    errors of different models compare; what one of them lacks is zero there. Bands, Fermi level,
    gap and density of states are those of all of H on a mesh, from the same S. The code's arbitrary
    zero of energy is removed from every structure, see
    :func:`~hotham_ase.evaluation.errors.compare_blocks` and
    :func:`~hotham_ase.evaluation.errors.band_metrics`.

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
    parts: Sequence[str] | None = None,
    headline: str = "all",
) -> Evaluation:
    """Compare a model with samples, as :func:`evaluate_samples` does, and keep statistics.

    Parameters
    ----------
    model, samples, device, energy_zero
        See :func:`evaluate_samples`.
    parts
        What each sample was to the model, see :func:`~hotham_ase.evaluation.parts.parts_of`.
    headline
        Which part the samples are; of ``all`` with parts the unseen ones are counted, if there
        are any.
    """
    if headline == "all" and parts is not None:
        headline = "unseen" if set(parts) & set(UNSEEN) else "seen"
    rows, statistics = [], ErrorStatistics(model.basis)
    for k, sample in enumerate(samples):
        prediction = predict_sample(model, sample, device)
        everywhere = compare_blocks(prediction.hamiltonian, sample, energy_zero)
        comparison = everywhere.on_pairs(pairs_in_reach(sample))
        part = {} if parts is None else {"part": parts[k]}
        if headline != "unseen" or part["part"] in UNSEEN:
            statistics.add(comparison)
            if prediction.uncertainty is not None:
                trusted = everywhere.on_pairs(prediction.uncertainty.pairs)
                statistics.add_expected(trusted.block_squares, prediction.uncertainty)
        blocks, bands = block_metrics(comparison), band_metrics(everywhere, sample, energy_zero)
        trust = trust_metrics(prediction, everywhere)
        rows.append({"name": sample.name, **part, **blocks, **bands, **trust})
    if not rows:
        raise UsageError("samples must hold at least one structure, got none")
    return Evaluation(rows, statistics, energy_zero, headline)


def predict_sample(model: HamiltonianModel, sample: Sample, device: str = "auto") -> Prediction:
    """H of a sample's structure, from its H0 where the model needs that.

    Raises
    ------
    ValueError
        If the sample has no H0, but the model needs it.
    """
    initial = sample.initial_hamiltonian if model.learns_correction else None
    if model.learns_correction and initial is None:
        raise UsageError(
            f"samples must have an initial_hamiltonian for {model.name}, which predicts the "
            f"correction to it, but {sample.name} has none"
        )
    options = PredictionOptions(device=device)
    return model.predict_with_uncertainty(sample.atoms, options, initial_hamiltonian=initial)


def trust_metrics(prediction: Prediction, comparison: BlockComparison) -> dict[str, Any]:
    """What errors a model expected; nothing if it has no uncertainty.

    Returns
    -------
    dict
        ``expected_block_error_meV`` and ``block_error_meV``, expected and seen, root mean squares
        over the blocks that the network predicts; ``expected_atom_error_meV`` and
        ``expected_band_error_meV``, see :class:`~hotham_ase.model.uncertainty.Uncertainty`, the
        second None if the model does not know; ``largest_grade`` of extrapolation, None if it is
        infinite; ``n_extrapolating``, atoms.
    """
    uncertainty = prediction.uncertainty
    if uncertainty is None:
        return {}
    grade = float(uncertainty.grades.max())
    seen = comparison.on_pairs(uncertainty.pairs).block_squares
    bands = uncertainty.band_error
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
    raise UsageError(f"energy_zero must be none, fermi or fit, got {energy_zero!r}")


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


def _means(
    rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]
) -> dict[str, dict[str, Any]]:
    """Means over the structures of each kind."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(key(row), []).append(row)
    return {kind: _mean(members) for kind, members in kinds.items()}


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    means = {key: float(np.mean([abs(row[key]) for row in rows])) for key in MEANS}
    return {**means, "n_structures": len(rows)}
