"""Bloch sums against the defining sum, finite differences, sisl and folding."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import product

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from scipy.sparse import csr_array

from hotham_ase.matrices import BlockLayout, RealSpaceMatrix, Spin
from hotham_ase.matrices.bloch import BlochSum
from hotham_ase.matrices.pairs import PairList

KPTS = np.random.default_rng(0).uniform(-1, 1, size=(3, 3))
HALVES = np.array([(0, 0, 0), (0.5, 0, -0.5), (1.5, -2, 0.5)])  # k = −k but for a lattice vector


def explicit_sum(matrix: RealSpaceMatrix, kpt: np.ndarray, gauge: str) -> np.ndarray:
    """Σ_R exp(2πi k·R) A(R), block by block, from Cartesian vectors; with spin Σ_c σ_c ⊗ A_c."""
    pairs = matrix.pairs
    k = 2 * np.pi * kpt @ np.linalg.inv(pairs.cell).T  # Å⁻¹
    out = np.zeros((len(matrix.values), matrix.n_basis, matrix.n_basis), dtype=complex)
    offsets = matrix.layout.orbital_offsets
    for c, part in enumerate(out):
        for a in range(pairs.n_atoms):
            part[offsets[a] : offsets[a + 1], offsets[a] : offsets[a + 1]] += matrix.onsite_block(
                a, c
            )
        for e, (i, j) in enumerate(pairs.edge_index.T):
            vector = pairs.cell_shifts[e] @ pairs.cell
            if gauge == "atomic":
                vector = vector + pairs.positions[j] - pairs.positions[i]
            rows, columns = slice(*offsets[[i, i + 1]]), slice(*offsets[[j, j + 1]])
            part[rows, columns] += np.exp(1j * k @ vector) * matrix.hopping_block(e, c)
    return sum(np.kron(s, part) for s, part in zip(matrix.spin.coefficients[0], out, strict=True))


def with_spin(matrix: RealSpaceMatrix, spin: Spin) -> RealSpaceMatrix:
    """Random components on the same pairs."""
    layout, rng = matrix.layout, np.random.default_rng(9)
    values = rng.normal(size=(spin.n_components, layout.n_values))
    if spin is Spin.NON_COLLINEAR:
        values = values + 1j * rng.normal(size=values.shape)
    values = values + spin.mirror_signs[:, None] * layout.mirror(values).conj()
    return RealSpaceMatrix(matrix.pairs, matrix.n_orbitals, values, spin)


SMALL = pytest.mark.parametrize("small", [0, 1_000_000], ids=["portions", "map"])
GAUGES = pytest.mark.parametrize("gauge", ["lattice", "atomic"])


@GAUGES
@SMALL
@pytest.mark.parametrize("kind", [False, True, Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
def test_definition(crystal, random_matrix, gauge, kind, small):
    """All formats, of matrices that are put together in portions and at once.

    Among the crystals one of a single atom, all of whose hoppings end at its own images, and one
    with more than the pairs of neighbours in it.
    """
    one = Atoms("C", [(0.3, 0.1, 0)], cell=crystal.cell, pbc=True)
    for atoms, cutoff in ((crystal, 4.0), (crystal.repeat((3, 1, 1)), 2.0), (one, 5.0)):
        m = random_matrix(atoms, cutoff, imaginary=kind is True)
        m = with_spin(m, kind) if isinstance(kind, Spin) else m
        bloch = BlochSum(m.layout, m.values, m.spin.coefficients[0], portion=50, small=small)
        for kpt, is_half in [*product(KPTS, [False]), *product(HALVES, [True])]:
            expected = explicit_sum(m, kpt, gauge)
            dense = bloch.at_k(kpt, gauge=gauge, format="dense")
            sparse = bloch.at_k(kpt, gauge=gauge, format="csr")
            half = bloch.at_k(kpt, gauge=gauge, format="hermitian")
            np.testing.assert_allclose(dense, expected, atol=1e-12)
            np.testing.assert_allclose(dense, dense.conj().T, atol=1e-12)
            np.testing.assert_allclose(half.upper.toarray(), np.triu(expected), atol=1e-12)
            for found in (sparse, half.full()):
                np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
                assert csr_array((found.data, found.indices, found.indptr)).has_canonical_format
            np.testing.assert_array_equal(half.full().indices, sparse.indices)
            assert dense.dtype == sparse.dtype == complex
            is_real = kind is False and is_half
            if gauge == "atomic":  # of several atoms, r_j − r_i is no lattice vector
                is_real = is_real and (len(atoms) == 1 or not kpt.any())
            assert half.is_real is is_real
            # which solvers look at: no rounding in imaginary parts
            assert not is_real or not (dense.imag.any() or sparse.data.imag.any())


@SMALL
def test_half_of_an_overlap_is_real_for_spinors_too(crystal, random_matrix, small):
    s = random_matrix(crystal)
    coefficients = Spin.SPIN_ORBIT.coefficients_of(Spin.UNPOLARIZED, 0)
    bloch = BlochSum(s.layout, s.values, coefficients, portion=50, small=small)
    for kpt, is_real in ((KPTS[0], False), (HALVES[1], True)):
        half = bloch.at_k(kpt, gauge="lattice", format="hermitian")
        expected = np.kron(np.eye(2), explicit_sum(s, kpt, "lattice"))
        np.testing.assert_allclose(half.full().toarray(), expected, atol=1e-12)
        assert half.is_real is is_real


def test_only_one_half_is_touched(crystal, random_matrix):
    m = random_matrix(crystal)
    values = m.values.copy()
    i, j = m.layout.atoms
    values[:, m.layout.flat_index(np.flatnonzero(i > j))] = np.nan
    bloch = BlochSum(m.layout, values, m.spin.coefficients[0], small=0)
    half = bloch.at_k(KPTS[0], gauge="lattice", format="hermitian")
    expected = explicit_sum(m, KPTS[0], "lattice")
    np.testing.assert_allclose(half.full().toarray(), expected, atol=1e-12)


@pytest.mark.parametrize("format", ["csr", "hermitian"])
@pytest.mark.parametrize("kpt", [KPTS[0], HALVES[0]], ids=["complex", "real"])
def test_memory(crystal, format, kpt):
    """The first takes less than two copies of what comes out, with all that is kept."""
    pairs = PairList.from_atoms(crystal.repeat((3, 3, 3)), 4.0)
    layout = BlockLayout(pairs, np.full(pairs.n_atoms, 13))
    values = np.ones((1, layout.n_values))
    bloch = BlochSum(layout, values, np.ones((1, 1, 1)), portion=1 << 14, small=0)
    tracemalloc.start()
    found = bloch.at_k(kpt, gauge="lattice", format=format)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = found if format == "csr" else found.upper
    size = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    assert size < peak < 2 * size


def test_results_are_independent_of_each_other(crystal, random_matrix):
    """One k-point's matrix is not overwritten by the next, whatever is done to it."""
    m = random_matrix(crystal)
    for kind in ("csr", "dense"):
        first = m.at_k(KPTS[0], format=kind)
        copy = first.copy()
        second = m.at_k(KPTS[1], format=kind)
        assert abs(first - copy).max() == 0
        second *= 0
        assert abs(m.at_k(KPTS[1], format=kind)).max() > 0


def test_time_reversal_and_periodicity(crystal, random_matrix):
    m = random_matrix(crystal)
    h = m.at_k(KPTS[0], format="dense")
    np.testing.assert_allclose(m.at_k(-KPTS[0], format="dense"), h.conj(), atol=1e-12)
    np.testing.assert_allclose(m.at_k(KPTS[0] + [1, -2, 3], format="dense"), h, atol=1e-11)
    atomic = m.at_k(KPTS[0], gauge="atomic", format="dense")
    np.testing.assert_allclose(np.linalg.eigvalsh(atomic), np.linalg.eigvalsh(h), atol=1e-11)


def test_complex_chain_has_the_plus_sign():
    """A flux through a ring of one atom: ε = 2t cos(2πk + φ), which −k would not give."""
    atoms = Atoms("H", cell=(0, 0, 2.0), pbc=(False, False, True))
    pairs = PairList.from_atoms(atoms, 2.5)
    assert pairs.cell_shifts[:, 2].tolist() == [-1, 1]
    flux = 0.7
    hops = [np.array([[-np.exp(-1j * flux)]]), np.array([[-np.exp(1j * flux)]])]
    m = RealSpaceMatrix.from_blocks(pairs, [np.zeros((1, 1))], hops)
    value = m.at_k((0, 0, 0.2), format="dense")[0, 0]
    assert value == pytest.approx(-2 * np.cos(2 * np.pi * 0.2 + flux))


@pytest.mark.parametrize("gauge", ["lattice", "atomic"])
@pytest.mark.parametrize("imaginary", [False, True])
def test_gradient(crystal, random_matrix, gauge, imaginary):
    m = random_matrix(crystal, imaginary=imaginary)
    step = 1e-5  # Å⁻¹
    for kpt in KPTS:
        gradient = m.gradient_at_k(kpt, gauge=gauge)
        assert gradient.shape == (3, m.n_basis, m.n_basis)
        for axis in range(3):
            shift = step * crystal.cell[:, axis] / (2 * np.pi)
            up, down = (m.at_k(kpt + sign * shift, gauge=gauge, format="dense") for sign in (1, -1))
            np.testing.assert_allclose(gradient[axis], (up - down) / (2 * step), atol=1e-7)
        np.testing.assert_allclose(gradient, gradient.conj().swapaxes(1, 2), atol=1e-11)


def test_directions_without_a_lattice_vector():
    """The atomic gauge of a chain: the vacuum directions have no k."""
    positions = [(5.0, -3.0, 0.2), (0.4, 1.0, 1.1)]
    atoms = Atoms("H2", positions, cell=(0, 0, 2.0), pbc=(False, False, True))
    pairs = PairList.from_atoms(atoms, 9.0)
    values = np.concatenate([np.zeros(2), np.exp(-pairs.edge_lengths)])
    m = RealSpaceMatrix(pairs, [1, 1], values)
    k = 0.3
    expected = 0
    for e in np.flatnonzero((pairs.edge_index == [[0], [1]]).all(axis=0)):
        vector = 0.9 + 2.0 * pairs.cell_shifts[e, 2]
        expected += np.exp(-pairs.edge_lengths[e]) * np.exp(1j * np.pi * k * vector)
    value = m.at_k((0, 0, k), gauge="atomic", format="dense")[0, 1]
    assert value == pytest.approx(expected)


def test_molecule_has_one_matrix(random_matrix):
    m = random_matrix(Atoms("CNH", [(0, 0, 0), (1, 1, 0), (2, 0, 1)]))
    np.testing.assert_array_equal(
        m.at_k((0, 0, 0), format="dense"), m.at_k((0.1, 0.3, 0.7), format="dense")
    )
    single = random_matrix(Atoms("C"))
    np.testing.assert_array_equal(single.at_k((0, 0, 0), format="dense"), single.onsite_block(0))


def test_sisl(crystal, random_matrix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sisl = pytest.importorskip("sisl")
    m = random_matrix(crystal)
    sizes = dict(zip(crystal.numbers, m.n_orbitals.tolist(), strict=True))
    kinds = {n: sisl.Atom(n, R=[2.0] * size) for n, size in sizes.items()}
    nsc = 2 * np.abs(m.pairs.cell_shifts).max(axis=0) + 1
    geometry = sisl.Geometry(
        crystal.positions,
        [kinds[n] for n in crystal.numbers],
        sisl.Lattice(crystal.cell[:], nsc=nsc),
    )
    reference = sisl.Hamiltonian(geometry)
    offsets = m.layout.orbital_offsets
    blocks = [m.layout.block(m.single, b) for b in range(len(m.layout.shifts))]
    for (i, j), shift, block in zip(m.layout.atoms.T, m.layout.shifts, blocks, strict=True):
        column = geometry.lattice.sc_index(shift) * m.n_basis + offsets[j]
        for a, b in np.ndindex(block.shape):
            reference[int(offsets[i]) + a, int(column) + b] = block[a, b]
    for kpt in KPTS:
        ours = {g: m.at_k(kpt, gauge=g, format="dense") for g in ("lattice", "atomic")}
        np.testing.assert_allclose(ours["lattice"], reference.Hk(kpt, format="array"), atol=1e-12)
        theirs = reference.Hk(kpt, gauge="atomic", format="array")
        np.testing.assert_allclose(ours["atomic"], theirs, atol=1e-12)
        gradient = m.gradient_at_k(kpt)
        theirs = reference.dHk(kpt, gauge="lattice", format="array")
        np.testing.assert_allclose(gradient, np.stack(list(theirs)), atol=1e-11)


def test_supercell_folds(crystal, random_matrix):
    """The supercell's eigenvalues at K are the cell's at the k-points that fold onto K."""
    m = random_matrix(crystal, 4.0)
    repeats = np.array([2, 1, 3])
    big = crystal.repeat(repeats)
    pairs = PairList.from_atoms(big, 4.0)
    # images in the order of Atoms.repeat
    cells = np.array(list(product(*(range(r) for r in repeats))))
    n_atoms = len(crystal)
    i, j = pairs.edge_index
    shifts = cells[j // n_atoms] - cells[i // n_atoms] + pairs.cell_shifts * repeats
    source = m.pairs.find(i % n_atoms, j % n_atoms, shifts)
    assert (source >= 0).all()
    onsite = [m.onsite_block(a % n_atoms) for a in range(len(big))]
    folded = RealSpaceMatrix.from_blocks(pairs, onsite, [m.hopping_block(e) for e in source])
    kpt = np.array([0.21, 0.37, -0.11])
    unfolded = [(kpt + cell) / repeats for cell in cells]
    expected = np.sort(
        np.concatenate([scipy.linalg.eigvalsh(m.at_k(k, format="dense")) for k in unfolded])
    )
    np.testing.assert_allclose(
        scipy.linalg.eigvalsh(folded.at_k(kpt, format="dense")), expected, atol=1e-10
    )


@pytest.mark.parametrize(
    "bad",
    [(0, 0), (0, 0, np.nan), [[0, 0, 0]], (0, np.inf, 0), "abc", None, (1j, 0, 0), (0, 0, 1e9)],
)
def test_bad_kpt(crystal, random_matrix, bad):
    m = random_matrix(crystal)
    for function in (m.at_k, m.gradient_at_k):
        with pytest.raises(ValueError, match="kpt must be three finite"):
            function(bad)


def test_bad_words(crystal, random_matrix):
    m = random_matrix(crystal)
    with pytest.raises(ValueError, match="format must be"):
        m.at_k((0, 0, 0), format="coo")
    for function in (m.at_k, m.gradient_at_k):
        with pytest.raises(ValueError, match="gauge must be"):
            function((0, 0, 0), gauge="bloch")
