"""The tensors that describe a structure to the network, and the geometry derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from hotham_ase.nn.interaction import MessageGraph
from hotham_ase.nn.rotation import EdgeFrames


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
class Geometry:
    """All that depends on positions and species but not on learned parameters.

    It is made once per structure: layers recompute nothing of it, and training keeps it.

    Attributes
    ----------
    frames
        Frames of all hopping pairs.
    message_edges : (n_message_edges,) int64
        The hopping pairs on which messages travel.
    messages
        What the interactions need of them.
    radial : (n_edges, n_radial)
        Radial functions of the hopping pairs.
    taper : (n_edges, 1, 1)
        Takes the learned part of a hopping smoothly to zero at the cutoff.
    baseline : (n_edges, n_union, n_union) eV
        Two-centre part, global frame.
    scale : (n_edges, n_union, n_union) eV
        Typical size of the rest, the same in every frame.
    """

    frames: EdgeFrames
    message_edges: torch.Tensor
    messages: MessageGraph
    radial: torch.Tensor
    taper: torch.Tensor
    baseline: torch.Tensor
    scale: torch.Tensor


def join(graphs: Sequence[Graph], geometries: Sequence[Geometry]) -> tuple[Graph, Geometry]:
    """One graph of several disjoint structures, with the geometry they have already."""
    if len(graphs) == 1:
        return graphs[0], geometries[0]
    atoms = _starts([g.n_atoms for g in graphs])
    edges = _starts([g.n_edges for g in graphs])
    graph = Graph(
        species=torch.cat([g.species for g in graphs]),
        edge_index=torch.cat([g.edge_index + a for g, a in zip(graphs, atoms, strict=True)], 1),
        edge_vectors=torch.cat([g.edge_vectors for g in graphs]),
        reverse=torch.cat([g.reverse + e for g, e in zip(graphs, edges, strict=True)]),
        structure=torch.cat([g.structure + k for k, g in enumerate(graphs)]),
    )

    def cat(name: str) -> torch.Tensor:
        return torch.cat([getattr(g, name) for g in geometries])

    def cat_messages(name: str) -> torch.Tensor:
        return torch.cat([getattr(g.messages, name) for g in geometries])

    def cat_frames(frames: list[EdgeFrames]) -> EdgeFrames:
        return EdgeFrames(
            torch.cat([f.feature for f in frames]), torch.cat([f.orbital for f in frames])
        )

    messages = MessageGraph(
        i=torch.cat([g.messages.i + a for g, a in zip(geometries, atoms, strict=True)]),
        j=torch.cat([g.messages.j + a for g, a in zip(geometries, atoms, strict=True)]),
        species_i=cat_messages("species_i"),
        species_j=cat_messages("species_j"),
        radial=cat_messages("radial"),
        envelope=cat_messages("envelope"),
        frames=cat_frames([g.messages.frames for g in geometries]),
    )
    geometry = Geometry(
        frames=cat_frames([g.frames for g in geometries]),
        message_edges=torch.cat(
            [g.message_edges + e for g, e in zip(geometries, edges, strict=True)]
        ),
        messages=messages,
        radial=cat("radial"),
        taper=cat("taper"),
        baseline=cat("baseline"),
        scale=cat("scale"),
    )
    return graph, geometry


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:k]) for k in range(len(sizes))]
