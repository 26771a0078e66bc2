"""Prediction in portions, so that memory stays within a budget whatever the number of atoms.

Pairs are processed in portions: the geometry of hopping pairs exists for one portion at a time,
that of message edges, which every layer needs, for as long as their atoms are worked on. Where even
that is too much, atoms are divided into spatial blocks. The hopping pairs of a block need the
features of their two atoms, and these need the edges of all atoms within as many steps on the
message graph as there are interactions: the halo. Blocks are exact, not an approximation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from hotham_ase.memory import format_size
from hotham_ase.nn.blocks import n_orbitals
from hotham_ase.nn.graph import Graph, HoppingGraph, MessageGraph
from hotham_ase.nn.orders import Orders, join_orders
from hotham_ase.nn.protocol import BlockSink, DescribedBlocks
from hotham_ase.nn.rotation import DENSE_UP_TO

if TYPE_CHECKING:
    from hotham_ase.nn.model import HotHam

# pairs in a portion: on a CPU features should stay in the cache, a GPU wants many at once
PORTION, PORTION_ELSEWHERE = 4096, 131072

EdgeGraph = TypeVar("EdgeGraph", MessageGraph, HoppingGraph)


def predict_blocks(
    network: HotHam,
    graph: Graph,
    positions: torch.Tensor,
    sinks: Sequence[BlockSink],
    memory: float,
    portion: int | None = None,
) -> None:
    """Predict all blocks of a structure, see :meth:`Network.predict_blocks`.

    ``portion`` is the largest number of pairs at once; by default what suits the device.
    """
    costs = _Costs.of(network)
    portion = _portion(graph) if portion is None else portion
    # at most half of the memory is for a portion, the rest for the atoms that it is taken from
    portion = max(2, int(min(portion, memory / 2 // costs.hopping_pair)))
    halo = _Halo(network, graph)
    for region in _regions(halo, positions, memory - portion * costs.hopping_pair, costs):
        _predict_region(network, graph, region, sinks, portion)


def bytes_needed(network: HotHam, graph: Graph) -> int:
    """Of a prediction of all atoms at once; with less it divides them."""
    costs, everything = _Costs.of(network), torch.arange(graph.n_atoms, device=graph.species.device)
    region = _Halo(network, graph).region(everything)
    return region.cost(costs) + min(_portion(graph), graph.n_edges) * costs.hopping_pair


def _portion(graph: Graph) -> int:
    """Pairs at once that suit a device."""
    return PORTION if graph.species.device.type == "cpu" else PORTION_ELSEWHERE


@dataclass(frozen=True)
class _Costs:
    """Bytes that a message edge and an atom keep, and that a hopping pair needs in its portion."""

    message_edge: int
    atom: int
    hopping_pair: int

    @classmethod
    def of(cls, network: HotHam) -> _Costs:
        config, size = network.config, network.species.weight.dtype.itemsize
        n_wigner = sum((2 * l + 1) ** 2 for l in range(config.l_max + 1))
        n_frame = n_wigner if config.l_max > DENSE_UP_TO else (config.l_max + 1) ** 4
        n_feature = (config.l_max + 1) ** 2 * config.channels
        n_block = n_orbitals(network.union) ** 2
        n_radial = network.long_radial.n_radial
        return cls(
            message_edge=size * (n_frame + 2 * n_feature + n_radial) + 64,
            atom=size * (12 * n_feature + 8 * n_block),
            hopping_pair=size
            * (n_frame + 6 * n_wigner + 8 * n_feature + 8 * n_block + n_radial + 3 * config.hidden),
        )


@dataclass(frozen=True)
class _Region:
    """Some atoms and what their blocks need.

    Attributes
    ----------
    core : (n_core,) int64
        The atoms whose onsite blocks and hopping pairs are wanted.
    pairs : (n_pairs,) int64
        Hopping pairs, one of each and its reverse.
    atoms : (n_atoms,) int64
        All whose features are needed.
    messages : list of (n_message_edges,) int64
        Message edges by the distance, in steps on the message graph, of their atom i.
    """

    core: torch.Tensor
    pairs: torch.Tensor
    atoms: torch.Tensor
    messages: list[torch.Tensor]

    def cost(self, costs: _Costs) -> int:
        """Bytes."""
        n_messages = sum(map(len, self.messages))
        return n_messages * costs.message_edge + len(self.atoms) * costs.atom


class _Halo:
    """Finds the surroundings of atoms on the graph of messages."""

    def __init__(self, network: HotHam, graph: Graph) -> None:
        self.graph, self.n_steps = graph, len(network.config.convolutions)
        self.messages = network.message_edges(graph)
        self.i, self.j = graph.edge_index[:, self.messages]
        # a pair belongs to the atom i of its first half
        edges = torch.arange(graph.n_edges, device=graph.reverse.device)
        self.pairs = (edges < graph.reverse).nonzero().squeeze(1)
        self.pair_i, self.pair_j = graph.edge_index[:, self.pairs]

    def region(self, core: torch.Tensor) -> _Region:
        """What is needed for the blocks of some atoms."""
        steps = torch.full((self.graph.n_atoms,), -1, device=core.device)
        steps[core] = 0
        own = (steps[self.pair_i] == 0).nonzero().squeeze(1)
        steps[self.pair_j[own]] = 0
        for step in range(1, self.n_steps + 1):
            reached = self.j[steps[self.i] == step - 1]
            steps[reached[steps[reached] < 0]] = step
        return _Region(
            core=core,
            pairs=self.pairs[own],
            atoms=(steps >= 0).nonzero().squeeze(1),
            messages=[self.messages[steps[self.i] == s] for s in range(self.n_steps + 1)],
        )


def _regions(
    halo: _Halo, positions: torch.Tensor, memory: float, costs: _Costs
) -> Iterator[_Region]:
    """Divide atoms by planes until each region fits."""
    pending = [torch.arange(len(positions), device=positions.device)]
    while pending:
        core = pending.pop()
        region = halo.region(core)
        needed = region.cost(costs)
        if needed <= memory:
            yield region
        elif len(core) == 1:
            raise MemoryError(
                f"the surroundings of one atom need {format_size(needed)}, the memory budget "
                f"leaves {format_size(memory)} for them"
            )
        else:
            # planes across the longest side keep surfaces, and with them halos, small
            here = positions[core]
            widest = (here.max(0).values - here.min(0).values).argmax()
            order = here[:, widest].argsort()
            halves = order.tensor_split(2)
            pending += [core[half].sort().values for half in reversed(halves)]


def _predict_region(
    network: HotHam, graph: Graph, region: _Region, sinks: Sequence[BlockSink], portion: int
) -> None:
    local = torch.full((graph.n_atoms,), -1, device=graph.species.device)
    local[region.atoms] = torch.arange(len(region.atoms), device=local.device)

    def localised(edges: EdgeGraph) -> EdgeGraph:
        return replace(edges, i=local[edges.i], j=local[edges.j])

    messages = [
        localised(network.message_graph(graph, edges))
        for by_step in region.messages
        for edges in by_step.split(portion)
    ]
    # edges whose atom i is s steps away take part in all interactions but the last s
    n_portions = [len(by_step.split(portion)) for by_step in region.messages]
    n_steps = len(network.interactions)
    active = [sum(n_portions[: n_steps - k]) for k in range(n_steps)]
    species = graph.species[region.atoms]
    nodes, edges = network.features(species, messages, active)
    n_own = n_portions[0]
    onsite = network.onsite_blocks(species, nodes, edges[:n_own], messages[:n_own])
    # other atoms of the region lack some of their messages: they are the core of other regions
    core = local[region.core]
    onsite = DescribedBlocks(onsite.blocks[core], onsite.descriptors[core])
    for sink in sinks:
        sink.onsite(region.core, onsite)

    own = _own_features(edges[:n_own], messages[:n_own])
    slot = torch.zeros(graph.n_edges, dtype=torch.long, device=local.device)
    slot[region.messages[0]] = torch.arange(1, len(own), device=local.device)
    ends = network.hopping.ends(nodes)
    del edges, messages, nodes
    for first in region.pairs.split(portion // 2):
        pairs = torch.cat([first, graph.reverse[first]])
        reverse = torch.arange(len(pairs), device=local.device).roll(len(first))
        hoppings = localised(network.hopping_graph(graph, pairs, reverse))
        of_pairs = own.index_select(0, slot[pairs])
        blocks = network.hopping_blocks(ends, of_pairs, hoppings)
        for sink in sinks:
            sink.hopping(pairs, blocks)
        del blocks  # before the next portion takes its memory


def _own_features(edges: list[Orders], messages: list[MessageGraph]) -> torch.Tensor:
    """What ``own_features`` of the model gives; the portions are emptied one by one."""
    n_edges, first = sum(len(g.i) for g in messages), edges[0][0]
    n_components = sum(part.shape[1] * part.shape[2] for part in edges[0])
    own = first.new_zeros(1 + n_edges, n_components, first.shape[-1])
    start = 1
    for orders, graph in zip(edges, messages, strict=True):
        own[start : start + len(graph.i)] = join_orders(orders) * graph.envelope
        start += len(graph.i)
        orders.clear()
    return own
