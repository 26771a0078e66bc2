"""Errors of a predicted Hamiltonian, in the terms a user judges by.

The code's arbitrary zero of energy is removed from every structure first, see
:func:`compare_blocks`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.bands import band_structure
from hotham_ase.electronic.dos import total_dos
from hotham_ase.electronic.fermi import fill_bands
from hotham_ase.electronic.kconvert import BandPathError
from hotham_ase.electronic.kmesh import KMesh, build_mesh
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import IllConditionedWarning, SolverOptions
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.errors import UsageError
from hotham_ase.evaluation.records import BAND_WINDOW, BandErrors, HamiltonianErrors
from hotham_ase.matrices.energy_zero import EnergyZero, best_shift
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure

    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

BAND_KPTS_DENSITY = 1.5  # points per Å⁻¹ of the mesh on which bands are compared
SMEARING = 0.05  # eV; a metal's Fermi level on a coarse mesh jumps without
DOS_SIGMA = 0.1  # eV
PATH_POINTS = 60


@dataclass(frozen=True, eq=False)
class BlockComparison:
    """A predicted and a reference H on the same pairs.

    Attributes
    ----------
    predicted, reference
        eV.
    overlap
        On the same pairs.
    mu
        eV; what the prediction's zero of energy is above the reference's.
    """

    predicted: RealSpaceMatrix
    reference: RealSpaceMatrix
    overlap: RealSpaceMatrix
    mu: float

    def on_pairs(self, pairs: PairList) -> BlockComparison:
        """The same at the same zero of energy, on other pairs of these atoms."""
        predicted, reference, overlap = (
            m.on_pairs(pairs) for m in (self.predicted, self.reference, self.overlap)
        )
        return BlockComparison(predicted, reference, overlap, self.mu)

    @property
    def raw(self) -> np.ndarray:
        """(n_values,) ΔH in eV as the zeros of energy are."""
        return self.predicted.single - self.reference.single

    @cached_property
    def errors(self) -> np.ndarray:
        """(n_values,) ΔH − μS in eV."""
        return self.raw - self.mu * self.overlap.single

    @property
    def n_onsite(self) -> int:
        """Elements of onsite blocks, which come first."""
        return self.predicted.layout.n_onsite

    @property
    def block_squares(self) -> np.ndarray:
        """(n_blocks,) mean square error in eV² of each block, onsite blocks first."""
        layout = self.predicted.layout
        return np.add.reduceat(self.errors**2, layout.offsets[:-1]) / layout.sizes


def pairs_in_reach(sample: Sample) -> PairList:
    """All pairs whose orbitals can overlap.

    They depend on the reference alone, so that errors on them compare models of any cutoff.
    """
    return PairList.from_atoms(sample.atoms, sample.basis.pair_cutoffs)


def compare_blocks(
    predicted: RealSpaceMatrix, sample: Sample, energy_zero: EnergyZero = "fit"
) -> BlockComparison:
    """Bring a prediction and its reference to the same pairs and zero of energy.

    The pairs are all that the prediction has, and all within reach of the orbitals: an H that
    ends sooner is zero there.

    Parameters
    ----------
    predicted
        H in eV of the sample's structure.
    sample
        The reference.
    energy_zero
        ``fit``: μ = ⟨S, ΔH⟩ / ⟨S, S⟩, which makes Σ |ΔH − μS|² smallest; ``fermi``: the
        reference's zero is its Fermi level, μ = −E_F; ``none``: μ = 0.

    Raises
    ------
    ValueError
        If the Fermi level is needed but not known.
    """
    pairs = predicted.pairs.union(pairs_in_reach(sample))
    predicted, reference, overlap = (
        m.on_pairs(pairs) for m in (predicted, sample.hamiltonian, sample.overlap)
    )
    mu = 0.0  # as the code that calculated the reference has it
    if energy_zero == "fit":
        mu = float(best_shift(predicted.single - reference.single, overlap.single))
    elif energy_zero == "fermi":
        if sample.fermi_level is None:
            raise UsageError(
                f"energy_zero must be 'fit' or 'none' for {sample.name}, whose Fermi level is "
                "not known"
            )
        mu = -sample.fermi_level
    return BlockComparison(predicted, reference, overlap, mu)


def block_metrics(comparison: BlockComparison) -> HamiltonianErrors:
    """Errors of the elements of H."""
    errors, n_onsite = comparison.errors, comparison.n_onsite
    size = np.abs(errors)
    return HamiltonianErrors(
        mae_meV=1e3 * float(size.mean()),
        rmse_meV=1e3 * float(np.sqrt((errors**2).mean())),
        mae_onsite_meV=1e3 * float(size[:n_onsite].mean()),
        mae_hopping_meV=1e3 * float(size[n_onsite:].mean()) if len(size) > n_onsite else 0.0,
        mae_raw_meV=1e3 * float(np.abs(comparison.raw).mean()),
        mu_meV=1e3 * comparison.mu,
    )


def band_metrics(
    comparison: BlockComparison, sample: Sample, energy_zero: EnergyZero = "fit"
) -> BandErrors:
    """Errors of what follows from H, on a mesh of k-points and with the reference's S.

    The shift between both energy scales is the mean difference of bands within ±5 eV of the
    reference's Fermi level (``fit``), or that of the blocks.

    Parameters
    ----------
    comparison
        From :func:`compare_blocks`, with all pairs of the prediction.
    sample
        The reference; its H and S count in full, beyond the model's pairs.
    energy_zero
        That of the comparison.
    """
    # not reduced by the symmetry of perfect crystals: k-points count alike in means over bands
    kpts = {"density": BAND_KPTS_DENSITY, "gamma": True}
    mesh = build_mesh(sample.atoms, kpts, symmetry=False)
    guard = Guard.of(comparison.predicted, sample.overlap)
    options, h, s = SolverOptions(guard=guard), sample.hamiltonian, sample.overlap
    with warnings.catch_warnings():  # a model at the start of its training: counted below
        warnings.simplefilter("ignore", IllConditionedWarning)
        predicted = eigenvalues_at_kpts(comparison.predicted, s, mesh.ibz_kpts, options=options)
        reference = eigenvalues_at_kpts(h, s, mesh.ibz_kpts)
    # ghost states of the prediction are left out, and with them the highest bands
    n_bands = min(predicted.shape[2], reference.shape[2])
    predicted, reference = predicted[..., :n_bands], reference[..., :n_bands]
    fermi, gap = _level_and_gap(reference, mesh, sample.n_electrons, h.spin)
    predicted_fermi, predicted_gap = _level_and_gap(predicted, mesh, sample.n_electrons, h.spin)
    level = fermi if sample.fermi_level is None else sample.fermi_level
    inside = np.abs(reference - level) < BAND_WINDOW
    difference = (predicted - reference)[inside]
    shift = comparison.mu
    if energy_zero == "fit" and inside.any():
        shift = float(difference.mean())
    return BandErrors(
        band_mae_meV=1e3 * float(np.abs(difference - shift).mean()) if inside.any() else 0.0,
        band_shift_meV=1e3 * shift,
        fermi_error_meV=1e3 * (predicted_fermi - shift - fermi),
        gap_error_meV=1e3 * (predicted_gap - gap),
        dos_distance=dos_distance(predicted - shift, reference, mesh.weights, level),
        ghost_states=float(guard.has_ghosts),
    )


def _level_and_gap(
    energies: np.ndarray, mesh: KMesh, n_electrons: float, spin: Spin
) -> tuple[float, float]:
    """Fermi level and gap in eV, both on the same mesh."""
    filling = fill_bands(energies, mesh.weights, n_electrons, spin=spin, kT=SMEARING)
    n_filled = round(n_electrons / spin.degeneracy)
    if filling.is_metal or not 0 < n_filled < energies.shape[2]:
        return filling.fermi_level, 0.0
    gap = energies[..., n_filled].min() - energies[..., n_filled - 1].max()
    return filling.fermi_level, float(gap)


def dos_distance(
    energies: np.ndarray, reference: np.ndarray, weights: np.ndarray, level: float
) -> float:
    """∫ |D − D_ref| dE / ∫ D_ref dE from level − 5 eV to level + 5 eV, broadened by 0.1 eV.

    Parameters
    ----------
    energies, reference : (n_spins, n_kpts, n_bands) eV
        On one scale.
    weights : (n_kpts,)
    level
        eV.

    Returns
    -------
    0 for equal, 2 for disjoint densities; 0 if the reference has no state there.
    """
    # five points to a σ: the trapezoidal rule is exact for sums of Gaussians then
    n = round(2 * BAND_WINDOW / DOS_SIGMA * 5) + 1
    grid = level + np.linspace(-BAND_WINDOW, BAND_WINDOW, n)
    spin = Spin.UNPOLARIZED  # what a state holds does not matter to the ratio
    dos, dos_reference = (
        total_dos(e, weights, sigma=DOS_SIGMA, spin=spin, energies=grid).get_weights()
        for e in (energies, reference)
    )
    n_states = np.trapezoid(dos_reference, grid)
    if n_states <= 1e-6:
        return 0.0
    return float(np.trapezoid(np.abs(dos - dos_reference), grid) / n_states)


@dataclass(frozen=True, eq=False)
class BandComparison:
    """Bands of a prediction and its reference along a path.

    Attributes
    ----------
    name
        Of the structure.
    predicted, reference : ase.spectrum.band_structure.BandStructure
        Relative to their ``reference`` energies, which belong together, both have the energies
        of the DFT code's scale.
    """

    name: str
    predicted: BandStructure
    reference: BandStructure


def compare_bands(
    predicted: RealSpaceMatrix, sample: Sample, shift: float
) -> BandComparison | None:
    """Bands along the lattice's path up to its first break; None if the structure has none.

    Parameters
    ----------
    predicted
        H in eV.
    sample
        The reference.
    shift
        eV, of the prediction's energy scale above the reference's.
    """
    try:
        whole = band_path(sample.atoms, npoints=2)
        path = band_path(sample.atoms, whole.path.split(",")[0], npoints=PATH_POINTS)
    except BandPathError:
        return None
    level = sample.fermi_level
    if level is None:
        mesh = build_mesh(sample.atoms, {"density": BAND_KPTS_DENSITY, "gamma": True})
        energies = eigenvalues_at_kpts(sample.hamiltonian, sample.overlap, mesh.ibz_kpts)
        level = _level_and_gap(energies, mesh, sample.n_electrons, sample.hamiltonian.spin)[0]
    with warnings.catch_warnings():  # the metrics tell of ghost states
        warnings.simplefilter("ignore", IllConditionedWarning)
        return BandComparison(
            sample.name,
            band_structure(predicted, sample.overlap, path, reference=level + shift),
            band_structure(sample.hamiltonian, sample.overlap, path, reference=level),
        )
