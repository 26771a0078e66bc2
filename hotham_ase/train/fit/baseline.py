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

from hotham_ase.matrices.energy_zero import best_shift
from hotham_ase.nn.baseline import Baseline, cubic_b_splines, two_centre_elements
from hotham_ase.nn.blocks import n_orbitals
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


def residual(baseline: Baseline, structure: FitStructure, shells: Sequence[int]) -> np.ndarray:
    """(n_elements,) eV: H − baseline − μS of a structure with the best μ, in frames of edges."""
    (h_on, h), (s_on, s) = structure.hamiltonian, structure.overlap
    frames = _frames(structure, shells)
    lengths = torch.linalg.vector_norm(structure.vectors.double(), dim=-1)
    fitted = baseline.hopping(lengths, structure.pair_kind)
    left = [
        h_on.double() - baseline.onsite[structure.species],
        _to_edge(frames, h.double()) - fitted,
    ]
    difference, overlap = (
        torch.cat([part.flatten() for part in parts]).numpy()
        for parts in (left, [s_on.double(), _to_edge(frames, s.double())])
    )
    return difference - best_shift(difference, overlap) * overlap


def _to_edge(frames: EdgeFrames, blocks: torch.Tensor) -> torch.Tensor:
    return frames.orbital @ blocks @ frames.orbital.transpose(1, 2)


def _frames(structure: FitStructure, shells: Sequence[int]) -> EdgeFrames:
    vectors = structure.vectors.double()
    return EdgeFrames.from_vectors(vectors, 0, tuple(shells), torch.float64)


def _constant_elements(shells: Sequence[int]) -> torch.Tensor:
    """(n, n_union²) for every pair of shells of equal l the diagonal of their block.

    These elements are left of an onsite block in the average over all directions.
    """
    starts = [n_orbitals(shells[:k]) for k in range(len(shells))]
    rows = []
    for a, la in zip(starts, shells, strict=True):
        for b, lb in zip(starts, shells, strict=True):
            if la == lb:
                m = torch.arange(2 * la + 1)
                element = torch.zeros(n_orbitals(shells), n_orbitals(shells), dtype=torch.float64)
                element[a + m, b + m] = 1.0
                rows.append(element.flatten())
    return torch.stack(rows)


class _Kind:
    """What the normal equations of one kind need: a pair of species, or a species onsite.

    Parameters
    ----------
    weight : (n_functions,)
        Elements of a block that share a function.
    n_basis
        Radial functions that expand it.
    ridge
        Relative to the mean diagonal of the normal matrix.
    """

    def __init__(self, weight: np.ndarray, n_basis: int, ridge: float) -> None:
        self.weight, self.ridge = weight, ridge
        self.normal = np.zeros((n_basis, n_basis))
        self.b_h = np.zeros((len(weight), n_basis))
        self.b_s: dict[int, np.ndarray] = {}  # by structure

    def add(self, structure: int, basis: np.ndarray, h: np.ndarray, s: np.ndarray) -> None:
        """Take (n, n_basis) functions and (n, n_functions) elements of blocks of a structure."""
        self.normal += basis.T @ basis
        self.b_h += h.T @ basis
        self.b_s[structure] = s.T @ basis

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(…, n_basis) coefficients that expand right sides (…, n_basis)."""
        ridge = self.ridge * max(np.trace(self.normal) / len(self.normal), 1e-30)
        matrix = self.normal + ridge * np.eye(len(self.normal))
        return np.linalg.solve(matrix, right.reshape(-1, len(matrix)).T).T.reshape(right.shape)

    def coefficients(self, mu: np.ndarray) -> torch.Tensor:
        """(n_functions, n_basis) for given energy zeros."""
        shifted = sum(mu[k] * b_s for k, b_s in self.b_s.items())
        return torch.tensor(self.solve(self.b_h - shifted))


class _Blocks:
    """The kinds of hopping, or of onsite, blocks: only those of the training set take memory.

    Parameters
    ----------
    elements : (n_functions, n_union²)
        The elements of a block that share a function.
    n_basis, ridge
        See :class:`_Kind`.
    """

    def __init__(self, elements: torch.Tensor, n_basis: int, ridge: float) -> None:
        self.elements, self.n_basis, self.ridge = elements, n_basis, ridge
        self.kinds: dict[int, _Kind] = {}

    def add(
        self,
        structure: int,
        kind_of: np.ndarray,
        basis: np.ndarray,
        blocks: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[float, float]:
        """Take H and S of a structure; gives Σ S² and Σ S H over the elements of all functions."""
        weight = self.elements.sum(1)
        h, s = ((x.double().flatten(1) @ self.elements.T / weight).numpy() for x in blocks)
        count = weight.numpy()
        for kind in np.unique(kind_of).tolist():
            of_kind = kind_of == kind
            if kind not in self.kinds:
                self.kinds[kind] = _Kind(count, self.n_basis, self.ridge)
            self.kinds[kind].add(structure, basis[of_kind], h[of_kind], s[of_kind])
        return (count * s * s).sum(), (count * s * h).sum()


class _Problem:
    """Normal equations, kind by kind."""

    def __init__(
        self, baseline: Baseline, structures: Sequence[FitStructure], shells: Sequence[int]
    ) -> None:
        self.baseline = baseline
        elements = two_centre_elements(shells).double()
        self.hopping = _Blocks(elements, baseline.n_splines, RIDGE)
        self.onsite = _Blocks(_constant_elements(shells), 1, 0.0)
        self.s_s, self.s_h = np.zeros((2, len(structures)))
        for k, structure in enumerate(structures):
            (h_on, h), (s_on, s) = structure.hamiltonian, structure.overlap
            frames = _frames(structure, shells)
            lengths = torch.linalg.vector_norm(structure.vectors.double(), dim=-1)
            splines = cubic_b_splines(lengths, baseline.cutoff, baseline.n_splines).numpy()
            blocks = _to_edge(frames, h.double()), _to_edge(frames, s.double())
            hopping = self.hopping.add(k, structure.pair_kind.numpy(), splines, blocks)
            ones = np.ones((len(h_on), 1))  # an onsite block does not depend on a distance
            onsite = self.onsite.add(k, structure.species.numpy(), ones, (h_on, s_on))
            self.s_s[k], self.s_h[k] = np.add(hopping, onsite)

    def energy_zeros(self) -> np.ndarray:
        """Solve for μ after eliminating all coefficients."""
        matrix, vector = np.diag(self.s_s), self.s_h.copy()
        for kind in (*self.hopping.kinds.values(), *self.onsite.kinds.values()):
            having = list(kind.b_s)  # structures
            b_s = np.stack(list(kind.b_s.values()))  # (n, n_functions, n_basis)
            solved = kind.solve(kind.weight[:, None] * b_s)
            matrix[np.ix_(having, having)] -= np.einsum("sfb,tfb->st", b_s, solved)
            vector[having] -= np.einsum("fb,sfb->s", kind.b_h, solved)
        # A common shift of structures that share no species with the others is not determined by
        # the data; a ridge chooses the one with the smallest μ.
        matrix += np.diag(SHIFT_RIDGE * self.s_s)
        mu = np.linalg.solve(matrix, vector)
        return mu - mu.mean()

    def store(self, mu: np.ndarray) -> None:
        """Put coefficients and onsite constants for given energy zeros into the baseline."""
        baseline = self.baseline
        baseline.cover(torch.tensor(list(self.hopping.kinds)))
        baseline.coefficients.zero_()
        baseline.onsite.zero_()
        for kind, sums in self.hopping.kinds.items():
            baseline.coefficients[baseline.row[kind]] = sums.coefficients(mu).T.to(baseline.onsite)
        for species, sums in self.onsite.kinds.items():
            constants = sums.coefficients(mu)[:, 0] @ self.onsite.elements
            baseline.onsite[species] = constants.view_as(baseline.onsite[species])


def window_of_lengths(lengths: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(n_edges, n_grid) weight of each pair in a local mean at each distance, Å."""
    return np.exp(-((lengths[:, None] - grid) ** 2) / (2 * SMOOTHING**2))


def _store_scales(
    baseline: Baseline, structures: Sequence[FitStructure], shells: Sequence[int], mu: np.ndarray
) -> None:
    """Root mean square of what the baseline leaves, per pair of shells and distance."""
    shell_of = torch.tensor([k for k, l in enumerate(shells) for _ in range(2 * l + 1)])
    to_shell = torch.nn.functional.one_hot(shell_of).double()  # (n_union, n_shells)
    size = to_shell.sum(0)
    n_shells, grid = len(shells), np.linspace(0, baseline.cutoff, baseline.n_bins)
    power: dict[int, np.ndarray] = {}  # by kind of pair; Σ w |error|², Σ w at each distance
    weight: dict[int, np.ndarray] = {}
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
        for kind in np.unique(structure.pair_kind.numpy()).tolist():
            of_kind = structure.pair_kind.numpy() == kind
            squares = np.einsum("er,eab->rab", window[of_kind], left[of_kind].numpy())
            power[kind] = power.get(kind, 0) + squares
            weight[kind] = weight.get(kind, 0) + window[of_kind].sum(0)
        left = mean_square(h_on - shift * s_on - baseline.onsite[structure.species])
        onsite_power.index_add_(0, structure.species, left)
        n_atoms.index_add_(0, structure.species, torch.ones(len(left), dtype=torch.float64))
    baseline.cover(torch.tensor(list(power)))
    for kind in power:
        known = weight[kind] > 1e-3
        if not known.any():
            continue
        # distances that no pair has get the scale of the nearest that has
        mean = power[kind][known] / weight[kind][known][:, None, None]
        log = 0.5 * np.log(mean + SCALE_FLOOR**2).reshape(known.sum(), -1)
        full = np.stack([np.interp(grid, grid[known], column) for column in log.T], axis=1)
        table = torch.tensor(full.reshape(-1, n_shells, n_shells))[:, shell_of][:, :, shell_of]
        baseline.log_scale[baseline.row[kind]] = table.to(baseline.log_scale)
    scale = (onsite_power / n_atoms.clamp(min=1)[:, None, None] + SCALE_FLOOR**2).sqrt()
    baseline.onsite_scale.copy_(scale[:, shell_of][:, :, shell_of])
