"""Closed-form fit of the two-centre baseline together with every structure's energy zero.

A DFT code's zero of energy depends on the cell, so that structures of different volume disagree by
H → H + μS. The fit finds, in one linear least-squares problem, the spline coefficients c, the
onsite constants and one μ for every structure:

    minimise Σ w (H − μ_s S − B c)²

over the elements that axial symmetry allows. The coefficients are eliminated (variable
projection), which leaves a small dense system for μ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hotham_ase.nn.baseline import Baseline, BlockPattern, cubic_b_splines
from hotham_ase.nn.rotation import EdgeFrames

RIDGE = 1e-7  # relative to the mean diagonal of the normal matrix
SHIFT_RIDGE = 1e-4  # relative to Σ S² of a structure
SCALE_FLOOR = 1e-5  # eV
SMOOTHING = 0.3  # Å, standard deviation of the window in which scales are averaged


@dataclass(frozen=True)
class FitStructure:
    """What the fit needs of one structure; blocks are on the union of shells, global frame.

    Attributes
    ----------
    species : (n_atoms,) int
    pair_kind : (n_edges,) int
    vectors : (n_edges, 3) Å
    hamiltonian, overlap : (onsite, hopping)
        Blocks (n_atoms, n_union, n_union) and (n_edges, n_union, n_union).
    """

    species: torch.Tensor
    pair_kind: torch.Tensor
    vectors: torch.Tensor
    hamiltonian: tuple[torch.Tensor, torch.Tensor]
    overlap: tuple[torch.Tensor, torch.Tensor]


def fit_baseline(
    baseline: Baseline,
    structures: Sequence[FitStructure],
    shells: Sequence[int],
    *,
    fit_zeros: bool = True,
) -> np.ndarray:
    """Fit and store coefficients, onsite constants and scales in ``baseline``.

    Parameters
    ----------
    baseline
        Changed in place.
    structures
        The training set.
    shells
        The union of shells.
    fit_zeros
        Whether every structure has its own zero of energy; otherwise all μ are 0.

    Returns
    -------
    (n_structures,) eV, the energy zero μ of every structure, with zero mean.
    """
    problem = _Problem(baseline, structures, shells)
    mu = problem.energy_zeros() if fit_zeros else np.zeros(len(structures))
    problem.store(mu)
    _store_scales(baseline, structures, shells, mu)
    return mu


def fit_scales(
    baseline: Baseline, structures: Sequence[FitStructure], shells: Sequence[int]
) -> None:
    """Fit the scales to H itself: a network that has to learn all of it.

    Parameters
    ----------
    baseline
        Changed in place; its coefficients and onsite constants stay zero.
    structures, shells
        See :func:`fit_baseline`.
    """
    _store_scales(baseline, structures, shells, np.zeros(len(structures)))


def _to_edge(frames: EdgeFrames, blocks: torch.Tensor) -> torch.Tensor:
    return frames.orbital @ blocks @ frames.orbital.transpose(1, 2)


def _frames(structure: FitStructure, shells: Sequence[int]) -> EdgeFrames:
    vectors = structure.vectors.double()
    return EdgeFrames.from_vectors(vectors, 0, tuple(shells), torch.float64)


class _Problem:
    """Normal equations, kind by kind; a kind is a pair of species, or a species onsite."""

    def __init__(
        self, baseline: Baseline, structures: Sequence[FitStructure], shells: Sequence[int]
    ) -> None:
        self.baseline, self.n_structures = baseline, len(structures)
        self.elements = BlockPattern(shells).elements.double()  # (n_functions, n_union²)
        self.count = self.elements.sum(1)
        n_functions, n = len(self.elements), self.n_structures
        n_kinds, n_splines = baseline.n_species**2, baseline.n_splines
        # hoppings: basis functions are splines
        self.normal = np.zeros((n_kinds, n_splines, n_splines))
        self.b_h = np.zeros((n_kinds, n_functions, n_splines))
        self.b_s = np.zeros((n, n_kinds, n_functions, n_splines))
        # onsite: the only basis function is 1, and only scalars of equal l are constants
        onsite = self._scalar_pattern(shells)
        self.onsite_elements, self.onsite_count = onsite, onsite.sum(1)
        n_species, n_onsite = baseline.n_species, len(onsite)
        self.n_atoms = np.zeros(n_species)
        self.o_h = np.zeros((n_species, n_onsite))
        self.o_s = np.zeros((n, n_species, n_onsite))
        self.s_s = np.zeros(n)
        self.s_h = np.zeros(n)
        for k, structure in enumerate(structures):
            self._add(k, structure, shells)

    @staticmethod
    def _scalar_pattern(shells: Sequence[int]) -> torch.Tensor:
        """(n, n_union²) for every pair of shells of equal l the diagonal of their block."""
        starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
        rows = []
        for a, la in enumerate(shells):
            for b, lb in enumerate(shells):
                if la == lb:
                    element = torch.zeros(int(starts[-1]), int(starts[-1]), dtype=torch.float64)
                    for m in range(2 * la + 1):
                        element[starts[a] + m, starts[b] + m] = 1.0
                    rows.append(element.flatten())
        return torch.stack(rows)

    def _add(self, k: int, structure: FitStructure, shells: Sequence[int]) -> None:
        frames = _frames(structure, shells)
        h, s = (
            (_to_edge(frames, blocks.double()).flatten(1) @ self.elements.T / self.count).numpy()
            for blocks in (structure.hamiltonian[1], structure.overlap[1])
        )
        weight = self.count.numpy()
        lengths = torch.linalg.vector_norm(structure.vectors.double(), dim=-1)
        splines = cubic_b_splines(lengths, self.baseline.cutoff, self.baseline.n_splines).numpy()
        self.s_s[k] += (weight * s * s).sum()
        self.s_h[k] += (weight * s * h).sum()
        for kind in np.unique(structure.pair_kind.numpy()):
            of_kind = structure.pair_kind.numpy() == kind
            b = splines[of_kind]
            self.normal[kind] += b.T @ b
            self.b_h[kind] += h[of_kind].T @ b
            self.b_s[k, kind] += s[of_kind].T @ b
        h, s = (
            (blocks.double().flatten(1) @ self.onsite_elements.T / self.onsite_count).numpy()
            for blocks in (structure.hamiltonian[0], structure.overlap[0])
        )
        weight = self.onsite_count.numpy()
        self.s_s[k] += (weight * s * s).sum()
        self.s_h[k] += (weight * s * h).sum()
        for species in np.unique(structure.species.numpy()):
            of_kind = structure.species.numpy() == species
            self.n_atoms[species] += of_kind.sum()
            self.o_h[species] += h[of_kind].sum(0)
            self.o_s[k, species] += s[of_kind].sum(0)

    def _solve(self, kind: int, right: np.ndarray) -> np.ndarray:
        normal = self.normal[kind]
        ridge = RIDGE * max(np.trace(normal) / len(normal), 1e-30)
        return np.linalg.solve(normal + ridge * np.eye(len(normal)), right)

    def energy_zeros(self) -> np.ndarray:
        """Solve for μ after eliminating all coefficients."""
        matrix, vector = np.diag(self.s_s), self.s_h.copy()
        weight = self.count.numpy()[:, None]
        for kind in range(len(self.normal)):
            b_s, b_h = self.b_s[:, kind], self.b_h[kind]  # (n, n_f, n_b), (n_f, n_b)
            solved = self._solve(kind, (weight * b_s).reshape(-1, b_s.shape[-1]).T)
            solved = solved.T.reshape(b_s.shape)
            matrix -= np.einsum("sfb,tfb->st", b_s, solved)
            vector -= np.einsum("fb,sfb->s", b_h, solved)
        present = np.maximum(self.n_atoms, 1)
        weighted = self.o_s * self.onsite_count.numpy() / present[:, None]
        matrix -= np.einsum("sko,tko->st", self.o_s, weighted)
        vector -= np.einsum("ko,sko->s", self.o_h, weighted)
        # A common shift of structures that share no species with the others is not determined by
        # the data; a ridge chooses the one with the smallest μ.
        matrix += np.diag(SHIFT_RIDGE * self.s_s)
        mu = np.linalg.solve(matrix, vector)
        return mu - mu.mean()

    def store(self, mu: np.ndarray) -> None:
        """Put coefficients and onsite constants for given energy zeros into the baseline."""
        for kind in range(len(self.normal)):
            right = self.b_h[kind] - np.tensordot(mu, self.b_s[:, kind], 1)
            coefficients = self._solve(kind, right.T)  # (n_splines, n_functions)
            self.baseline.coefficients[kind] = torch.tensor(coefficients)
        mean = self.o_h - np.tensordot(mu, self.o_s, 1)
        mean /= np.maximum(self.n_atoms, 1)[:, None]
        onsite = torch.tensor(mean) @ self.onsite_elements
        self.baseline.onsite.copy_(onsite.view_as(self.baseline.onsite))


def window_of_lengths(lengths: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(n_edges, n_grid) weight of each pair in a local mean at each distance, Å."""
    return np.exp(-((lengths[:, None] - grid) ** 2) / (2 * SMOOTHING**2))


def _store_scales(
    baseline: Baseline,
    structures: Sequence[FitStructure],
    shells: Sequence[int],
    mu: np.ndarray,
) -> None:
    """Root mean square of what the baseline leaves, per pair of shells and distance."""
    shell_of = torch.tensor([k for k, l in enumerate(shells) for _ in range(2 * l + 1)])
    to_shell = torch.nn.functional.one_hot(shell_of).double()  # (n_union, n_shells)
    size = to_shell.sum(0)
    n_kinds, n_shells = baseline.n_species**2, len(shells)
    grid = np.linspace(0, baseline.cutoff, baseline.n_bins)
    power = np.zeros((n_kinds, baseline.n_bins, n_shells, n_shells))
    weight = np.zeros((n_kinds, baseline.n_bins))
    onsite_power = torch.zeros(baseline.n_species, n_shells, n_shells, dtype=torch.float64)
    n_atoms = torch.zeros(baseline.n_species, dtype=torch.float64)

    def mean_square(blocks: torch.Tensor) -> torch.Tensor:
        summed = torch.einsum("nij,ia,jb->nab", blocks.double() ** 2, to_shell, to_shell)
        return summed / (size[:, None] * size)

    for structure, shift in zip(structures, mu, strict=True):
        frames = _frames(structure, shells)
        lengths = torch.linalg.vector_norm(structure.vectors.double(), dim=-1)
        (h_on, h), (s_on, s) = structure.hamiltonian, structure.overlap
        two_centre = baseline.hopping(lengths.to(baseline.coefficients), structure.pair_kind)
        left = mean_square(_to_edge(frames, (h - shift * s).double()) - two_centre.double())
        window = window_of_lengths(lengths.numpy(), grid)
        for kind in np.unique(structure.pair_kind.numpy()):
            of_kind = structure.pair_kind.numpy() == kind
            power[kind] += np.einsum("er,eab->rab", window[of_kind], left[of_kind].numpy())
            weight[kind] += window[of_kind].sum(0)
        left = mean_square(h_on - shift * s_on - baseline.onsite[structure.species])
        onsite_power.index_add_(0, structure.species, left)
        n_atoms.index_add_(0, structure.species, torch.ones(len(left), dtype=torch.float64))
    for kind in range(n_kinds):
        known = weight[kind] > 1e-3
        if not known.any():
            continue
        mean = power[kind][known] / weight[kind][known][:, None, None]
        log = 0.5 * np.log(mean + SCALE_FLOOR**2).reshape(known.sum(), -1)
        full = np.stack([np.interp(grid, grid[known], column) for column in log.T], axis=1)
        table = torch.tensor(full.reshape(-1, n_shells, n_shells))
        baseline.log_scale[kind] = table[:, shell_of][:, :, shell_of]
    scale = (onsite_power / n_atoms.clamp(min=1)[:, None, None] + SCALE_FLOOR**2).sqrt()
    baseline.onsite_scale.copy_(scale[:, shell_of][:, :, shell_of])
