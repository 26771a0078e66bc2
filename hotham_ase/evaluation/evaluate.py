"""Errors of a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.errors import UsageError
from hotham_ase.evaluation.errors import (
    BlockComparison,
    band_metrics,
    block_metrics,
    compare_bands,
    compare_blocks,
    pairs_in_reach,
)
from hotham_ase.evaluation.parts import UNSEEN, check_choice, chosen, parts_of
from hotham_ase.evaluation.records import MeanErrors, StructureErrors, TrustErrors
from hotham_ase.evaluation.statistics import ErrorStatistics
from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.matrices.spin import Spin
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Prediction
from hotham_ase.nn.failures import devices_that_fail

if TYPE_CHECKING:
    from hotham_ase.dft.sample import Sample


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Errors of a model on several structures.

    Attributes
    ----------
    structures
        Errors of each.
    statistics
        Errors of all elements of H by shells and distance, of the structures of the headline.
    energy_zero
        What zero of energy was removed.
    headline
        Which structures the means are of; None if nothing is known of what the model has seen.
    """

    structures: list[StructureErrors]
    statistics: ErrorStatistics
    energy_zero: EnergyZero
    headline: str | None = None

    @property
    def judged(self) -> list[StructureErrors]:
        """The structures of the headline."""
        if self.headline != "unseen":
            return self.structures
        return [row for row in self.structures if row.part in UNSEEN]

    @cached_property
    def means(self) -> MeanErrors:
        """Over the structures of the headline."""
        return MeanErrors.of(self.judged)

    @cached_property
    def groups(self) -> dict[str, MeanErrors]:
        """Means over the headline's structures of each group."""
        return MeanErrors.by(lambda row: row.group, self.judged)

    @cached_property
    def parts(self) -> dict[str, MeanErrors]:
        """Means over each part; nothing where parts are not known."""
        if self.headline is None:
            return {}
        return MeanErrors.by(lambda row: str(row.part), self.structures)

    def summary(self) -> dict[str, Any]:
        """What a model's record has, JSON-able: means, those of parts and groups, all structures.

        Means are at the top, with ``energy_zero``, and by the names of :class:`MeanErrors` in each
        of ``parts`` (with ``headline``, if parts are known) and of ``groups``; ``structures`` are
        records of :class:`StructureErrors`.
        """
        content: dict[str, Any] = {**self.means.to_dict(), "energy_zero": self.energy_zero}
        if self.headline is not None:
            parts = {part: means.to_dict() for part, means in self.parts.items()}
            content |= {"headline": self.headline, "parts": parts}
        content["groups"] = {group: means.to_dict() for group, means in self.groups.items()}
        return {**content, "structures": [row.to_dict() for row in self.structures]}

    def to_dict(self) -> dict[str, Any]:
        """The summary with lists of records by species, shell, distance and expected error."""
        tables = ("by_species", "by_shell", "by_distance", "by_expected_error")
        records = {name: getattr(self.statistics, name)() for name in tables}
        return self.summary() | {k: [r.to_dict() for r in rows] for k, rows in records.items()}

    def ranked(self) -> list[StructureErrors]:
        """The structures by their error of H, the largest first."""
        return sorted(self.structures, key=lambda row: -row.hamiltonian.mae_meV)

    def worst_and_median(self) -> list[StructureErrors]:
        """Two structures of the headline, or one if there are no more."""
        names = {row.name for row in self.judged}
        ranked = [row for row in self.ranked() if row.name in names]
        return list(dict.fromkeys([ranked[0], ranked[len(ranked) // 2]]))


def evaluate(
    model: str | Path | HamiltonianModel,
    dataset: str | Path,
    *,
    device: str = "auto",
    energy_zero: EnergyZero | None = None,
    split: str = "all",
    report: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare a model with a data set, as :func:`evaluate_samples` does.

    The model knows which structures it was trained on. With ``all`` every structure is looked at,
    each part has its means, and the others are of the structures that the model has not seen: its
    test structures and unknown ones. If it has seen all, they are of all, and ``headline`` says
    ``seen``.

    Parameters
    ----------
    model
        A model, its file, or a bundled name.
    dataset
        HDF5 data set of ``hotham import``.
    device
        See :meth:`HamiltonianModel.predict`.
    energy_zero
        See :func:`~hotham_ase.evaluation.errors.compare_blocks`; by default as in the training.
    split
        ``all``, or one part only: ``training``, ``validation``, ``test`` (of the model's own
        split), ``unknown`` (not in it), ``unseen`` (test and unknown).
    report
        An ``.html`` file for :func:`~hotham_ase.evaluation.report.write_report`.
    on_progress
        Called with (done, total).

    Raises
    ------
    BasisError
        If the model's orbitals or pseudopotentials are not those of the data.
    ValueError
        If the data have no structure of the part.
    NotSupportedError
        If H of a structure has spin, which models do not predict.
    DeviceError
        If the GPU is lost.
    """
    if not isinstance(model, HamiltonianModel):
        model = load_model(model)
    zero = check_zero(energy_zero or trained_zero(model))
    check_choice(split)
    with Dataset(dataset) as data, devices_that_fail():
        check_basis(model, data.basis)
        if differ := other_potentials(model, data.basis):
            raise BasisError(
                f"the data were calculated with other pseudopotentials of {differ} than those of "
                f"{model.name}, whose H is another; use data of the model's pseudopotentials"
            )
        parts = parts_of(model.provenance, data, model.name)
        indices = chosen(parts, split)
        for k in indices:
            data.spin(k).check(f"hamiltonian of {data.names[k]}", Spin.UNPOLARIZED)
        samples, parts = _read(data, indices, on_progress), [parts[k] for k in indices]
        result = evaluate_samples(model, samples, device, zero, parts=parts, headline=split)
        if report is not None:
            _report(report, model, data, result, device)
        return result


def _read(
    data: Dataset, indices: Sequence[int], on_progress: Callable[[int, int], None] | None
) -> Iterator[Sample]:
    for n, k in enumerate(indices, 1):
        yield data[k]
        if on_progress is not None:
            on_progress(n, len(indices))


def _report(
    path: str | Path, model: HamiltonianModel, data: Dataset, result: Evaluation, device: str
) -> None:
    """Write the page, with the bands of two structures: they are predicted once more for it."""
    from hotham_ase.evaluation.report import write_report  # Matplotlib is slow to import

    bands = []
    for row in result.worst_and_median():
        sample = data[data.names.index(row.name)]
        predicted = predict_sample(model, sample, device).hamiltonian
        bands.append(compare_bands(predicted, sample, row.bands.band_shift_meV / 1e3))
    drawn = [comparison for comparison in bands if comparison is not None]
    write_report(path, model, result, drawn, data.path.name, data.fingerprint)


def evaluate_samples(
    model: HamiltonianModel,
    samples: Iterable[Sample],
    device: str = "auto",
    energy_zero: EnergyZero = "fit",
    *,
    parts: Sequence[str] | None = None,
    headline: str = "all",
) -> Evaluation:
    """Compare a model with samples, one at a time.

    H is compared on all pairs whose orbitals can overlap, whatever the model's cutoff, so that
    errors of different models compare; what one of them lacks is zero there. Bands, Fermi level,
    gap and density of states are those of all of H on a mesh, from the same S. From every structure
    the code's arbitrary zero of energy is removed.

    Parameters
    ----------
    model, samples
        Samples are references in the model's basis.
    device, energy_zero
        See :func:`evaluate`.
    parts
        What each sample was to the model, see :func:`~hotham_ase.evaluation.parts.parts_of`; None
        if that is not known.
    headline
        With ``parts``, which part the samples are; of ``all`` the unseen ones are counted, if there
        are any.

    Raises
    ------
    ValueError
        If there are no samples, or one lacks the H0 that the model needs.
    NotSupportedError
        If H of a sample has spin, which models do not predict.
    """
    if parts is not None and headline == "all":
        headline = "unseen" if set(parts) & set(UNSEEN) else "seen"
    rows, statistics = [], ErrorStatistics(model.basis)
    for k, sample in enumerate(samples):
        sample.hamiltonian.spin.check(f"hamiltonian of {sample.name}", Spin.UNPOLARIZED)
        part = None if parts is None else parts[k]
        prediction = predict_sample(model, sample, device)
        everywhere = compare_blocks(prediction.hamiltonian, sample, energy_zero)
        # elements count on the reference's pairs, bands see all that was predicted
        comparison = everywhere.on_pairs(pairs_in_reach(sample))
        if part is None or headline != "unseen" or part in UNSEEN:
            statistics.add(comparison)
            if prediction.uncertainty is not None:
                statistics.add_expected(everywhere, prediction.uncertainty)
        rows.append(
            StructureErrors(
                name=sample.name,
                part=part,
                hamiltonian=block_metrics(comparison),
                bands=band_metrics(everywhere, sample, energy_zero),
                trust=trust_metrics(prediction, everywhere),
            )
        )
    if not rows:
        raise UsageError("samples must hold at least one structure, got none")
    return Evaluation(rows, statistics, energy_zero, None if parts is None else headline)


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


def trust_metrics(prediction: Prediction, comparison: BlockComparison) -> TrustErrors | None:
    """What errors a model expected; None if it has no uncertainty."""
    uncertainty = prediction.uncertainty
    if uncertainty is None:
        return None
    grade = float(uncertainty.grades.max())
    seen = comparison.on_pairs(uncertainty.pairs).block_squares
    bands = uncertainty.band_error
    return TrustErrors(
        expected_block_error_meV=1e3 * uncertainty.rms_error,
        block_error_meV=1e3 * float(np.sqrt(seen.mean())),
        expected_atom_error_meV=1e3 * uncertainty.atom_error,
        expected_band_error_meV=None if bands is None else 1e3 * bands,
        largest_grade=grade if np.isfinite(grade) else None,
        n_extrapolating=len(uncertainty.extrapolating_atoms),
    )


def check_zero(energy_zero: str) -> EnergyZero:
    """The word, if it is one of the choices.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if energy_zero not in get_args(EnergyZero):
        raise UsageError(f"energy_zero must be none, fermi or fit, got {energy_zero!r}")
    return cast(EnergyZero, energy_zero)


def trained_zero(model: HamiltonianModel) -> str:
    """The zero of energy that a model was trained with, ``fit`` if its file does not say."""
    settings = model.provenance.get("settings", {}).get("training", {})
    return str(settings.get("loss", {}).get("energy_zero", "fit"))


def check_basis(model: HamiltonianModel, basis: OrbitalBasis) -> None:
    """Refuse data whose orbitals are not those the model was trained in.

    Raises
    ------
    BasisError
        Naming the species and what differs.
    """
    for given in basis.species:
        known = model.basis[given.symbol]
        if known.shells != given.shells:
            raise BasisError(
                f"the data have {given.label} orbitals on {given.symbol}, the model predicts "
                f"{known.label}; use data of the model's basis"
            )
        if known.radial is None or given.radial is None:  # older files do not say
            continue
        if known.radial.shape != given.radial.shape or not np.allclose(
            known.radial, given.radial, atol=1e-6
        ):
            raise BasisError(
                f"the data's {given.symbol} orbitals have other radial functions than the "
                "model's; use data of the model's basis"
            )


def other_potentials(model: HamiltonianModel, basis: OrbitalBasis) -> list[str]:
    """Species whose pseudopotential both model and data know, and it is not the same."""
    differ = []
    for given in basis.species:
        known = model.basis[given.symbol].potential if given.symbol in model.basis else None
        if known and given.potential and not known.agrees_with(given.potential):
            differ.append(given.symbol)
    return differ
