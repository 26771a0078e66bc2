"""Pairs of the published network: their frames, and sums and means over them.

The frames of the two directions of a pair differ by half a turn about an axis of the frame: their
components differ by signs. So one frame is kept for a pair, that of its first direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hotham_ase.nn.embedding import chebyshev_functions
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.rotation import block_diagonal, wigner_matrices

PUBLISHED_PI = 3.1415927  # the published cutoff function has eight digits of π


@dataclass(frozen=True)
class PublishedGeometry:
    """All that depends on positions and species only. A pair is two edges, one of each direction.

    Attributes
    ----------
    i, j : (n_pairs,) int64
        Atoms of the first direction.
    place : (n_edges,) int64
        ``2 pair + direction`` of each edge.
    radial : (n_pairs, n_radial)
    rotation : (n_pairs, (l_max+1)², (l_max+1)²)
        From the global to the frame of the first direction, degree-major.
    turned : (n_pairs, (l_max+1)²)
        Signs that take components from the frame of the first direction to that of the second.
    orbital : (n_pairs, n_union, n_union)
        The rotation of orbitals.
    orbital_turned : (n_pairs, n_union)
        Their signs.
    n_atoms : (n_structures,) int64
        Atoms in each structure.
    """

    i: Tensor
    j: Tensor
    place: Tensor
    radial: Tensor
    rotation: Tensor
    turned: Tensor
    orbital: Tensor
    orbital_turned: Tensor
    n_atoms: Tensor

    @classmethod
    def from_graph(
        cls,
        graph: Graph,
        l_max: int,
        shells: tuple[int, ...],
        radial: tuple[int, float],
        dtype: torch.dtype,
    ) -> PublishedGeometry:
        """Build it.

        Parameters
        ----------
        graph
            Structures.
        l_max
            Degree of the features.
        shells
            Angular momenta of the orbitals.
        radial
            Number and range (Å) of the radial functions.
        dtype
            Precision; rotations are computed in that of the vectors.
        """
        edges = torch.arange(graph.n_edges, device=graph.reverse.device)
        # the direction that comes first in the list is the first of its pair
        first = (edges < graph.reverse).nonzero().squeeze(1)
        place = torch.empty_like(edges)
        pairs = torch.arange(len(first), device=edges.device)
        place[first] = 2 * pairs
        place[graph.reverse[first]] = 2 * pairs + 1
        vectors = graph.edge_vectors[first]
        wigner = wigner_matrices(polar_rotations(vectors), max(l_max, *shells))
        wigner = [d.to(dtype) for d in wigner]
        turned = turn_signs(vectors, len(wigner) - 1).to(dtype)
        lengths = torch.linalg.vector_norm(vectors, dim=-1)
        return cls(
            i=graph.edge_index[0, first],
            j=graph.edge_index[1, first],
            place=place,
            radial=published_radial(lengths, *radial).to(dtype),
            rotation=block_diagonal(wigner[: l_max + 1]),
            turned=turned[:, : (l_max + 1) ** 2],
            orbital=block_diagonal([wigner[l] for l in shells]),
            orbital_turned=torch.cat([turned[:, l * l : (l + 1) ** 2] for l in shells], dim=1),
            n_atoms=torch.bincount(graph.structure),
        )


def polar_rotations(vectors: Tensor) -> Tensor:
    """Rotations to the unit vectors of spherical coordinates (θ, φ, r) of each vector.

    Along ±z, where φ is not defined, it is 0, as the published code has it. Values and gradients
    are finite there, but not continuous.

    Parameters
    ----------
    vectors : (n_edges, 3)
        Non-zero vectors.

    Returns
    -------
    (n_edges, 3, 3), ``rotation @ vector = (0, 0, |vector|)``.
    """
    z = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    square = z[:, 0] ** 2 + z[:, 1] ** 2
    # along ±z every quotient below is replaced before it is made: a NaN would reach the gradient
    polar = square == 0
    sine = torch.where(polar, 1.0, square).sqrt()
    cos_phi = torch.where(polar, 1.0, z[:, 0] / sine)
    sin_phi = torch.where(polar, 0.0, z[:, 1] / sine)
    sine = torch.where(polar, 0.0, sine)
    theta = torch.stack([z[:, 2] * cos_phi, z[:, 2] * sin_phi, -sine], dim=1)
    phi = torch.stack([-sin_phi, cos_phi, torch.zeros_like(sine)], dim=1)
    return torch.stack([theta, phi, z], dim=1)


def turn_signs(vectors: Tensor, l_max: int) -> Tensor:
    """Signs of components between the frames of vectors and of their opposites.

    The second frame is the first turned by π about its x axis, or, along ±z, its y axis.

    Parameters
    ----------
    vectors : (n, 3)
    l_max
        Largest degree.

    Returns
    -------
    (n, (l_max+1)²), of the components in the order of degrees.
    """
    # half a turn about x: (θ, φ) → (π − θ, −φ), about y: (π − θ, π − φ)
    about_x, about_y = [], []
    for l in range(l_max + 1):
        for m in range(-l, l + 1):
            sine = -1 if m < 0 else 1
            about_x.append(sine * (-1) ** (l + m))
            about_y.append(sine * (-1) ** l)
    polar = (vectors[:, :2] == 0).all(dim=1, keepdim=True)
    return torch.where(polar, vectors.new_tensor(about_y), vectors.new_tensor(about_x))


def published_radial(lengths: Tensor, n_radial: int, cutoff: float) -> Tensor:
    """(n_edges, n_radial) Chebyshev functions from (n_edges,) Å.

    ``(T_m(x) + 1)/2 × (cos(π r/c) + 1)/2`` with ``x = 2 (r/c − 1)² − 1``.
    """
    envelope = (torch.cos(PUBLISHED_PI / cutoff * lengths) + 1) / 2
    return chebyshev_functions(lengths, n_radial, cutoff) * envelope[:, None]


class StructureMeans:
    """Means over the rows of a tensor, atoms or pairs, that belong to one structure.

    Parameters
    ----------
    structure : (n,) int64
        Structure of each row.
    weight : (n, 1)
        How often each row counts.
    n_structures
        Their number.
    """

    def __init__(self, structure: Tensor, weight: Tensor, n_structures: int) -> None:
        self.structure, self.n_structures = structure, n_structures
        total = weight.new_zeros(n_structures, 1).index_add(0, structure, weight)
        self.weight = weight / total.index_select(0, structure)

    def mean(self, x: Tensor) -> Tensor:
        """(n_structures, k) from (n, k)."""
        if self.n_structures == 1:
            return self.weight.T @ x
        return x.new_zeros(self.n_structures, x.shape[1]).index_add(
            0, self.structure, x * self.weight
        )

    def spread(self, x: Tensor) -> Tensor:
        """(n, …) from (n_structures, …), or a view that broadcasts where there is one."""
        if self.n_structures == 1:
            return x
        return x.index_select(0, self.structure)


class PairContext:
    """What layers need of pairs and, after these, of atoms with themselves.

    An atom with itself is a pair, too, with both directions the same; it counts once.

    Parameters
    ----------
    graph
        Structures.
    geometry
        Their pairs.
    species : (n_atoms, n_species)
        Embedding of each atom.
    own_radial : (1, n_radial)
        Radial functions at distance 0.
    """

    def __init__(
        self, graph: Graph, geometry: PublishedGeometry, species: Tensor, own_radial: Tensor
    ) -> None:
        g, n_atoms = geometry, graph.n_atoms
        atoms = torch.arange(n_atoms, device=g.i.device)
        self.n_pairs, self.n_species, self.species = len(g.i), species.shape[1], species
        self.i, self.j, self.turned, self.orbital = g.i, g.j, g.turned, g.orbital
        self.atoms = torch.stack([torch.cat([g.i, atoms]), torch.cat([g.j, atoms])], dim=1)
        signs = g.orbital_turned  # of blocks between the frames of both directions
        self.block_signs = signs[:, :, None] * signs[:, None]
        # messages go to the second atom of a direction; of an atom with itself only one counts
        nowhere = torch.full_like(atoms, n_atoms)
        self.ends = torch.stack([self.atoms[:, 1], torch.cat([g.i, nowhere])], dim=1).flatten()
        ones = species.new_ones(len(self.ends), 1)
        self.counts = species.new_zeros(n_atoms + 1, 1).index_add(0, self.ends, ones)[:-1]
        self.radial = torch.cat([g.radial, own_radial.expand(n_atoms, -1)])
        identity = torch.eye(g.rotation.shape[1], device=atoms.device, dtype=species.dtype)
        self.rotation = torch.cat([g.rotation, identity.expand(n_atoms, -1, -1)])
        self.zonal = self._zonal(math.isqrt(len(identity)) - 1)
        ends = species.index_select(0, self.atoms.flatten()).unflatten(0, (-1, 2))
        radial = self.radial[:, None].expand(-1, 2, -1)
        self.site = torch.cat([ends, ends.flip(1), radial], dim=2)
        n_structures = len(g.n_atoms)
        one = torch.ones_like(self.counts)
        self.atom_means = StructureMeans(graph.structure, one, n_structures)
        weight = torch.ones_like(self.radial[:, :1])
        weight[: self.n_pairs] = 2
        structure = graph.structure.index_select(0, self.atoms[:, 0])
        self.edge_means = StructureMeans(structure, weight, n_structures)

    def _zonal(self, l_max: int) -> Tensor:
        """(n_pairs + n_atoms, l_max+1) m = 0 harmonics in the frame; l = 0 only without one."""
        polar = [math.sqrt((2 * l + 1) / (4 * math.pi)) for l in range(l_max + 1)]
        zonal = self.radial.new_tensor(polar).repeat(len(self.radial), 1)
        zonal[self.n_pairs :, 1:] = 0
        return zonal

    def gather(self, nodes: Tensor) -> Tensor:
        """(n_pairs + n_atoms, n_components, 2 channels): features of both atoms."""
        flat = nodes.flatten(1)  # whose gradient is summed much faster than that of three axes
        ends = [flat.index_select(0, k).view(-1, *nodes.shape[1:]) for k in self.atoms.unbind(1)]
        return torch.cat(ends, dim=2)

    def average(self, messages: Tensor) -> Tensor:
        """(n_atoms, …) means over the edges that end at an atom.

        Parameters
        ----------
        messages : (n_pairs or n_pairs + n_atoms, 2, …)
            Where those of atoms with themselves are missing they count as zeros.
        """
        flat = messages.flatten(0, 1).flatten(1)
        total = flat.new_zeros(len(self.counts) + 1, flat.shape[1])
        total = total.index_add(0, self.ends[: len(flat)], flat)[:-1] / self.counts
        return total.unflatten(1, messages.shape[2:])

    def turn(self, means: Tensor) -> Tensor:
        """(n_pairs, 2 n_components), both parities, to the frame of the other direction."""
        return means * self.turned[:, : means.shape[1] // 2].repeat(1, 2)

    def to_global(self, means: Tensor) -> Tensor:
        """(n_pairs, 2 n_components), both parities, from the frame of the first direction."""
        n = means.shape[1] // 2
        rotation = self.rotation[: self.n_pairs, :n, :n]
        return torch.bmm(means.unflatten(1, (2, n)), rotation).flatten(1)
