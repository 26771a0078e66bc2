"""Closed-form fit of the local potential that is added to V_NA.

With M_k the matrix of one Gaussian on all atoms of a species, amplitudes A >= 0 minimise

    |H − H0 − Σ_k A_k M_k − (two-centre functions, onsite constants, μ S)|²,

where the last are those of the baseline: only what no function of a single distance can give is
left to the potential. They are eliminated by fitting a baseline to H − H0 and to every M_k; what
these leave is linear in the amplitudes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from hotham_ase.basis.fitted import WIDTHS, FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.sample import Sample
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.config import ModelConfig
from hotham_ase.overlap import neutral_atom_matrix
from hotham_ase.train.data.prepared import fit_structure
from hotham_ase.train.fit.baseline import fit_baseline, residual

MOST_STRUCTURES = 16
MOST_PAIRS = 40_000  # of all structures of the fit


def fit_potential(
    get: Callable[[int], Sample], indices: Sequence[int], basis: OrbitalBasis
) -> FittedPotential:
    """Fit the amplitudes of all species of some structures.

    Parameters
    ----------
    get
        Gives a sample with H0 = T + V_nl + V_NA as its initial Hamiltonian.
    indices
        The training set; structures spread over it are taken.
    basis
        Of all species, with potentials.
    """
    samples = _spread(get, indices)
    # nothing of it is used but the union of shells and where orbitals lie in it
    network = network_for(ModelConfig(l_max=max(4, 2 * basis.l_max), hopping_margin=0.0), basis)

    def left(matrices: Sequence[Sample]) -> np.ndarray:
        """(n_elements,) eV, what a baseline of their own leaves of the samples' matrices."""
        structures = [fit_structure(sample, basis, network) for sample in matrices]
        baseline = Baseline(network.union, len(basis.species), network.cutoff)
        fit_baseline(baseline, structures, network.union)
        return np.concatenate([residual(baseline, s, network.union) for s in structures])

    present = {symbol for s in samples for symbol in s.atoms.get_chemical_symbols()}
    symbols = [symbol for symbol in basis.symbols if symbol in present]
    units = np.eye(len(WIDTHS)).tolist()
    design = [
        left([_gaussian_instead(sample, _alone(basis, symbol, unit)) for sample in samples])
        for symbol in symbols
        for unit in units
    ]
    found, _ = nnls(np.stack(design, axis=1), left(samples))
    amplitudes = found.reshape(len(symbols), len(WIDTHS)).tolist()
    return FittedPotential(
        {symbol: tuple(a) for symbol, a in zip(symbols, amplitudes, strict=True)}
    )


def _spread(get: Callable[[int], Sample], indices: Sequence[int]) -> list[Sample]:
    """Structures from the whole training set, as many as the fit may take."""
    step = max(1.0, len(indices) / MOST_STRUCTURES)
    samples: list[Sample] = []
    for k in np.arange(0, len(indices), step).astype(int):
        samples.append(get(indices[k]))
        if sum(s.hamiltonian.pairs.n_edges for s in samples) > MOST_PAIRS:
            break
    return samples


def _alone(basis: OrbitalBasis, symbol: str, amplitudes: Sequence[float]) -> OrbitalBasis:
    """The basis with V_fit of one species in the place of all V_NA."""
    species = [
        replace(s, potential=replace(s.potential, neutral=np.zeros(len(s.potential.grid))))
        for s in basis.species
        if s.potential is not None
    ]
    fitted = FittedPotential({symbol: tuple(amplitudes)})
    return fitted.added_to(OrbitalBasis(tuple(species)))


def _gaussian_instead(sample: Sample, basis: OrbitalBasis) -> Sample:
    """A sample with the matrix of its atoms' V_NA instead of H."""
    matrix = neutral_atom_matrix(sample.atoms, basis)
    return replace(sample, hamiltonian=matrix, initial_hamiltonian=None)
