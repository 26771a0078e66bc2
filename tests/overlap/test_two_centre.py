"""Two-centre integrals against brute-force integration and their symmetries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Hartree
from scipy.interpolate import CubicSpline
from scipy.linalg import eigvalsh
from scipy.spatial.transform import Rotation

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.matrices import MatrixError
from hotham_ase.matrices.pairs import PairList, PairListError
from hotham_ase.overlap import (
    OverlapGradient,
    PositionMatrix,
    kinetic_matrix,
    overlap_gradient,
    overlap_matrix,
    position_matrix,
    two_centre_tables,
)


def orbitals_at(species: SpeciesBasis, points: np.ndarray) -> np.ndarray:
    """(n_orbitals, n_points) values of the orbitals at points relative to their atom."""
    r = np.linalg.norm(points, axis=1)
    radial = CubicSpline(species.grid, species.radial, axis=1)(r)
    radial[:, r > species.cutoff] = 0.0
    return np.concatenate(
        [radial[n] * real_spherical_harmonics(l, points).T for n, l in enumerate(species.shells)]
    )


def bipolar_grid(bra: SpeciesBasis, ket: SpeciesBasis, vector: np.ndarray):
    """Points and weights for the volume common to two spheres.

    d³r = (r_a r_b / R) dr_a dr_b dφ with the distances to both centres as coordinates, so the
    integrand is smooth inside its bounds; Gauss-Legendre points in r_a and r_b, equidistant in φ.
    """
    distance = np.linalg.norm(vector)
    # the bounds of r_b have kinks where r_a is one of these
    kinks = [distance, ket.cutoff - distance, distance - ket.cutoff]
    edges = sorted({0.0, *np.clip(kinks, 0, bra.cutoff), *bra.cutoffs})
    x, w = np.polynomial.legendre.leggauss(48)
    ra, rb, weight = [], [], []
    for low, high in pairwise(edges):
        half = (high - low) / 2
        for a, wa in zip(half * x + (high + low) / 2, half * w, strict=True):
            bottom, top = abs(distance - a), min(distance + a, ket.cutoff)
            if top > bottom:
                b = (top - bottom) / 2 * x + (top + bottom) / 2
                ra.append(np.full_like(b, a))
                rb.append(b)
                weight.append(wa * (top - bottom) / 2 * w * a * b / distance)
    ra, rb, weight = (np.concatenate(v) for v in (ra, rb, weight))
    height = (ra**2 + distance**2 - rb**2) / (2 * distance)
    radius = np.sqrt(np.clip(ra**2 - height**2, 0, None))
    axis = vector / distance
    u = np.linalg.svd(axis[None])[2][1]
    v = np.cross(axis, u)
    n_phi = bra.l_max + ket.l_max + 3  # exact also with one more factor r
    for phi in 2 * np.pi / n_phi * np.arange(n_phi):
        ring = radius[:, None] * (np.cos(phi) * u + np.sin(phi) * v)
        yield height[:, None] * axis + ring, weight * 2 * np.pi / n_phi


def brute_force(bra: SpeciesBasis, ket: SpeciesBasis, vector: np.ndarray):
    """Overlap (n_a, n_b) and position relative to the bra's atom (3, n_a, n_b)."""
    s = np.zeros((bra.n_orbitals, ket.n_orbitals))
    r = np.zeros((3, *s.shape))
    for points, weight in bipolar_grid(bra, ket, vector):
        left, right = orbitals_at(bra, points) * weight, orbitals_at(ket, points - vector).T
        s += left @ right
        for c in range(3):
            r[c] += (left * points[:, c]) @ right
    return s, r


def dimer(symbols: str | list[str], vector: np.ndarray) -> Atoms:
    return Atoms(symbols, positions=[np.zeros(3), vector])


DIRECTIONS = np.array([[0.36, -0.48, 0.8], [0.0, 0.0, -1.0]])


@pytest.mark.parametrize("distance", [0.8, 1.42, 2.9, 5.1])
@pytest.mark.parametrize("symbols", [["C", "C"], ["C", "Mo"], ["Mo", "Mo"]])
def test_overlap_and_position_by_brute_force(smooth_basis, symbols, distance):
    a, b = (smooth_basis[s] for s in symbols)
    vector = distance * DIRECTIONS[0]
    atoms = dimer(symbols, vector)
    s, r = brute_force(a, b, vector)
    position = position_matrix(atoms, smooth_basis)
    np.testing.assert_allclose(position.overlap.hopping_block(0), s, atol=2e-8)
    np.testing.assert_allclose(position.hopping_block(0), r, atol=1e-7)


@pytest.mark.parametrize("distance", [0.6, 1.42, 2.46, 4.9, 7.2])
@pytest.mark.parametrize("symbol", ["C", "Mo"])
def test_numerical_orbitals_by_brute_force(orb_basis, symbol, distance):
    vector = distance * DIRECTIONS[0]
    expected, _ = brute_force(orb_basis[symbol], orb_basis[symbol], vector)
    ours = overlap_matrix(dimer([symbol] * 2, vector), orb_basis).hopping_block(0)
    error = np.abs(ours - expected).max()
    print(f"{symbol}-{symbol} at {distance} Å: max |ΔS| against integration {error:.1e}")
    assert error < 1e-7


def test_onsite_blocks_by_radial_integration(smooth_basis):
    """⟨a|b⟩ = δ ∫ r² R_a R_b dr and ⟨a|T|b⟩ = δ ∫ [r² R_a' R_b' + l(l+1) R_a R_b] dr ħ²/2m."""
    species = smooth_basis["C"]
    spline = CubicSpline(species.grid, species.radial.T)
    x, w = np.polynomial.legendre.leggauss(400)
    r, w = (x + 1) / 2 * species.cutoff, w / 2 * species.cutoff
    value, slope = spline(r), spline(r, 1)
    atoms = Atoms("C")
    s = overlap_matrix(atoms, smooth_basis).onsite_block(0)
    t = kinetic_matrix(atoms, smooth_basis).onsite_block(0)
    expected_s, expected_t = np.zeros((2, 13, 13))
    starts = np.cumsum([0, *(2 * l + 1 for l in species.shells)])
    for m, l in enumerate(species.shells):
        for n, k in enumerate(species.shells):
            if l == k:
                cells = np.ix_(range(starts[m], starts[m + 1]), range(starts[n], starts[n + 1]))
                product = value[:, m] * value[:, n]
                gradient = r**2 * slope[:, m] * slope[:, n] + l * (l + 1) * product
                expected_s[cells] = np.eye(2 * l + 1) * (w @ (r**2 * product))
                expected_t[cells] = np.eye(2 * l + 1) * (w @ gradient) / 2 * Hartree * Bohr**2
    np.testing.assert_allclose(s, expected_s, atol=1e-9)
    np.testing.assert_allclose(t, expected_t, atol=1e-6)


def crystal() -> Atoms:
    """A triclinic, heteronuclear cell without symmetry; one atom lies outside it."""
    cell = [[4.1, 0.3, -0.2], [-0.7, 4.6, 0.4], [0.5, 0.9, 5.2]]
    positions = [[0.1, 0.2, 0.3], [2.0, 2.4, 1.1], [4.9, 0.6, 3.3]]
    return Atoms(["C", "Mo", "C"], positions=positions, cell=cell, pbc=True)


def test_edge_frame_has_no_elements_between_different_m(orb_basis, rotate_orbitals):
    rng = np.random.default_rng(5)
    shells = {symbol: orb_basis[symbol].shells for symbol in ("Mo", "S")}
    m_mo, m_s = (np.concatenate([np.arange(-l, l + 1) for l in x]) for x in shells.values())
    for _ in range(5):
        vector = rng.normal(size=3)
        frame = np.linalg.qr(np.column_stack([vector, rng.normal(size=(3, 2))]))[0]
        to_z = frame[:, [1, 2, 0]].T * np.sign(frame[:, 0] @ vector)  # its last row is the edge
        d_mo, d_s = (rotate_orbitals(x, to_z) for x in shells.values())
        block = overlap_matrix(dimer(["Mo", "S"], 2 * vector), orb_basis).hopping_block(0)
        turned = d_mo @ block @ d_s.T
        assert np.abs(turned[m_mo[:, None] != m_s]).max() < 1e-12
        assert np.abs(turned[m_mo[:, None] == m_s]).max() > 1e-3


def test_rotated_structure_has_rotated_blocks(smooth_basis, rotate_orbitals):
    q = Rotation.random(random_state=2).as_matrix()
    atoms = crystal()
    turned = Atoms(atoms.numbers, atoms.positions @ q.T, cell=atoms.cell[:] @ q.T, pbc=True)
    d = {s.symbol: rotate_orbitals(s.shells, q) for s in smooth_basis.species}
    for function, tolerance in ((overlap_matrix, 1e-12), (kinetic_matrix, 1e-10)):
        before = function(atoms, smooth_basis)
        after = function(turned, smooth_basis).on_pairs(before.pairs)
        for edge in range(0, before.pairs.n_edges, 7):
            i, j = (atoms.symbols[n] for n in before.pairs.edge_index[:, edge])
            expected = d[i] @ before.hopping_block(edge) @ d[j].T
            np.testing.assert_allclose(after.hopping_block(edge), expected, atol=tolerance)


def test_rotated_vectors_rotate_as_vectors(smooth_basis, rotate_orbitals):
    q = Rotation.random(random_state=3).as_matrix()
    vector = np.array([0.7, -0.4, 1.3])
    d = {s.symbol: rotate_orbitals(s.shells, q) for s in smooth_basis.species}
    for function in (position_matrix, overlap_gradient):
        before = function(dimer(["C", "Mo"], vector), smooth_basis).hopping_block(0)
        after = function(dimer(["C", "Mo"], q @ vector), smooth_basis).hopping_block(0)
        expected = np.einsum("dc,ma,cab,nb->dmn", q, d["C"], before, d["Mo"])
        np.testing.assert_allclose(after, expected, atol=1e-12)


def test_supercell_has_the_folded_spectrum(smooth_basis):
    atoms = crystal()
    cell, supercell = (overlap_matrix(a, smooth_basis) for a in (atoms, atoms.repeat((2, 1, 1))))
    folded = [eigvalsh(cell.at_k((k, 0.3, 0.1), format="dense")) for k in (0.1, 0.6)]
    unfolded = eigvalsh(supercell.at_k((0.2, 0.3, 0.1), format="dense"))
    np.testing.assert_allclose(unfolded, np.sort(np.concatenate(folded)), atol=1e-12)


def test_translation_permutation_and_wrapping(smooth_basis):
    atoms = crystal()
    reference = overlap_matrix(atoms, smooth_basis).at_k((0.1, 0.2, 0.3), format="dense")
    moved = atoms.copy()
    moved.translate([0.3, -7.1, 2.2])
    shifted = overlap_matrix(moved, smooth_basis).at_k((0.1, 0.2, 0.3), format="dense")
    np.testing.assert_allclose(shifted, reference, atol=1e-12)
    wrapped = atoms.copy()
    wrapped.wrap()
    swapped = wrapped[[2, 0, 1]]
    np.testing.assert_allclose(
        eigvalsh(overlap_matrix(swapped, smooth_basis).at_k((0.1, 0.2, 0.3), format="dense")),
        eigvalsh(reference),
        atol=1e-12,
    )


def test_reverse_blocks_are_what_the_tables_of_the_reverse_give(smooth_basis):
    """Half of the pairs is computed; the other half must be right by itself."""
    atoms = crystal()
    s, gradient = overlap_matrix(atoms, smooth_basis), overlap_gradient(atoms, smooth_basis)
    tables = two_centre_tables(smooth_basis)
    for edge in range(s.pairs.n_edges):
        i, j = s.pairs.edge_index[:, edge]
        table = tables.pair(atoms.symbols[i], atoms.symbols[j])
        vector = s.pairs.edge_vectors[edge][None]
        np.testing.assert_allclose(
            s.hopping_block(edge), table.evaluate(vector)[0, ..., 0], atol=1e-9
        )
        np.testing.assert_allclose(
            gradient.hopping_block(edge), table.gradient(vector)[..., 0], atol=1e-7
        )


def test_overlap_gradient_by_finite_differences(smooth_basis):
    vector, h = np.array([1.1, -0.6, 1.4]), 2e-3
    gradient = overlap_gradient(dimer(["C", "Mo"], vector), smooth_basis).hopping_block(0)
    for c in range(3):
        s = {
            n: overlap_matrix(dimer(["C", "Mo"], vector + n * h * np.eye(3)[c]), smooth_basis)
            for n in (-2, -1, 1, 2)
        }
        s = {n: matrix.hopping_block(0) for n, matrix in s.items()}
        expected = (s[-2] - 8 * s[-1] + 8 * s[1] - s[2]) / (12 * h)
        np.testing.assert_allclose(gradient[c], expected, atol=2e-7)


def test_onsite_gradient_is_the_limit_of_close_atoms(smooth_basis):
    onsite = overlap_gradient(Atoms("C"), smooth_basis).onsite_block(0)
    near = overlap_gradient(dimer("CC", np.array([1e-5, 2e-5, -1e-5])), smooth_basis)
    assert np.abs(onsite).max() > 0.1
    np.testing.assert_allclose(near.hopping_block(0), onsite, atol=1e-3)


def test_position_symmetry_and_origin(smooth_basis):
    atoms = crystal()
    position = position_matrix(atoms, smooth_basis)
    pairs, s = position.pairs, position.overlap
    for edge in range(pairs.n_edges):
        reverse = pairs.reverse_edge_index[edge]
        lattice = pairs.cell_shifts[edge] @ pairs.cell
        block, overlap = position.hopping_block(edge), s.hopping_block(edge)
        expected = (block - lattice[:, None, None] * overlap).swapaxes(1, 2)
        np.testing.assert_allclose(position.hopping_block(reverse), expected, atol=2e-8)
    shift = np.array([0.4, -1.0, 2.5])
    moved = atoms.copy()
    moved.translate(shift)
    difference = position_matrix(moved, smooth_basis).values - position.values
    np.testing.assert_allclose(difference, shift[:, None] * s.values, atol=1e-11)


def test_position_in_reciprocal_space_differs_from_its_adjoint_by_the_gradient(smooth_basis):
    """r(k)† = r(k) + i ∂S(k)/∂k in the lattice gauge."""
    position = position_matrix(crystal(), smooth_basis)
    s, kpt = position.overlap, (0.13, -0.21, 0.34)
    r_k = np.zeros((3, s.n_basis, s.n_basis), complex)
    for block, ((i, j), shift) in enumerate(zip(s.layout.atoms.T, s.layout.shifts, strict=True)):
        rows = slice(*s.layout.orbital_offsets[[i, i + 1]])
        columns = slice(*s.layout.orbital_offsets[[j, j + 1]])
        start, stop = s.layout.offsets[block : block + 2]
        values = position.values[:, start:stop].reshape(3, s.n_orbitals[i], s.n_orbitals[j])
        r_k[:, rows, columns] += np.exp(2j * np.pi * np.dot(kpt, shift)) * values
    adjoint = r_k.swapaxes(1, 2).conj()
    np.testing.assert_allclose(adjoint, r_k + 1j * s.gradient_at_k(kpt), atol=1e-6)


def test_pairs_beyond_the_reach_are_zero_shell_by_shell(smooth_basis):
    species = smooth_basis["C"]
    distance = 6.7  # the first s shell reaches 7.2 Å, the d shell 5.2 Å
    atoms = dimer("CC", np.array([0, 0, distance]))
    s = overlap_matrix(atoms, smooth_basis, pairs=PairList.from_atoms(atoms, 9.0))
    cutoffs = np.repeat(species.cutoffs, [2 * l + 1 for l in species.shells])
    out_of_reach = cutoffs[:, None] + cutoffs[None, :] <= distance
    assert (s.hopping_block(0)[out_of_reach] == 0).all()
    assert s.hopping_block(0)[0, 0] != 0
    far = dimer("CC", np.array([0, 0, 8.0]))
    s = overlap_matrix(far, smooth_basis, pairs=PairList.from_atoms(far, 9.0))
    assert s.pairs.n_edges == 2
    assert not s.hopping_block(0).any()
    assert overlap_matrix(far, smooth_basis).pairs.n_edges == 0


def test_given_pairs_are_kept(smooth_basis):
    atoms = crystal()
    pairs = PairList.from_atoms(atoms, 3.0)
    full = overlap_matrix(atoms, smooth_basis)
    some = overlap_matrix(atoms, smooth_basis, pairs=pairs)
    assert some.pairs is pairs
    np.testing.assert_array_equal(some.values, full.on_pairs(pairs).values)


def test_two_atoms_at_one_place_have_the_onsite_block(smooth_basis):
    s = overlap_matrix(dimer("CC", np.zeros(3)), smooth_basis)
    np.testing.assert_allclose(s.hopping_block(0), s.onsite_block(0), atol=1e-15)


def test_coarse_meshes_are_refined(smooth_basis):
    """Every fourth point of the radial mesh must do."""
    fine = smooth_basis["C"]
    coarse = SpeciesBasis("C", fine.shells, fine.cutoffs, 4, fine.grid[::4], fine.radial[:, ::4])
    atoms = dimer("CC", 1.4 * DIRECTIONS[0])
    ours = overlap_matrix(atoms, OrbitalBasis((coarse,))).values
    np.testing.assert_allclose(ours, overlap_matrix(atoms, smooth_basis).values, atol=2e-6)


def test_bases_of_equal_content_share_tables(smooth_basis):
    copy = OrbitalBasis(smooth_basis.species[::-1])
    assert two_centre_tables(copy) is two_centre_tables(smooth_basis)
    tables = two_centre_tables(smooth_basis)
    assert tables.pair("C", "Mo") is tables.pair("C", "Mo")
    subset = smooth_basis.subset(["C"])
    assert two_centre_tables(subset) is not tables


def test_species_without_radial_functions_matter_only_where_present(smooth_basis):
    bare = SpeciesBasis("H", (0,), (3.0,), 1)
    basis = smooth_basis.merge(OrbitalBasis((bare,)))
    assert overlap_matrix(crystal(), basis).n_basis == 42
    with pytest.raises(BasisError, match=r"no radial functions of \['H'\]"):
        overlap_matrix(Atoms("HC", positions=[[0, 0, 0], [1, 0, 0]]), basis)
    with pytest.raises(BasisError, match=r"no radial functions of \['H'\]"):
        two_centre_tables(basis).pair("C", "H")
    with pytest.raises(BasisError, match="no radial functions"):
        two_centre_tables(OrbitalBasis((bare,)))


@pytest.mark.parametrize(
    "function", [overlap_matrix, kinetic_matrix, position_matrix, overlap_gradient]
)
def test_unknown_elements_and_foreign_pairs_are_refused(smooth_basis, function):
    with pytest.raises(BasisError, match="Au"):
        function(Atoms("Au"), smooth_basis)
    atoms = crystal()
    moved = atoms.copy()
    moved.positions[0, 0] += 0.1
    with pytest.raises(PairListError, match="same elements, positions and cell"):
        function(moved, smooth_basis, pairs=PairList.from_atoms(atoms, 3.0))


def test_wrong_vector_blocks_are_refused(smooth_basis):
    position = position_matrix(crystal(), smooth_basis)
    s = position.overlap
    with pytest.raises(MatrixError, match="shape"):
        PositionMatrix(s, position.values[:2])
    with pytest.raises(MatrixError, match="finite"):
        PositionMatrix(s, np.full_like(position.values, np.nan))
    with pytest.raises(MatrixError, match="obey"):
        PositionMatrix(s, position.values + np.arange(position.values.shape[1]))
    with pytest.raises(MatrixError, match="obey"):
        OverlapGradient(s, position.values)
