"""From samples to what the network trains on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import LevelError, Sought
from hotham_ase.model.tensors import build_graph, cutoffs, to_union
from hotham_ase.nn.graph import Geometry, Graph, join
from hotham_ase.nn.protocol import Network
from hotham_ase.train.fit.baseline import FitStructure

if TYPE_CHECKING:
    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

NEGLIGIBLE = 1e-4  # eV
EIGENBASIS_LIMIT = 2000  # orbitals
EIGENBASIS_DECAY = 10.0  # eV above the Fermi level at which an error counts half


@dataclass(frozen=True)
class Target:
    """The blocks to learn, on the union of shells, in eV; S beside them for the energy zero.

    Attributes
    ----------
    onsite, onsite_overlap : (n_atoms, n_union, n_union)
    hopping, hopping_overlap : (n_edges, n_union, n_union)
    exists : (n_atoms, n_union)
        1 for the orbitals that an atom has.
    """

    onsite: torch.Tensor
    hopping: torch.Tensor
    onsite_overlap: torch.Tensor
    hopping_overlap: torch.Tensor
    exists: torch.Tensor


@dataclass(frozen=True)
class Eigenbasis:
    """The reference's eigenvectors, to measure errors of H where physics feels them.

    The k-points are time-reversal invariant, so that H(k), S(k) and the eigenvectors are real.

    Attributes
    ----------
    vectors : (n_kpts, n_basis, n_basis)
        Columns are eigenvectors, C† S C = 1, each times its weight ``1 / (1 + (ε − E_F) / 10 eV)``
        above E_F and 1 below.
    energies : (n_kpts, n_basis)
        ε in eV, relative to the Fermi level.
    damping : (n_kpts, n_basis)
        What the eigenvectors were divided by.
    phases : (n_kpts, n_edges)
        exp(2πi k·R) of every pair, ±1.
    orbitals : (n_basis,) int64
        The orbitals that exist among n_atoms × n_union.
    """

    vectors: torch.Tensor
    energies: torch.Tensor
    damping: torch.Tensor
    phases: torch.Tensor
    orbitals: torch.Tensor


@dataclass(frozen=True)
class Prepared:
    """A structure, or several joined into one, ready for a training step.

    Attributes
    ----------
    graph, geometry, target
        Of all structures.
    eigenbases
        One for each structure; None for those with more than ``EIGENBASIS_LIMIT`` orbitals.
    """

    graph: Graph
    geometry: Geometry
    target: Target
    eigenbases: tuple[Eigenbasis | None, ...]

    def to(self, device: torch.device) -> Prepared:
        """The same on another device."""
        return _move(self, device)

    @property
    def n_elements(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_atoms,), (n_edges,) elements of every onsite and hopping block that exist."""
        of_atom = self.target.exists.sum(1)
        return of_atom**2, of_atom[self.graph.edge_index].prod(0)


def _move(item: Any, device: torch.device) -> Any:
    if isinstance(item, torch.Tensor):
        return item.to(device)
    if item is None or isinstance(item, int):
        return item
    if isinstance(item, tuple):
        return tuple(_move(part, device) for part in item)
    return replace(item, **{f.name: _move(getattr(item, f.name), device) for f in fields(item)})


def to_learn(sample: Sample) -> RealSpaceMatrix:
    """What a network should predict: H, or H − H0 where the sample has an initial Hamiltonian.

    Errors of H − H0 are those of H, so that eigenvectors and energies stay those of the whole H.
    """
    if sample.initial_hamiltonian is None:
        return sample.hamiltonian
    return sample.hamiltonian - sample.initial_hamiltonian


def target_blocks(
    sample: Sample, basis: OrbitalBasis, network: Network
) -> tuple[Graph, np.ndarray, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Graph, cell shifts, and blocks (onsite, hopping) to learn and of S on the network's pairs."""
    pairs, graph = build_graph(sample.atoms, basis, network.config.hopping_margin)
    h = to_union(to_learn(sample).on_pairs(pairs), basis, network)
    s = to_union(sample.overlap.on_pairs(pairs), basis, network)
    return graph, pairs.cell_shifts, h, s


def hopping_margin(samples: Iterable[Sample]) -> float:
    """Å by which elements to learn above 0.1 meV reach farther than the orbitals of their atoms.

    H − H0 with a given H0 reaches no farther than the orbitals where only local potentials differ:
    projectors are the same in both.
    """
    margin = 0.0
    for sample in samples:
        matrix, basis = to_learn(sample), sample.basis
        reach = np.array(cutoffs(basis))
        i, j = basis.species_index(matrix.pairs.numbers)[matrix.pairs.edge_index]
        beyond = matrix.pairs.edge_lengths - reach[i, j]
        if len(beyond) and beyond.max() >= 0:
            largest = matrix.layout.largest(matrix.values)[matrix.pairs.n_atoms :]
            margin = max(margin, float(beyond[largest > NEGLIGIBLE].max(initial=0.0)))
    return math.ceil(10 * margin) / 10


def fit_structure(sample: Sample, basis: OrbitalBasis, network: Network) -> FitStructure:
    """What the closed-form baseline needs of a sample."""
    graph, _, h, s = target_blocks(sample, basis, network)
    species_i, species_j = graph.species[graph.edge_index]
    return FitStructure(
        species=graph.species,
        pair_kind=species_i * len(basis.species) + species_j,
        vectors=graph.edge_vectors,
        hamiltonian=(torch.tensor(h[0]), torch.tensor(h[1])),
        overlap=(torch.tensor(s[0]), torch.tensor(s[1])),
    )


def prepare(sample: Sample, basis: OrbitalBasis, network: Network, index: int = 0) -> Prepared:
    """Graph, geometry and target of a sample, in the network's precision, on the CPU.

    Parameters
    ----------
    index
        Number of the sample in its data set; it selects the k-point of its eigenbasis.
    """
    graph, shifts, h, s = target_blocks(sample, basis, network)
    dtype = next(network.parameters()).dtype
    # blocks have the shape of the union of all species' shells, whatever orbitals exist
    has = torch.zeros(len(basis.species), h[0].shape[-1])
    for k, orbitals in enumerate(network.orbitals):
        has[k, orbitals] = 1.0
    exists = has[graph.species].to(dtype)
    target = Target(
        onsite=torch.tensor(h[0], dtype=dtype),
        hopping=torch.tensor(h[1], dtype=dtype),
        onsite_overlap=torch.tensor(s[0], dtype=dtype),
        hopping_overlap=torch.tensor(s[1], dtype=dtype),
        exists=exists,
    )
    with torch.no_grad():
        device = network.cutoffs.device
        geometry = _move(network.geometry(graph.to(device)), torch.device("cpu"))
    of_basis = exists.flatten().nonzero().squeeze(1)
    eigenbasis = _eigenbasis(sample, of_basis, shifts, index, dtype)
    return Prepared(graph, geometry, target, (eigenbasis,))


def _eigenbasis(
    sample: Sample,
    orbitals: torch.Tensor,
    shifts: np.ndarray,
    index: int,
    dtype: torch.dtype,
) -> Eigenbasis | None:
    """Γ and one more k-point with k = −k; ``index`` walks through these.

    None for large structures, for spinors, whose H(k) is complex at these k-points too, and where S
    is nearly singular or H has ghost states: errors along such directions would count for all
    others.
    """
    spin = sample.hamiltonian.spin
    if len(orbitals) > EIGENBASIS_LIMIT or not spin.is_real:
        return None
    corner = 1 + index % 7
    kpts = np.array([(0, 0, 0), [0.5 * (corner >> axis & 1) for axis in range(3)]])
    kpts[1] *= sample.atoms.pbc
    vectors, levels, damping, edges = [], [], [], []
    guard = Guard.of(sample.hamiltonian, sample.overlap)
    for kpt in kpts:
        h_k, s_k = (
            matrix.at_k(kpt, format="dense").real for matrix in (sample.hamiltonian, sample.overlap)
        )
        # with k = −k the phases are ±1, and what is imaginary is rounding
        try:
            states = guard.solve(DenseSolver(), h_k, s_k, Sought())
        except LevelError:
            return None
        if states.n_removed:
            return None
        energies, c = states.eigenvalues, states.columns
        occupied = min(max(round(sample.n_electrons / spin.degeneracy), 1), len(energies))
        above = np.clip(energies - energies[occupied - 1], 0, None)
        vectors.append(c / (1 + above / EIGENBASIS_DECAY))
        levels.append(energies)
        damping.append(1 + above / EIGENBASIS_DECAY)
        edges.append((energies[occupied - 1], energies[min(occupied, len(energies) - 1)]))
    fermi = sample.fermi_level
    if fermi is None:  # between the highest occupied and the lowest empty of these k-points
        fermi = (max(below for below, _ in edges) + min(above for _, above in edges)) / 2
    phases = np.cos(2 * np.pi * (kpts @ shifts.T))
    return Eigenbasis(
        vectors=torch.tensor(np.stack(vectors), dtype=dtype),
        energies=torch.tensor(np.stack(levels) - fermi, dtype=dtype),
        damping=torch.tensor(np.stack(damping), dtype=dtype),
        phases=torch.tensor(phases, dtype=dtype),
        orbitals=orbitals,
    )


def collate(items: Sequence[Prepared]) -> Prepared:
    """Several structures as one disjoint graph."""
    if len(items) == 1:
        return items[0]
    graph, geometry = join([p.graph for p in items], [p.geometry for p in items])
    target = Target(
        **{f.name: torch.cat([getattr(p.target, f.name) for p in items]) for f in fields(Target)}
    )
    eigenbases = tuple(e for p in items for e in p.eigenbases)
    return Prepared(graph, geometry, target, eigenbases)
