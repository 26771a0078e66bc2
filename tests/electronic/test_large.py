"""What is said of systems of which a few bands only are solved for, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.electronic import (
    CoarseMeshWarning,
    ElectronicSystem,
    FermiLevelError,
    WindowError,
)
from hotham_ase.electronic.fermi import fill_bands
from hotham_ase.electronic.ground import ground_state
from hotham_ase.electronic.solvers.problem import BandWindow, SolverOptions
from hotham_ase.electronic.solvers.solve import located
from hotham_ase.matrices.spin import Spin

N = 400  # atoms of a ring: dense matrices of as many orbitals do not fit into MEMORY
MEMORY = 8 * 2**20
SHORT, LONG, S0 = -2.0, -1.4, 0.15  # eV, and the overlap of neighbours


@pytest.fixture
def ring(one_orbital):
    """A chain of N atoms, one orbital each, with alternating or equal bonds, and overlap."""
    basis = OrbitalBasis((SpeciesBasis("H", (0,), (1.7,), 1.0),))

    def build(*, alternating: bool, n: int = N, overlapping: bool = False, **settings):
        heights = np.arange(n) * 1.5 - (np.arange(n) % 2) * 0.1 * alternating
        positions = np.zeros((n, 3))
        positions[:, 2] = heights
        atoms = Atoms(f"H{n}", positions, cell=(0, 0, 1.5 * n), pbc=(False, False, True))
        h = one_orbital(atoms, 1.7, lambda d: np.where(d < 1.501, SHORT, LONG), 0.0)
        s = None
        if overlapping:
            s = one_orbital(atoms, 1.7, lambda d: np.full(len(d), S0), 1.0)
        settings = {"options": SolverOptions(memory=MEMORY), "search_up_to": 0} | settings
        return ElectronicSystem(h, s, basis, settings.pop("n_electrons", float(n)), **settings)

    return build


def levels_of_ring(n: int, overlap: float = 0.0, kpt: float = 0.0) -> np.ndarray:
    """Of equal bonds: ε = 2t cos q / (1 + 2s cos q)."""
    q = 2 * np.pi * (np.arange(n) + kpt) / n
    return np.sort(2 * SHORT * np.cos(q) / (1 + 2 * overlap * np.cos(q)))


def test_gap_and_level_of_an_insulator(ring):
    """Alternating bonds v, w: ε = ±|v + w exp(iq)|, its gap 2|v − w| at q = π, which is at Γ."""
    system = ring(alternating=True)
    assert not system.has_level
    assert system.fermi_level() == pytest.approx(0, abs=1e-8)
    assert system.band_gap() == pytest.approx(2 * abs(SHORT - LONG), abs=1e-8)
    assert system.has_level
    assert not system.is_solved
    assert np.isnan(system.band_edges().remaining)
    small = ring(alternating=True, n=60, options=SolverOptions())
    assert small.band_gap() == pytest.approx(system.band_gap(), abs=1e-8)


@pytest.mark.parametrize("overlap", [0.0, S0])
@pytest.mark.parametrize("n_electrons", [2.0 * 111, 2.0 * 110 + 0.7, 2.0 * 112])
@pytest.mark.parametrize("kpts", [(1, 1, 1), (1, 1, 3)])
def test_level_of_a_metal(ring, overlap, n_electrons, kpts):
    """The level that the mesh's levels of closed form are filled up to."""
    system = ring(
        alternating=False,
        overlapping=overlap > 0,
        n_electrons=n_electrons,
        kpts=kpts,
        sigma=0.0001,
    )
    mesh = system.mesh
    exact = np.array([levels_of_ring(N, overlap, k) for k in mesh.ibz_kpts[:, 2]])[None]
    filling = fill_bands(exact, mesh.weights, n_electrons, spin=Spin.UNPOLARIZED)
    small = levels_of_ring(N)
    spacing = np.diff(np.unique(small.round(9))).max()
    state = system.near_level()
    assert state.eigenvalues.shape[2] < N / 4
    # the level of interpolated bands lies within a level spacing of that of the mesh
    assert system.fermi_level() == pytest.approx(filling.fermi_level, abs=spacing)
    whole = ring(
        alternating=False,
        overlapping=overlap > 0,
        n_electrons=n_electrons,
        kpts=kpts,
        sigma=0.0001,
        options=SolverOptions(),
    )
    assert whole.near_level().eigenvalues.shape[2] == N
    assert system.fermi_level() == pytest.approx(whole.fermi_level(), abs=1e-7)
    assert system.band_gap() == pytest.approx(whole.band_gap(), abs=1e-7)


def test_a_few_bands_on_a_path(ring):
    system, whole = (
        ring(alternating=True, n_bands=None, options=SolverOptions(memory=memory))
        for memory in (MEMORY, None)
    )
    few = system.band_structure("GX", 3, n_bands=8)
    every = whole.band_structure("GX", 3)
    first = N // 2 - 4
    np.testing.assert_allclose(few.energies, every.energies[..., first : first + 8], atol=1e-8)
    assert few.reference == pytest.approx(every.reference, abs=1e-8)


def test_what_needs_all_bands_is_refused_with_the_reason(ring):
    system = ring(alternating=True)
    with pytest.raises(MemoryError, match=f"all {N} bands take about .* ask for a few bands"):
        system.ground_state()
    with pytest.raises(MemoryError, match="charges need every filled band"):
        system.charges()
    with pytest.raises(MemoryError, match="ask for a few bands"):
        system.band_structure("GX", 3)
    system.fermi_level()
    with pytest.raises(MemoryError):  # few bands are not all of them
        system.ground_state()


def test_a_window_that_does_not_hold_the_level_is_not_filled(ring):
    """Dispersive bands: of two windows one misses the level at some k-points."""
    system = ring(alternating=False, n_electrons=200.0, kpts=(1, 1, 6))
    matrices = system.hamiltonian, system.overlap
    window = located(*matrices, BandWindow(101, 8, np.nan))
    with pytest.raises(FermiLevelError, match=r"n_bands must|n_electrons must"):
        ground_state(*matrices, system.mesh, 500.0, window=window, options=system.options)


@pytest.mark.parametrize("memory", [MEMORY, None])
def test_states_on_atoms(ring, memory):
    """All states of a shell of energies, of closed form, evenly on equal atoms."""
    system = ring(alternating=False, n_electrons=404.0, options=SolverOptions(memory=memory))
    level = system.fermi_level()
    low, high = -0.15, 0.17
    exact = levels_of_ring(N) - level
    n_states = 2 * np.count_nonzero((exact > low) & (exact < high))
    found = system.states_on_atoms((low, high))
    assert n_states > 16
    np.testing.assert_allclose(found, n_states / N, atol=1e-8)
    with pytest.raises(WindowError, match="n_bands must be larger than 6"):
        system.states_on_atoms((-0.5, 0.5), n_bands=6)
    with pytest.raises(ValueError, match="a lower and a higher one"):
        system.states_on_atoms((0.5, -0.5))


def test_estimated_density_of_a_ring(ring):
    """Counts of states within their errors of the closed form's."""
    system = ring(alternating=False, overlapping=True)
    with pytest.warns(CoarseMeshWarning, match=r"5\.6 levels of its 1 k-points"):
        found = system.estimated_density(0.05, n_vectors=8)
    exact = levels_of_ring(N, S0)
    for energy in (-3.0, -1.0, 0.0, 1.0, 4.0):
        at = int(np.searchsorted(found.bounds, energy))
        truth = 2 * np.count_nonzero(exact < found.bounds[at])
        assert abs(found.counts[at] - truth) < 4 * found.count_errors[at] + 2
    level, error = found.fermi_level(float(N))
    assert abs(level - system.fermi_level()) < 4 * error
    assert found.counts[-1] == pytest.approx(2 * N, abs=1e-6)
