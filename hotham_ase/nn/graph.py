"""The tensors that describe a structure to the network, and the geometry derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from hotham_ase.nn.rotation import EdgeFrames

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Graph:
    """One structure or several disjoint ones.

    Attributes
    ----------
    species : (n_atoms,) int64
        Index into the model's species.
    edge_index : (2, n_edges) int64
        All hopping pairs, both directions.
    edge_vectors : (n_edges, 3) float64, Å
    reverse : (n_edges,) int64
        Index of each edge's reverse.
    structure : (n_atoms,) int64
        Which structure an atom belongs to.
    """

    species: torch.Tensor
    edge_index: torch.Tensor
    edge_vectors: torch.Tensor
    reverse: torch.Tensor
    structure: torch.Tensor

    def to(self, device: torch.device | str) -> Graph:
        """The same on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def n_atoms(self) -> int:
        """Atoms in all structures."""
        return len(self.species)

    @property
    def n_edges(self) -> int:
        """Directed pairs in all structures."""
        return self.edge_index.shape[1]


@dataclass(frozen=True)
class MessageGraph:
    """What every interaction needs of the edges on which messages travel.

    Attributes
    ----------
    i, j : (n_message_edges,) int64
        Atoms; messages go from the edge to i.
    species_i, species_j : (n_message_edges,) int64
    radial : (n_message_edges, n_radial)
    envelope : (n_message_edges, 1, 1)
        Smooth cutoff.
    frames
        Edge frames.
    """

    i: torch.Tensor
    j: torch.Tensor
    species_i: torch.Tensor
    species_j: torch.Tensor
    radial: torch.Tensor
    envelope: torch.Tensor
    frames: EdgeFrames


@dataclass(frozen=True)
class HoppingGraph:
    """What the readout needs of the pairs that have a block; closed under reversal.

    Attributes
    ----------
    i, j : (n_edges,) int64
        Atoms.
    species_i, species_j : (n_edges,) int64
    reverse : (n_edges,) int64
        Position of each pair's reverse.
    radial : (n_edges, n_radial)
    frames
        Edge frames.
    baseline : (n_edges, n_union, n_union) eV
        Two-centre part, edge frame.
    scale : (n_edges, n_union, n_union) eV
        Typical size of the rest, taken smoothly to zero at the cutoff; edge frame.
    """

    i: torch.Tensor
    j: torch.Tensor
    species_i: torch.Tensor
    species_j: torch.Tensor
    reverse: torch.Tensor
    radial: torch.Tensor
    frames: EdgeFrames
    baseline: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class Geometry:
    """All that depends on positions and species but not on learned parameters.

    It is made once per structure: layers recompute nothing of it, and training keeps it.

    Attributes
    ----------
    messages
        Geometry of the message edges.
    message_edges : (n_message_edges,) int64
        Which of the hopping pairs they are.
    hoppings
        Geometry of all hopping pairs.
    """

    messages: MessageGraph
    message_edges: torch.Tensor
    hoppings: HoppingGraph


AnyGeometry = TypeVar("AnyGeometry", bound="DataclassInstance")


def join(graphs: Sequence[Graph], geometries: Sequence[AnyGeometry]) -> tuple[Graph, AnyGeometry]:
    """One graph of several disjoint structures, with the geometry they have already.

    The geometry is that of any network: a dataclass of tensors and of such dataclasses, the fields
    of which are indices of atoms (i, j) or of edges (reverse, message_edges, place), or neither.
    """
    if len(graphs) == 1:
        return graphs[0], geometries[0]
    atoms = _starts([g.n_atoms for g in graphs])
    edges = _starts([g.n_edges for g in graphs])
    structures = _starts([int(g.structure.max()) + 1 for g in graphs])
    graph = Graph(
        species=torch.cat([g.species for g in graphs]),
        edge_index=torch.cat([g.edge_index + a for g, a in zip(graphs, atoms, strict=True)], 1),
        edge_vectors=torch.cat([g.edge_vectors for g in graphs]),
        reverse=torch.cat([g.reverse + e for g, e in zip(graphs, edges, strict=True)]),
        structure=torch.cat([g.structure + s for g, s in zip(graphs, structures, strict=True)]),
    )
    # structures stay disjoint: indices only move to where the atoms and edges of each begin
    starts = {"i": atoms, "j": atoms}
    starts |= dict.fromkeys(("reverse", "message_edges", "place"), edges)
    return graph, _join_fields(geometries, starts)


def _join_fields(items: Sequence[AnyGeometry], starts: dict[str, list[int]]) -> AnyGeometry:
    """Concatenate field by field; ``starts`` says what to add to fields that are indices."""
    joined: dict[str, Any] = {}
    for field in fields(items[0]):
        values = [getattr(item, field.name) for item in items]
        if is_dataclass(values[0]):
            joined[field.name] = _join_fields(values, starts)
        else:
            if field.name in starts:
                values = [v + s for v, s in zip(values, starts[field.name], strict=True)]
            joined[field.name] = torch.cat(values)
    return type(items[0])(**joined)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:k]) for k in range(len(sizes))]
