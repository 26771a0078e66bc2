"""Closed-form fit of the local potential that is added to V_NA.

With M_k the matrix of one Gaussian on all atoms of a species, amplitudes A >= 0 minimise

    |H − H0 − Σ_k A_k M_k − (two-centre functions, onsite constants, μ S)|² + ridge,

where the last are those of the baseline: only what no function of a single distance can give is
left to the potential. They are eliminated by fitting a baseline to H − H0 and to every M_k; what
these leave is linear in the amplitudes. Every structure has its own zero of energy, whatever the
training does with it: an amplitude must not depend on what is arbitrary in H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from hotham_ase.basis.fitted import WIDTHS, FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.sample import Sample
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.blocks import n_orbitals
from hotham_ase.nn.config import ModelConfig
from hotham_ase.overlap import neutral_atom_matrix
from hotham_ase.train.data.prepared import fit_structure
from hotham_ase.train.data.references import ReferenceSamples
from hotham_ase.train.fit.baseline import fit_baseline, residual

MOST_STRUCTURES = 8  # 4 give large amplitudes of graphene, silicon and MoS2 within 4 %
MOST_NUMBERS = 60_000_000  # elements of H − H0 and all M_k together, half a GB
# eV, of the Gaussians in M_k: about what is found, for V_NA's expansion has absolute tolerances
STRENGTH = 10.0
# relative to |M_k|²: M_k of atoms and dimers are two-centre functions themselves, what baselines
# leave of them is rounding
RIDGE = 1e-6


def fit_potential(data: ReferenceSamples, indices: Sequence[int]) -> FittedPotential:
    """Fit the amplitudes of the species of a training set.

    Parameters
    ----------
    data, indices
        The training set on top of H0 = T + V_nl + V_NA. Structures spread over it are taken, rare
        species first, as many as ``MOST_STRUCTURES`` and ``MOST_NUMBERS`` allow; species in none
        of them get no potential.
    """
    basis = data.basis
    # nothing of it is used but the union of shells and where orbitals lie in it
    network = network_for(ModelConfig(l_max=2 * basis.l_max, channels=1, hidden=1), basis)

    def left(matrices: Sequence[Sample]) -> np.ndarray:
        """(n_elements,) eV, what a baseline of their own leaves of the samples' matrices."""
        structures = [fit_structure(sample, basis, network) for sample in matrices]
        baseline = Baseline(network.union, len(basis.species), network.cutoff)
        fit_baseline(baseline, structures, network.union)
        return np.concatenate([residual(baseline, s, network.union) for s in structures])

    samples = _chosen(data, indices, n_orbitals(network.union))
    present = set().union(*(s.atoms.get_chemical_symbols() for s in samples))
    symbols = [symbol for symbol in basis.symbols if symbol in present]
    design, sizes = [], []
    for symbol in symbols:
        for strengths in STRENGTH * np.eye(len(WIDTHS)):
            alone = _alone(basis, symbol, strengths.tolist())
            matrices = [_potential_instead(sample, alone) for sample in samples]
            sizes.append(sum(float((m.hamiltonian.single**2).sum()) for m in matrices))
            design.append(left(matrices))
    normal = np.array([[a @ b for b in design] for a in design]) + RIDGE * np.diag(sizes)
    target = left(samples)
    root = np.linalg.cholesky(normal)
    right = solve_triangular(root, [a @ target for a in design], lower=True)
    found = STRENGTH * nnls(root.T, right)[0].reshape(len(symbols), -1)
    return FittedPotential(dict(zip(symbols, map(tuple, found.tolist()), strict=True)))


def _chosen(data: ReferenceSamples, indices: Sequence[int], n_union: int) -> list[Sample]:
    """The structures of the fit."""
    rare, seen = [], set[str]()
    for k in indices:
        if seen.issuperset(data.basis.symbols):
            break
        symbols = set(data.atoms(k).get_chemical_symbols())
        if symbols - seen:
            rare.append(k)
        seen |= symbols
    spread = np.linspace(0, len(indices) - 1, min(len(indices), MOST_STRUCTURES)).astype(int)
    samples: list[Sample] = []
    for k in dict.fromkeys([*rare, *(indices[n] for n in spread)]):
        more = [*samples, data[k]]
        n_pairs = sum(s.hamiltonian.pairs.n_edges for s in more)
        n_species = len(set().union(*(s.atoms.get_chemical_symbols() for s in more)))
        n_columns = 1 + len(WIDTHS) * n_species
        if samples and n_pairs * n_union**2 * n_columns > MOST_NUMBERS:
            break
        samples = more
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


def _potential_instead(sample: Sample, basis: OrbitalBasis) -> Sample:
    """A sample with the matrix of its atoms' V_NA instead of H."""
    matrix = neutral_atom_matrix(sample.atoms, basis)
    return replace(sample, hamiltonian=matrix, initial_hamiltonian=None)
