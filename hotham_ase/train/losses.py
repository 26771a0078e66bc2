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


def eigenbasis_error(onsite: torch.Tensor, hopping: torch.Tensor, batch: Prepared) -> torch.Tensor:
    """Mean |C† ΔH(k) C| in eV: errors of H seen by the reference's eigenvectors.

    Elementwise errors of H weigh all directions alike. In a basis whose S(k) has small
    eigenvalues s, an error δ along such a direction moves bands by δ/s, down to spurious states
    far below the spectrum; in the basis of eigenvectors (C† S C = 1) it shows at its full size.

    Parameters
    ----------
    onsite, hopping
        Errors of the blocks, from :func:`block_errors`.
    batch
        The structures.

    Returns
    -------
    Scalar, the mean over structures and k-points.
    """
    graph, terms = batch.graph, []
    n_union = onsite.shape[-1]
    atom = edge = 0
    for k, eigenbasis in enumerate(batch.eigenbases):
        n_atoms = int((graph.structure == k).sum())
        i, j = graph.edge_index
        n_edges = int((graph.structure[i] == k).sum())
        if eigenbasis is not None:
            where = slice(edge, edge + n_edges)
            blocks = (i[where] - atom) * n_atoms + j[where] - atom
            own = torch.arange(n_atoms, device=i.device) * (n_atoms + 1)
            for c, phase in zip(eigenbasis.vectors, eigenbasis.phases, strict=True):
                values = (hopping[where] * phase[:, None, None]).flatten(1)
                h_k = values.new_zeros(n_atoms**2, n_union**2).index_add(0, blocks, values)
                h_k = h_k.index_add(0, own, onsite[atom : atom + n_atoms].flatten(1))
                h_k = h_k.view(n_atoms, n_atoms, n_union, n_union).transpose(1, 2)
                h_k = h_k.reshape(n_atoms * n_union, n_atoms * n_union)
                h_k = h_k[eigenbasis.orbitals][:, eigenbasis.orbitals]
                terms.append((c.T @ h_k @ c).abs().mean())
        atom, edge = atom + n_atoms, edge + n_edges
    return torch.stack(terms).mean() if terms else onsite.new_zeros(())
