"""Errors of predicted blocks, with the arbitrary zero of energy removed."""

from __future__ import annotations

import torch

from hotham_ase.train.data import Prepared


def per_structure(values: torch.Tensor, structure: torch.Tensor, n: int) -> torch.Tensor:
    """(n,) sum over all elements of each structure's blocks."""
    return values.new_zeros(n).index_add(0, structure, values.flatten(1).sum(1))


def block_errors(
    onsite: torch.Tensor, hopping: torch.Tensor, batch: Prepared
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Errors of H after the best energy shift of each structure.

    ``μ = ⟨S, ΔH⟩ / ⟨S, S⟩`` minimises ``Σ |ΔH − μS|²``: H and H + μS describe the same physics.

    Parameters
    ----------
    onsite, hopping
        Predicted blocks, eV.
    batch
        What they should be.

    Returns
    -------
    onsite, hopping : errors, eV
    mu : (n_structures,) eV
    """
    target, of_atom = batch.target, batch.graph.structure
    of_edge = of_atom[batch.graph.edge_index[0]]
    n = int(of_atom[-1]) + 1
    onsite = (onsite - target.onsite) * target.onsite_mask
    hopping = (hopping - target.hopping) * target.hopping_mask
    s_on, s_hop = target.onsite_overlap, target.hopping_overlap
    overlap = per_structure(s_on * s_on, of_atom, n) + per_structure(s_hop * s_hop, of_edge, n)
    mixed = per_structure(s_on * onsite, of_atom, n) + per_structure(s_hop * hopping, of_edge, n)
    mu = mixed / overlap
    return (
        onsite - mu[of_atom][:, None, None] * s_on,
        hopping - mu[of_edge][:, None, None] * s_hop,
        mu,
    )


def mean_absolute(errors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of |error| over the elements that exist."""
    return (errors.abs() * mask).sum() / mask.sum().clamp(min=1)
