"""The fit of a local potential to H that are known, by quadrature on a mesh in space."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from scipy.interpolate import CubicSpline

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.formats import read_sample
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.config import ModelConfig
from hotham_ase.overlap import initial_hamiltonian, kinetic_matrix, overlap_matrix
from hotham_ase.train.data.prepared import fit_structure
from hotham_ase.train.fit import potential
from hotham_ase.train.fit.baseline import fit_baseline, residual
from hotham_ase.train.fit.potential import fit_potential
from tests.chains import radial_basis
from tests.potentials import with_potentials

STEP = 0.16  # Å, of the mesh in space
PLANTED = {"C": (9.0, 1.5), "N": (14.0, 0.0)}


def two_species():
    carbon = radial_basis()["C"]
    nitrogen = replace(carbon, symbol="N", n_valence=5, radial=carbon.radial * [[1.0], [0.9]])
    return with_potentials(OrbitalBasis((carbon, nitrogen)), relativistic=False)


def atoms_of(seed, symbols="CNCN"):
    rng = np.random.default_rng(seed)
    places = [(0, 0, 0), (0.4, 0.3, 1.5), (0, 0, 3.0), (0.2, 1.5, 3.4)]
    atoms = Atoms(symbols, places[: len(symbols)])
    atoms.positions += rng.normal(scale=0.15, size=(len(atoms), 3))
    return atoms


def planted(r, symbol):
    """V_fit(r) as documented, and not by the package."""
    x = np.clip((r - 1.2) / 1.4, 0, 1)
    deep, wide = PLANTED[symbol]
    ended = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
    return -(deep * np.exp(-(r**2) / 0.32) + wide * np.exp(-(r**2) / 1.62)) * ended


def by_quadrature(atoms, basis, like):
    """⟨φ_i|Σ_a V_fit,a|φ_j⟩ on a uniform mesh, which is exact for smooth functions."""
    low, high = atoms.positions.min(0) - 3.2, atoms.positions.max(0) + 3.2
    axes = [np.arange(a, b, STEP) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    orbitals, v = [], np.zeros(len(points))
    for symbol, place in zip(atoms.symbols, atoms.positions, strict=True):
        species, vectors = basis[symbol], points - place
        r = np.linalg.norm(vectors, axis=1)
        v += planted(r, symbol)
        for l, radial in zip(species.shells, species.radial, strict=True):
            values = np.where(r < 3, CubicSpline(species.grid, radial)(np.minimum(r, 3)), 0.0)
            orbitals += list(real_spherical_harmonics(l, vectors).T * values)
    dense = STEP**3 * (np.array(orbitals) * v) @ np.array(orbitals).T
    starts = like.layout.orbital_offsets

    def block(i, j):
        return dense[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]

    onsite = [block(i, i) for i in range(len(atoms))]
    hopping = [block(i, j) for i, j in like.pairs.edge_index.T]
    return RealSpaceMatrix.from_blocks(like.pairs, onsite, hopping)


def onsite_constants(matrix, atoms):
    """1 eV on s and −2 eV on p of carbon."""
    is_carbon = atoms.symbols == "C"
    shifts = [c * np.diag([1.0, -2.0, -2.0, -2.0]) for c in is_carbon]
    zeros = np.zeros((4, 4))
    return RealSpaceMatrix.from_blocks(matrix.pairs, shifts, [zeros] * matrix.pairs.n_edges)


def make(atoms, basis, zero, potential=True):
    """H0 + V_fit + what the fit must not take for it."""
    s, h0 = overlap_matrix(atoms, basis), initial_hamiltonian(atoms, basis)
    two_centre = 0.3 * kinetic_matrix(atoms, basis) + onsite_constants(s, atoms)
    h = h0 + two_centre + zero * s
    if potential:
        h = h + by_quadrature(atoms, basis, s)
    n_electrons, origin = basis.n_electrons(atoms.numbers), Provenance("chain", "test")
    return Sample(atoms, basis, h, s, None, n_electrons, origin, initial_hamiltonian=h0)


class InMemory:
    """Samples in the place of a data set."""

    def __init__(self, samples):
        self.samples, self.asked = samples, []
        self.basis = samples[0].basis

    def atoms(self, index):
        return self.samples[index].atoms

    def __getitem__(self, index):
        self.asked.append(index)
        return self.samples[index]


def fitted(samples):
    return fit_potential(InMemory(samples), range(len(samples))).amplitudes


@pytest.fixture(scope="module")
def chains():
    basis = two_species()
    return [make(atoms_of(k), basis, zero=0.7 * k) for k in range(6)]


def test_planted_amplitudes_are_found(chains):
    """Whatever two-centre functions, onsite constants and zeros of energy there are beside."""
    found = fitted(chains)
    for symbol, amplitudes in PLANTED.items():
        np.testing.assert_allclose(found[symbol], amplitudes, rtol=2e-3, atol=0.01)


def test_amplitudes_do_not_depend_on_zeros_of_energy(chains):
    shifted = [
        replace(s, hamiltonian=s.hamiltonian + (3.0 * k) * s.overlap) for k, s in enumerate(chains)
    ]
    for symbol, amplitudes in fitted(chains).items():
        np.testing.assert_allclose(fitted(shifted)[symbol], amplitudes, atol=0.02)


def test_what_v_na_is_does_not_matter(chains):
    """Without any, H0 is T + V_nl, and what is added to V_NA is the same."""
    basis = OrbitalBasis(
        tuple(
            replace(s, potential=replace(s.potential, neutral=np.zeros(len(s.potential.grid))))
            for s in chains[0].basis.species
        )
    )
    bare = []
    for s in chains[:4]:
        h0 = initial_hamiltonian(s.atoms, basis)
        h = s.hamiltonian - s.initial_hamiltonian + h0
        bare.append(replace(s, basis=basis, hamiltonian=h, initial_hamiltonian=h0))
    found, expected = fitted(bare), fitted(chains[:4])
    for symbol in "CN":
        np.testing.assert_allclose(found[symbol], expected[symbol], atol=1e-3)


@pytest.mark.parametrize("symbols", ["C", "CN"])
def test_atoms_and_dimers_have_none(symbols):
    """All of their H is two-centre: what baselines leave of it must not make amplitudes."""
    basis = two_species()
    dimers = [make(atoms_of(k, symbols), basis, 0.3 * k, potential=False) for k in range(5)]
    for amplitudes in fitted(dimers).values():
        assert max(amplitudes) < 0.05


def test_a_rare_species_is_found(chains, monkeypatch):
    """Two structures may be taken, and nitrogen is in the last of seven only."""
    basis = chains[0].basis
    carbon = [make(atoms_of(10 + k, "CCCC"), basis, 0.0) for k in range(6)]
    data = InMemory([*carbon, chains[0]])
    monkeypatch.setattr(potential, "MOST_STRUCTURES", 1)
    found = fit_potential(data, [0, 1, 2, 3, 4, 5, 6]).amplitudes
    assert data.asked == [0, 6]
    np.testing.assert_allclose(found["N"], PLANTED["N"], rtol=0.1, atol=1.0)
    assert set(fit_potential(data, [1, 2]).amplitudes) == {"C"}


def test_numbers_are_bounded(chains, monkeypatch):
    """The first structure is taken however large, others while they fit with all columns."""
    data, n_orbitals, n_columns = InMemory(chains), 4, 5
    n_pairs = chains[0].hamiltonian.pairs.n_edges
    for n, most in ((1, 1), (1, 1.5), (3, 3), (6, 100)):
        data.asked.clear()
        monkeypatch.setattr(potential, "MOST_NUMBERS", most * n_pairs * n_orbitals**2 * n_columns)
        fit_potential(data, range(6))
        assert len(data.asked) == min(n + 1, 6)  # one is read to see that it does not fit


@pytest.mark.parametrize(("kind", "share"), [("graphene", 0.6), ("silicon", 0.4), ("mos2", 0.35)])
def test_a_baseline_leaves_less_of_real_hamiltonians(shared_data, kind, share):
    """PBE runs of ABACUS, of which the fit saw three and not the fourth."""
    runs = sorted((shared_data / "abacus" / kind).iterdir())[:4]
    samples = [read_sample(run, verify=False) for run in runs if run.is_dir()]
    basis = samples[0].basis

    def on_top_of(h0_basis):
        h0 = [initial_hamiltonian(s.atoms, h0_basis) for s in samples]
        return [replace(s, initial_hamiltonian=m) for s, m in zip(samples, h0, strict=True)]

    plain = on_top_of(basis)
    found = fit_potential(InMemory(plain), [0, 1, 2])
    network = network_for(ModelConfig(l_max=2 * basis.l_max, channels=1), basis)
    left = []
    for matrices in (plain, on_top_of(found.added_to(basis))):
        structures = [fit_structure(s, basis, network) for s in matrices]
        baseline = Baseline(network.union, len(basis.species), network.cutoff)
        fit_baseline(baseline, structures[:3], network.union)
        left.append(np.abs(residual(baseline, structures[3], network.union)).mean())
    assert left[1] < share * left[0]
