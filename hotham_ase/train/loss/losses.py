"""What training minimises: named terms of the error of H, without its arbitrary zero of energy.

Every term takes the same :class:`BlockErrors` and returns an energy in eV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from hotham_ase.errors import UsageError
from hotham_ase.matrices.energy_zero import EnergyZero, best_shift
from hotham_ase.train.data.prepared import Eigenbasis, Prepared
from hotham_ase.train.loss.config import BlockLossConfig, LossConfig

MEV = 1e-3  # eV
Blocks = tuple[torch.Tensor, torch.Tensor]  # onsite, hopping


def per_structure(values: torch.Tensor, structure: torch.Tensor, n: int) -> torch.Tensor:
    """(n,) sum over all elements of each structure's blocks."""
    return values.new_zeros(n).index_add(0, structure, values.flatten(1).sum(1))


def block_errors(
    onsite: torch.Tensor,
    hopping: torch.Tensor,
    batch: Prepared,
    energy_zero: EnergyZero = "fit",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Errors of H after the energy shift of each structure.

    With ``fit`` it is ``μ = ⟨S, ΔH⟩ / ⟨S, S⟩``, which minimises ``Σ |ΔH − μS|²``: H and H + μS
    describe the same physics. Otherwise the zero is that of the target.

    Parameters
    ----------
    onsite, hopping
        Predicted blocks, eV.
    batch
        What they should be.
    energy_zero
        See :class:`~hotham_ase.train.loss.config.LossConfig`; for ``fermi`` the target must have
        its Fermi level at 0, see :func:`~hotham_ase.train.data.references.with_zero`.

    Returns
    -------
    onsite, hopping : errors, eV
    mu : (n_structures,) eV
    """
    target, of_atom, (i, j) = batch.target, batch.graph.structure, batch.graph.edge_index
    of_edge, exists = of_atom[i], target.exists
    n = int(of_atom[-1]) + 1
    # orbitals that a species lacks have no error
    onsite = (onsite - target.onsite) * (exists[:, :, None] * exists[:, None])
    hopping = (hopping - target.hopping) * (exists[i][:, :, None] * exists[j][:, None])
    if energy_zero != "fit":
        return onsite, hopping, onsite.new_zeros(n)

    def over_structures(a: Blocks, b: Blocks) -> torch.Tensor:
        """(n_structures,) Σ A B over onsite and hopping blocks."""
        return per_structure(a[0] * b[0], of_atom, n) + per_structure(a[1] * b[1], of_edge, n)

    overlap = target.onsite_overlap, target.hopping_overlap
    mu = best_shift((onsite, hopping), overlap, over_structures)
    onsite = onsite - mu[of_atom][:, None, None] * overlap[0]
    return onsite, hopping - mu[of_edge][:, None, None] * overlap[1], mu


def mean_of_elements(blocks: torch.Tensor, n_elements: torch.Tensor) -> torch.Tensor:
    """Mean of blocks (n, n_union, n_union) that have (n,) elements; 0 if there are none."""
    return blocks.sum() / n_elements.sum().clamp(min=torch.finfo(n_elements.dtype).tiny)


@dataclass(frozen=True, eq=False)
class BlockErrors:
    """Errors of predicted blocks, and what the terms of a loss make of them.

    Attributes
    ----------
    onsite, hopping, mu
        From :func:`block_errors`.
    batch
        The structures.
    """

    onsite: torch.Tensor
    hopping: torch.Tensor
    mu: torch.Tensor
    batch: Prepared

    @cached_property
    def onsite_mae(self) -> torch.Tensor:
        """Mean |ΔH| in eV of the onsite elements that exist."""
        return mean_of_elements(self.onsite.abs(), self.batch.n_elements[0])

    @cached_property
    def hopping_mae(self) -> torch.Tensor:
        """Mean |ΔH| in eV of the hopping elements that exist."""
        return mean_of_elements(self.hopping.abs(), self.batch.n_elements[1])

    def mae(self, edges: torch.Tensor) -> torch.Tensor:
        """Mean |ΔH| in eV of all elements of onsite blocks and of some pairs, (n_edges,) bool."""
        of_atoms, of_edges = self.batch.n_elements
        n = of_atoms.sum() + of_edges[edges].sum()
        return (self.onsite.abs().sum() + self.hopping[edges].abs().sum()) / n

    @cached_property
    def in_eigenbasis(self) -> list[tuple[Eigenbasis, int, torch.Tensor]]:
        """V† ΔH(k) V in eV of every structure that has an eigenbasis and each of its k-points.

        V are ``Eigenbasis.vectors``, damped at high energy.
        """
        return list(_in_eigenbasis(self.onsite, self.hopping, self.batch))


def _in_eigenbasis(
    onsite: torch.Tensor, hopping: torch.Tensor, batch: Prepared
) -> Iterator[tuple[Eigenbasis, int, torch.Tensor]]:
    graph = batch.graph
    n_union = onsite.shape[-1]
    atom = edge = 0
    for structure, eigenbasis in enumerate(batch.eigenbases):
        n_atoms = int((graph.structure == structure).sum())
        i, j = graph.edge_index
        n_edges = int((graph.structure[i] == structure).sum())
        if eigenbasis is not None:
            # H(k) of this structure alone: pairs of atoms, then orbitals on the union of shells,
            # of which those that do not exist are left out
            where = slice(edge, edge + n_edges)
            blocks = (i[where] - atom) * n_atoms + j[where] - atom
            own = torch.arange(n_atoms, device=i.device) * (n_atoms + 1)
            for k, (c, phase) in enumerate(zip(eigenbasis.vectors, eigenbasis.phases, strict=True)):
                values = (hopping[where] * phase[:, None, None]).flatten(1)
                h_k = values.new_zeros(n_atoms**2, n_union**2).index_add(0, blocks, values)
                h_k = h_k.index_add(0, own, onsite[atom : atom + n_atoms].flatten(1))
                h_k = h_k.view(n_atoms, n_atoms, n_union, n_union).transpose(1, 2)
                h_k = h_k.reshape(n_atoms * n_union, n_atoms * n_union)
                h_k = h_k[eigenbasis.orbitals][:, eigenbasis.orbitals]
                yield eigenbasis, k, c.T @ h_k @ c
        atom, edge = atom + n_atoms, edge + n_edges


@dataclass(frozen=True)
class BlockLoss:
    """Mean |ΔH|, or ΔH² in units of 1 meV, of hopping blocks, plus a weight times onsite blocks.

    Hopping blocks may weigh ``w(r_ij) × w(species i, species j)``; means are weighted means.

    Attributes
    ----------
    kind
        ``mae`` or ``mse``.
    onsite_weight
        Of the mean over onsite blocks.
    distance_weights
        (Å, weight), ascending; linear between, constant outside.
    pair_weights
        (species index i, species index j, weight), both ways round.
    """

    kind: Literal["mae", "mse"] = "mae"
    onsite_weight: float = 0.2
    distance_weights: tuple[tuple[float, float], ...] = ()
    pair_weights: tuple[tuple[int, int, float], ...] = ()

    @classmethod
    def from_config(cls, config: BlockLossConfig, symbols: Sequence[str]) -> BlockLoss:
        """The term with pairs of symbols as indices.

        Raises
        ------
        ValueError
            If a pair is not two of ``symbols``.
        """
        pairs: dict[tuple[int, int], float] = {}
        for key, weight in config.pair_weights.items():
            pair = key.split("-")
            if len(pair) != 2 or not set(pair) <= set(symbols):
                raise UsageError(
                    f"pair_weights must be of pairs such as 'C-N' of {', '.join(symbols)}, "
                    f"got {key!r}"
                )
            i, j = (symbols.index(symbol) for symbol in pair)
            if (i, j) in pairs:
                raise UsageError(f"pair_weights must have each pair once, got {key!r} again")
            pairs[i, j] = pairs[j, i] = weight
        # H is Hermitian: block ji is learned with block ij
        both_ways = tuple((i, j, weight) for (i, j), weight in pairs.items())
        return cls(config.kind, config.onsite_weight, config.distance_weights, both_ways)

    def __call__(self, errors: BlockErrors) -> torch.Tensor:
        """The error in eV."""
        if self.kind == "mae" and not self.distance_weights and not self.pair_weights:
            return errors.hopping_mae + self.onsite_weight * errors.onsite_mae
        of_atoms, of_edges = errors.batch.n_elements
        weights = self.edge_weights(errors.batch)
        size = torch.abs if self.kind == "mae" else _square_in_mev
        weighted = size(errors.hopping) * weights[:, None, None]
        hopping = mean_of_elements(weighted, of_edges * weights)
        return hopping + self.onsite_weight * mean_of_elements(size(errors.onsite), of_atoms)

    def edge_weights(self, batch: Prepared) -> torch.Tensor:
        """(n_edges,) weight of every hopping block."""
        graph, dtype = batch.graph, batch.target.hopping.dtype
        weights = torch.ones(graph.edge_index.shape[1], dtype=dtype, device=graph.species.device)
        if self.distance_weights:
            lengths = torch.linalg.vector_norm(graph.edge_vectors, dim=-1).to(dtype)
            weights = weights * _interpolate(lengths, self.distance_weights)
        species_i, species_j = graph.species[graph.edge_index]
        for i, j, weight in self.pair_weights:
            pair = (species_i == i) & (species_j == j)
            weights = torch.where(pair, weights * weight, weights)
        return weights


def _square_in_mev(errors: torch.Tensor) -> torch.Tensor:
    """ΔH² / 1 meV in eV: as large as |ΔH| where that is 1 meV."""
    return errors * errors / MEV


def _interpolate(x: torch.Tensor, table: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Values of a piecewise linear function, constant outside the table."""
    points, values = x.new_tensor(table).T.contiguous()
    if len(points) == 1:
        return values.expand(x.shape)
    right = torch.searchsorted(points, x.contiguous()).clamp(1, len(points) - 1)
    left = right - 1
    part = ((x - points[left]) / (points[right] - points[left])).clamp(0, 1)
    return values[left] + part * (values[right] - values[left])


@dataclass(frozen=True)
class EigenbasisLoss:
    """Mean |V† ΔH(k) V| in eV: errors of H seen by the reference's eigenvectors.

    Elementwise errors of H weigh all directions alike. In a basis whose S(k) has small
    eigenvalues s, an error δ along such a direction moves bands by δ/s, down to spurious states
    far below the spectrum; in the basis of eigenvectors (C† S C = 1) it shows at its full size.
    The mean is over structures and k-points.
    """

    def __call__(self, errors: BlockErrors) -> torch.Tensor:
        """The error in eV."""
        terms = [matrix.abs().mean() for _, _, matrix in errors.in_eigenbasis]
        return torch.stack(terms).mean() if terms else errors.onsite.new_zeros(())


@dataclass(frozen=True)
class BandLoss:
    """Mean |Δε| in eV of the bands within an energy window about the Fermi level.

    In the basis of the reference's eigenvectors, C† S C = 1, the eigenproblem H(k) C = S(k) C ε
    of the prediction is that of the symmetric matrix ``diag(ε_ref) + C† ΔH(k) C``; the reference
    is not subtracted from the prediction again, so that nothing cancels. Only eigenvalues enter:
    their derivative v† dH v has no 1/(ε_m − ε_n), so that degenerate levels do no harm. The mean
    is over structures and k-points.

    Attributes
    ----------
    window
        Lowest and highest reference energy in eV, relative to the Fermi level.
    free_shift
        Whether the mean of Δε in the window, over all k-points of a structure, is removed: the
        shift that fits H best is not quite the one that fits these bands best.
    """

    window: tuple[float, float] = (-5.0, 5.0)
    free_shift: bool = False

    def __call__(self, errors: BlockErrors) -> torch.Tensor:
        """The error in eV."""
        of_structure: dict[int, list[torch.Tensor]] = {}
        for eigenbasis, k, matrix in errors.in_eigenbasis:
            energies = eigenbasis.energies[k]
            inside = (energies >= self.window[0]) & (energies <= self.window[1])
            if inside.any():
                damping = eigenbasis.damping[k]
                change = (damping[:, None] * matrix * damping).double()
                h_k = torch.diag(energies) + (change + change.T) / 2
                difference = (torch.linalg.eigvalsh(h_k) - energies)[inside]
                of_structure.setdefault(id(eigenbasis), []).append(difference)
        if not of_structure:
            return errors.onsite.new_zeros(())
        terms = []
        for differences in of_structure.values():
            shift = torch.cat(differences).mean() if self.free_shift else 0.0
            terms += [(difference - shift).abs().mean() for difference in differences]
        return torch.stack(terms).mean().to(errors.onsite.dtype)


@dataclass(frozen=True)
class WeightedTerm:
    """A term of a loss.

    Attributes
    ----------
    name
        In logs.
    term
        From errors to eV.
    weight
        In the sum.
    start
        Fraction of the run from which its gradient counts.
    """

    name: str
    term: Callable[[BlockErrors], torch.Tensor]
    weight: float
    start: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A weighted sum of terms, each of which is learned from its own start on.

    Its value has all terms at any time, so that one epoch compares with another; only the
    gradient waits.

    Attributes
    ----------
    energy_zero
        See :func:`block_errors`.
    terms
        Those of weight above 0.
    """

    energy_zero: EnergyZero
    terms: tuple[WeightedTerm, ...]

    @classmethod
    def from_config(cls, config: LossConfig, symbols: Sequence[str] = ()) -> Loss:
        """The loss of a configuration.

        Parameters
        ----------
        config
            Its terms.
        symbols
            Species in the order of the network's indices; needed for ``pair_weights`` only.
        """
        blocks, eigenbasis, bands = config.blocks, config.eigenbasis, config.bands
        terms = (
            WeightedTerm(
                "blocks", BlockLoss.from_config(blocks, symbols), blocks.weight, blocks.start
            ),
            WeightedTerm("eigenbasis", EigenbasisLoss(), eigenbasis.weight, eigenbasis.start),
            WeightedTerm(
                "bands",
                BandLoss(bands.window, free_shift=config.energy_zero == "fit"),
                bands.weight,
                bands.start,
            ),
        )
        return cls(config.energy_zero, tuple(term for term in terms if term.weight > 0))

    def errors(self, onsite: torch.Tensor, hopping: torch.Tensor, batch: Prepared) -> BlockErrors:
        """Errors of predicted blocks, eV."""
        return BlockErrors(*block_errors(onsite, hopping, batch, self.energy_zero), batch)

    def __call__(
        self, errors: BlockErrors, progress: float = 1.0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum, and every term by its name, all in eV.

        Parameters
        ----------
        errors
            Of the batch.
        progress
            Fraction of the run that is done; terms that start later give no gradient.
        """
        values, total = {}, None
        for item in self.terms:
            value = item.term(errors)
            values[item.name] = value.detach()
            part = item.weight * (value if progress >= item.start else value.detach())
            total = part if total is None else total + part
        if total is None:
            raise ValueError("a loss must have at least one term")
        return total, values
