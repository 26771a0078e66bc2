"""V_nl, V_NA, spin-orbit coupling and H0 against quadrature, DFT runs and symmetries."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.neighborlist import neighbor_list
from ase.units import Bohr, Hartree, Rydberg
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline
from scipy.linalg import eigh
from scipy.spatial.transform import Rotation
from scipy.special import spherical_jn

from hotham_ase.basis.harmonics import real_spherical_harmonics, sphere_rule
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dft.formats import read_sample
from hotham_ase.dft.upf import read_upf
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import (
    initial_hamiltonian,
    initial_values,
    kinetic_matrix,
    neutral_atom_matrix,
    nonlocal_matrix,
    overlap_matrix,
    spin_orbit_matrix,
)
from hotham_ase.overlap.potentials import angular_momentum
from tests.overlap.test_two_centre import orbitals_at
from tests.potentials import make_potential, with_potentials

MATRICES = [nonlocal_matrix, neutral_atom_matrix, spin_orbit_matrix, initial_hamiltonian]


@pytest.fixture(scope="module")
def pseudo_basis(orb_basis: OrbitalBasis, shared_data: Path) -> OrbitalBasis:
    """ABACUS's orbitals with the pseudopotentials that all shared runs used."""
    files = {
        symbol: shared_data / "abacus" / "orbitals" / f"{symbol}_nexthamdojo.upf"
        for symbol in orb_basis.symbols
    }
    return OrbitalBasis(
        tuple(replace(s, potential=read_upf(files[s.symbol])[1]) for s in orb_basis.species)
    )


@pytest.fixture(scope="module")
def made_up_basis(smooth_basis: OrbitalBasis) -> OrbitalBasis:
    """C and Mo with smooth orbitals and a potential of p projectors."""
    return with_potentials(smooth_basis)


def molecule(symbols: str, positions) -> Atoms:
    return Atoms(symbols, positions=positions)


# --------------------------------------------------------------------------- quadrature


@cache
def ball_rule(radius: float, n_radial: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights in a ball, denser at its centre."""
    x, w = np.polynomial.legendre.leggauss(n_radial)
    u = (x + 1) / 2
    r, weight = radius * u**2, w * radius * u
    directions, angular = sphere_rule(degree)
    points = (r[:, None, None] * directions).reshape(-1, 3)
    return points, np.outer(weight * r**2, angular).ravel()


def integral(
    basis: OrbitalBasis, atoms: Atoms, a: int, i: int, j: int, n_radial: int = 60, degree: int = 90
) -> np.ndarray:
    """⟨φ_i|V_NA,a|φ_j⟩ on points about atom a."""
    potential = basis[atoms.symbols[a]].potential
    points, weights = ball_rule(potential.neutral_reach, n_radial, degree)
    v = CubicSpline(potential.grid, potential.neutral)(np.linalg.norm(points, axis=1))
    bra, ket = (
        orbitals_at(basis[atoms.symbols[k]], points + atoms.positions[a] - atoms.positions[k])
        for k in (i, j)
    )
    return (bra * (weights * v)) @ ket.T


@pytest.mark.parametrize(("symbols", "distance"), [("CC", 1.4), ("SiC", 1.9)])
def test_two_places_are_exact(pseudo_basis, symbols, distance):
    atoms = molecule(symbols, [[0, 0, 0], distance * np.array([2, -1, 2]) / 3])
    v = neutral_atom_matrix(atoms, pseudo_basis)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        truth = sum(integral(pseudo_basis, atoms, a, i, j, 160, 80) for a in (0, 1))
        assert np.abs(block(v, i, j) - truth).max() < 1e-5


def block(matrix: RealSpaceMatrix, i: int, j: int, component: int = 0) -> np.ndarray:
    """Block of two atoms of a molecule."""
    found = matrix.layout.find(np.array([i]), np.array([j]), np.zeros((1, 3), dtype=int))
    return matrix.layout.block(matrix.values, int(found[0]))[component]


def triples(atoms: Atoms, n: int) -> list[Atoms]:
    """Molecules of an atom a and two others i, j within 4.5 Å of it, the first half close ones."""
    rng = np.random.default_rng(0)
    centre, other, vectors = neighbor_list("ijD", atoms, 4.5)
    out = []
    for k in range(n):
        a = rng.integers(len(atoms))
        near = np.flatnonzero(centre == a)
        near = near[np.argsort(np.linalg.norm(vectors[near], axis=1))][: 6 if k < n // 2 else None]
        p, q = rng.choice(near, 2, replace=False)
        while np.linalg.norm(vectors[p] - vectors[q]) > 7:  # the orbitals must overlap
            p, q = rng.choice(near, 2, replace=False)
        symbols = [atoms.symbols[k] for k in (a, other[p], other[q])]
        out.append(Atoms(symbols, positions=[np.zeros(3), vectors[p], vectors[q]]))
    return out


@pytest.mark.parametrize(
    ("runs", "largest", "mean"),
    [
        (["graphene/000", "bilayer_graphene/000", "carbon_allotropes/diamond_1"], 1e-3, 2e-5),
        (["silicon/001"], 1e-3, 2e-5),
        (["mos2/000"], 1e-3, 3e-5),
    ],
)
def test_three_places_against_quadrature(pseudo_basis, shared_data, runs, largest, mean):
    errors = []
    for run in runs:
        atoms = read(shared_data / "abacus" / run / "structure.extxyz")
        for triple in triples(atoms, 12 // len(runs)):
            v = block(neutral_atom_matrix(triple, pseudo_basis), 1, 2)
            bare = block(neutral_atom_matrix(triple[1:], pseudo_basis), 0, 1)
            errors.append(np.abs(v - bare - integral(pseudo_basis, triple, 0, 1, 2)).ravel())
    errors = np.concatenate(errors)
    assert errors.max() < largest
    assert errors.mean() < mean


def test_a_potential_that_repels_somewhere(made_up_basis):
    def repelling(species):
        grid = species.potential.grid
        neutral = -8 * np.cos(3 * grid) * (1 - grid / 3) ** 4
        return replace(species, potential=replace(species.potential, neutral=neutral))

    basis = OrbitalBasis(tuple(repelling(s) for s in made_up_basis.species))
    atoms = molecule("CCMo", [[0, 0, 0], [0.9, 1.1, 0.4], [-1.3, 0.2, 1.8]])
    v = neutral_atom_matrix(atoms, basis)
    for i, j in product(range(3), range(3)):
        truth = sum(integral(basis, atoms, a, i, j, 60, 60) for a in range(3))
        assert np.abs(block(v, i, j) - truth).max() < 1e-3


# --------------------------------------------------------------------------- one atom


@pytest.mark.parametrize("symbol", ["C", "Si", "Mo"])
def test_potentials_of_one_atom_by_radial_integrals(pseudo_basis, symbol):
    species, atom = pseudo_basis[symbol], Atoms(symbol)
    h0, kinetic = (f(atom, pseudo_basis) for f in (initial_hamiltonian, kinetic_matrix))
    found = h0.onsite_block(0) - kinetic.onsite_block(0)
    r = np.linspace(0, species.cutoff, 16 * len(species.grid) - 15)
    radial = CubicSpline(species.grid, species.radial, axis=1)(r)
    starts = np.cumsum([0, *(2 * l + 1 for l in species.shells)])
    for (s, l), (t, m) in product(enumerate(species.shells), repeat=2):
        part = found[starts[s] : starts[s + 1], starts[t] : starts[t + 1]]
        truth = potential_integral(species.potential, l, r, radial[s], radial[t]) if l == m else 0
        assert np.abs(part - truth * np.eye(2 * l + 1, 2 * m + 1)).max() < 1e-5


def potential_integral(potential, l: int, r: np.ndarray, f: np.ndarray, g: np.ndarray):
    """⟨f|V_nl + V_NA|g⟩ of functions f(r), g(r) (…, n_r) of degree l, averaged over j."""
    v = np.where(r <= potential.grid[-1], CubicSpline(potential.grid, potential.neutral)(r), 0)
    of_l = np.flatnonzero(np.array(potential.degrees) == l)
    upper = np.array(potential.total_momenta)[of_l] > l
    beta = CubicSpline(potential.grid, potential.projectors[of_l], axis=1)(r)
    beta[r >= np.array(potential.cutoffs)[of_l, None]] = 0.0
    left, right = (simpson(r**2 * beta * h[..., None, :], x=r) for h in (f, g))
    d = potential.coefficients[np.ix_(of_l, of_l)] * np.where(upper, l + 1, l) / (2 * l + 1)
    return simpson(r**2 * f * v * g, x=r) + np.einsum("...p,pq,...q->...", left, d, right)


@pytest.mark.parametrize("symbol", ["C", "Si"])
def test_levels_of_one_atom(pseudo_basis, symbol):
    """H0 on many Gaussians has the bound states of the radial equation in a ball."""
    potential, reach = pseudo_basis[symbol].potential, 12.0
    grid = np.linspace(0, reach, 1201)
    shells, exponents = (0,) * 12 + (1,) * 12, np.geomspace(0.06, 60, 12)
    radial = [grid**l * np.exp(-a * grid**2) for l in (0, 1) for a in exponents]
    radial /= np.sqrt(simpson(grid**2 * np.square(radial), x=grid))[:, None]
    species = SpeciesBasis(symbol, shells, (reach,) * 24, 4.0, grid, radial, potential)
    atom, basis = Atoms(symbol), OrbitalBasis((species,))
    h0, s = (f(atom, basis).onsite_block(0) for f in (initial_hamiltonian, overlap_matrix))
    found = eigh(h0, s, eigvals_only=True)
    r = np.linspace(0, reach, 2401)
    bound = []
    for l in (0, 1):  # sin(kr)/r is zero at the wall; p waves vanish close to where l = 0 ones do
        k = np.array([n + l / 2 for n in range(1, 60)]) * np.pi / reach
        waves = spherical_jn(l, np.outer(k, r)) * (1 - (r / reach) ** 2) ** l
        slopes = np.gradient(waves, r, axis=1, edge_order=2)
        kinetic = slopes[:, None] * slopes * r**2 + l * (l + 1) * waves[:, None] * waves
        h = potential_integral(potential, l, r, waves[:, None], waves[None])
        h += 0.5 * Hartree * Bohr**2 * simpson(kinetic, x=r)
        overlap = simpson(waves[:, None] * waves * r**2, x=r)
        levels = eigh(h, overlap, eigvals_only=True)
        bound += np.repeat(levels[levels < -0.3], 2 * l + 1).tolist()
    assert len(bound) >= 1
    assert np.abs(np.sort(bound) - found[: len(bound)]).max() < 1e-3


# --------------------------------------------------------------------------- DFT runs


@pytest.mark.parametrize("run", ["mos2_soc/000", "mos2_soc/001", "bi2se3_soc/000"])
def test_spin_orbit_coupling_is_that_of_abacus(shared_data, run):
    sample = read_sample(shared_data / "abacus" / run)
    coupling = spin_orbit_matrix(sample.atoms, sample.basis, pairs=sample.hamiltonian.pairs)
    errors = np.abs(coupling.values[1:] - sample.hamiltonian.values[1:]) / Rydberg
    assert np.abs(coupling.values[0]).max() == 0
    assert np.abs(coupling.values[1:]).max() / Rydberg > 0.05
    assert errors.max() < 5e-8


@pytest.mark.parametrize("run", ["graphene/000", "silicon/001", "hbn/000"])
def test_beyond_the_orbitals_only_v_nl_is_left(shared_data, run):
    sample = read_sample(shared_data / "abacus" / run)
    pairs = sample.hamiltonian.pairs
    rest = sample.hamiltonian - kinetic_matrix(sample.atoms, sample.basis, pairs=pairs)
    rest = rest - nonlocal_matrix(sample.atoms, sample.basis, pairs=pairs)
    beyond = pairs.edge_lengths > 14 * Bohr
    h, left = (
        m.layout.largest(m.values)[pairs.n_atoms :][beyond] for m in (sample.hamiltonian, rest)
    )
    assert h.max() > 1e-6
    assert left.max() < 1e-8 * Rydberg


# --------------------------------------------------------------------------- algebra, symmetries


@pytest.mark.parametrize("l", range(5))
def test_angular_momentum_algebra(l):
    x, y, z = 1j * angular_momentum(l)
    assert np.abs(x @ y - y @ x - 1j * z).max() < 1e-12
    assert np.abs(y @ z - z @ y - 1j * x).max() < 1e-12
    assert np.abs(x @ x + y @ y + z @ z - l * (l + 1) * np.eye(2 * l + 1)).max() < 1e-12
    # about z, between the harmonics themselves: −i ∂/∂φ
    points = np.random.default_rng(0).normal(size=(40, 3))
    turned = points @ Rotation.from_rotvec([0, 0, 2e-5]).as_matrix().T
    back = points @ Rotation.from_rotvec([0, 0, -2e-5]).as_matrix().T
    slope = (real_spherical_harmonics(l, turned) - real_spherical_harmonics(l, back)) / 4e-5
    truth = np.linalg.lstsq(real_spherical_harmonics(l, points), -1j * slope)[0]
    assert np.abs(z - truth).max() < 1e-7


def crystal(seed: int = 0) -> Atoms:
    """C and Mo in a small triclinic cell."""
    rng = np.random.default_rng(seed)
    cell = [[3.1, 0.2, 0.0], [0.4, 3.6, 0.1], [0.0, -0.3, 4.2]]
    scaled = [[0.05, 0.1, 0.0], [0.5, 0.45, 0.4], [0.2, 0.7, 0.75]]
    atoms = Atoms("CMoC", cell=cell, scaled_positions=scaled, pbc=True)
    atoms.positions += rng.normal(scale=0.05, size=(3, 3))
    return atoms


@pytest.mark.parametrize("make", MATRICES)
def test_hermitian(made_up_basis, make):
    matrix = make(crystal(), made_up_basis)
    mirrored = matrix.layout.mirror(matrix.values)
    signs = np.array([1, -1, -1, -1])[: len(matrix.values), None]
    assert np.abs(matrix.values - signs * mirrored).max() < 1e-12
    assert matrix.values.any()


@pytest.mark.parametrize("make", MATRICES)
def test_rotation(made_up_basis, rotate_orbitals, make):
    """Blocks turn with the structure; the coupling is an axial vector, too."""
    atoms = crystal()
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ turn.T)
    turned.positions = atoms.positions @ turn.T
    before = make(atoms, made_up_basis)
    after = make(turned, made_up_basis, pairs=placed(before, turned))
    d = {s.symbol: rotate_orbitals(s.shells, turn) for s in made_up_basis.species}
    i, j = before.layout.atoms
    for n in range(0, len(i), 7):
        expected = np.stack(
            [
                d[atoms.symbols[i[n]]] @ x @ d[atoms.symbols[j[n]]].T
                for x in before.layout.block(before.values, n)
            ]
        )
        if len(expected) == 4:
            expected[1:] = np.einsum("ab,bij->aij", turn, expected[1:])
        assert np.abs(after.layout.block(after.values, n) - expected).max() < 1e-5


def placed(matrix: RealSpaceMatrix, atoms: Atoms) -> PairList:
    """The pairs of a matrix between atoms elsewhere."""
    p = matrix.pairs
    return PairList(
        atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, p.edge_index, p.cell_shifts
    )


@pytest.mark.parametrize("make", MATRICES)
def test_translation_and_other_images(made_up_basis, make):
    atoms = crystal()
    moved = atoms.copy()
    moved.positions += [0.3, -5.1, 2.2]
    before, after = make(atoms, made_up_basis), make(moved, made_up_basis)
    assert np.abs(before.values - after.values).max() < 1e-5
    wrapped = atoms.copy()
    wrapped.positions[1] += atoms.cell[0] - 2 * atoms.cell[2]
    expected, found = (at_k(make(a, made_up_basis)) for a in (atoms, wrapped))
    assert np.abs(np.linalg.eigvalsh(expected) - np.linalg.eigvalsh(found)).max() < 1e-4


def at_k(matrix: RealSpaceMatrix, k=(0.11, 0.23, -0.31)) -> np.ndarray:
    """(n, n) H(k), or (2n, 2n) with spin."""
    layout = matrix.layout
    parts = np.zeros((len(matrix.values), layout.n_basis, layout.n_basis), dtype=complex)
    rows = [slice(*ends) for ends in pairwise(layout.orbital_offsets)]
    for block, (i, j) in enumerate(layout.atoms.T):
        phase = np.exp(2j * np.pi * layout.shifts[block] @ k)
        parts[:, rows[i], rows[j]] += phase * layout.block(matrix.values, block)
    if len(parts) == 1:
        return parts[0]
    pauli = [np.eye(2), 1j * np.array([[0, 1], [1, 0]]), [[0, 1], [-1, 0]], 1j * np.diag([1, -1])]
    return sum(np.kron(part, s) for part, s in zip(parts, pauli, strict=True))


@pytest.mark.parametrize("make", MATRICES)
def test_order_of_atoms(made_up_basis, make):
    atoms = crystal()
    order = [2, 1, 0]
    expected, found = (at_k(make(a, made_up_basis)) for a in (atoms, atoms[order]))
    n = [made_up_basis[s].n_orbitals for s in atoms.symbols]
    ends = np.cumsum(n) * (len(found) // sum(n))
    indices = np.concatenate([np.split(np.arange(len(found)), ends[:-1])[k] for k in order])
    assert np.abs(found - expected[np.ix_(indices, indices)]).max() < 1e-5


@pytest.mark.parametrize("make", MATRICES)
def test_supercell(made_up_basis, make):
    atoms = crystal()
    small, large = make(atoms, made_up_basis), make(atoms.repeat((1, 2, 1)), made_up_basis)
    levels = [np.linalg.eigvalsh(at_k(small, (0.1, (0.3 + n) / 2, 0.2))) for n in (0, 1)]
    found = np.linalg.eigvalsh(at_k(large, (0.1, 0.3, 0.2)))
    assert np.abs(np.sort(np.concatenate(levels)) - found).max() < 1e-4


@pytest.mark.parametrize("make", MATRICES)
def test_molecule_as_in_a_large_cell(made_up_basis, make):
    atoms = molecule("CMoC", crystal().positions)
    boxed = Atoms("CMoC", positions=atoms.positions, cell=[40, 40, 40], pbc=True)
    alone, inside = make(atoms, made_up_basis), make(boxed, made_up_basis)
    assert np.array_equal(alone.values, inside.values)


@pytest.mark.parametrize("make", MATRICES)
def test_given_pairs(made_up_basis, make):
    atoms = crystal()
    whole = make(atoms, made_up_basis)
    pairs = PairList.from_atoms(atoms, 3.3)
    part = make(atoms, made_up_basis, pairs=pairs)
    assert part.pairs is pairs
    assert np.abs(whole.on_pairs(pairs).values - part.values).max() < 1e-5


def test_h0_is_a_sum(made_up_basis):
    atoms = crystal()
    h0 = initial_hamiltonian(atoms, made_up_basis)
    parts = [f(atoms, made_up_basis, pairs=h0.pairs) for f in (kinetic_matrix, *MATRICES[:2])]
    assert np.abs(sum(p.values for p in parts) - h0.values).max() < 1e-10
    values = initial_values(atoms, made_up_basis, h0.pairs)
    assert np.array_equal(values, h0.single)
    assert values.flags.writeable


def test_smooth_when_an_atom_moves(pseudo_basis):
    """No threshold is crossed: third differences of steps of 0.001 Å are those of rounding."""
    cell = [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]
    atoms = Atoms("Si2", cell=cell, scaled_positions=[[0] * 3, [0.25] * 3], pbc=True)
    pairs = initial_hamiltonian(atoms, pseudo_basis).pairs
    values = []
    for step in range(40):
        atoms.positions[0] = 0.001 * step * np.array([1.0, 0.6, -0.3])
        moved = PairList(
            atoms.numbers, atoms.positions, cell, atoms.pbc, pairs.edge_index, pairs.cell_shifts
        )
        values.append(initial_values(atoms, pseudo_basis, moved))
    jumps = np.abs(np.diff(values, 3, axis=0))
    assert jumps.max() < 2e-5


# --------------------------------------------------------------------------- errors


def test_what_is_missing_is_named(smooth_basis):
    atoms = molecule("CMo", [[0, 0, 0], [0, 0, 1.9]])
    with pytest.raises(BasisError, match=r"species \['C', 'Mo'\] of the basis have no atomic pot"):
        nonlocal_matrix(atoms, smooth_basis)
    scalar = with_potentials(smooth_basis, relativistic=False)
    assert nonlocal_matrix(atoms, scalar).values.any()
    with pytest.raises(BasisError, match="have no relativistic pseudopotential"):
        spin_orbit_matrix(atoms, scalar)
    bare = replace(make_potential(4.0), neutral=None)
    without = OrbitalBasis(tuple(replace(s, potential=bare) for s in smooth_basis.species))
    assert nonlocal_matrix(atoms, without).values.any()
    with pytest.raises(BasisError, match="have no potential of the neutral atom"):
        initial_hamiltonian(atoms, without)


def test_a_species_without_neutral_potential_has_none(made_up_basis):
    c, mo = made_up_basis.species
    silent = replace(c, potential=replace(c.potential, neutral=0 * c.potential.grid))
    atoms = molecule("CMoC", crystal().positions)
    found = neutral_atom_matrix(atoms, OrbitalBasis((silent, mo)))
    truth = integral(made_up_basis, atoms, 1, 0, 2, 100, 60)
    assert np.abs(block(found, 0, 2) - truth).max() < 1e-3


@pytest.mark.parametrize("make", [nonlocal_matrix, spin_orbit_matrix])
def test_a_species_without_projectors_feels_those_of_others(made_up_basis, make):
    """As hydrogen's may be: what acts is then a sum over the other atoms alone."""
    c, mo = made_up_basis.species
    none = replace(
        c.potential,
        degrees=(),
        total_momenta=(),
        coefficients=np.zeros((0, 0)),
        projectors=np.zeros((0, len(c.potential.grid))),
        cutoffs=(),
    )
    faint = replace(c.potential, coefficients=0 * c.potential.coefficients)
    atoms = molecule("CMo", [[0, 0, 0], [0, 0, 1.9]])
    found, truth = (make(atoms, OrbitalBasis((replace(c, potential=p), mo))) for p in (none, faint))
    difference = found - truth
    assert found.values.any()
    assert np.abs(difference.values).max() < 1e-12
