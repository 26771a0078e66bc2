"""Spin kinds: what H(k) is made of, against spinor blocks written out and physics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.matrices import RealSpaceMatrix, Spin

KPT = (0.13, -0.42, 0.31)
ORIGIN_LIKE = [(0, 0, 0), (0.5, 0, 0), (0.5, -0.5, 0.5)]  # k = −k but for a lattice vector


def symmetric(layout, rng, signs, *, imaginary: bool) -> np.ndarray:
    """(n_components, n_values) random components with the symmetry that the signs say."""
    values = rng.normal(size=(len(signs), layout.n_values))
    if imaginary:
        values = values + 1j * rng.normal(size=values.shape)
    return (values + np.array(signs)[:, None] * layout.mirror(values).conj()) / 2


@pytest.fixture
def spinor(crystal, random_matrix):
    def build(spin: Spin) -> RealSpaceMatrix:
        m, rng = random_matrix(crystal), np.random.default_rng(8)
        signs = [1, -1, -1, -1] if spin is Spin.SPIN_ORBIT else [1, 1, 1, 1]
        values = symmetric(m.layout, rng, signs, imaginary=spin is Spin.NON_COLLINEAR)
        return RealSpaceMatrix(m.pairs, m.n_orbitals, values, spin)

    return build


def overlap_of(matrix: RealSpaceMatrix) -> RealSpaceMatrix:
    """Small random elements beside 1 on the diagonal: positive."""
    values = symmetric(matrix.layout, np.random.default_rng(3), [1], imaginary=False) * 0.01
    for atom, n in enumerate(matrix.n_orbitals):
        matrix.layout.block(values[0], atom)[:] += np.eye(n)
    return RealSpaceMatrix(matrix.pairs, matrix.n_orbitals, values, name="overlap")


@pytest.mark.parametrize("spin", [Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
@pytest.mark.parametrize("gauge", ["lattice", "atomic"])
def test_spinors_are_sums_over_pauli_matrices(spinor, spin, gauge):
    """uu = H_0 + A_z, ud = A_x − iA_y, du = A_x + iA_y, dd = H_0 − A_z, with A = iB or not."""
    m = spinor(spin)
    h, x, y, z = (
        RealSpaceMatrix(m.pairs, m.n_orbitals, factor * component).at_k(
            KPT, gauge=gauge, format="dense"
        )
        for factor, component in zip(
            [1, 1j, 1j, 1j] if spin is Spin.SPIN_ORBIT else [1] * 4, m.values, strict=True
        )
    )
    expected = np.block([[h + z, x - 1j * y], [x + 1j * y, h - z]])
    dense = m.at_k(KPT, gauge=gauge, format="dense")
    np.testing.assert_allclose(dense, expected, atol=1e-12)
    np.testing.assert_allclose(dense, dense.conj().T, atol=1e-12)
    sparse = m.at_k(KPT, gauge=gauge)
    assert sparse.has_canonical_format
    np.testing.assert_allclose(sparse.toarray(), expected, atol=1e-12)


@pytest.mark.parametrize("spin", [Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
def test_gradient_of_spinors_is_that_of_finite_differences(spinor, spin):
    m, step = spinor(spin), 1e-5
    gradient = m.gradient_at_k(KPT, gauge="atomic")
    for axis, direction in enumerate(np.eye(3)):
        # k with 2π is 2π kpt @ inv(cell).T
        shift = step * m.pairs.cell @ direction / (2 * np.pi)
        ahead, behind = (
            m.at_k(np.add(KPT, s * shift), gauge="atomic", format="dense") for s in (1, -1)
        )
        np.testing.assert_allclose(gradient[axis], (ahead - behind) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("kpt", ORIGIN_LIKE)
def test_kramers_degeneracy(spinor, kpt):
    """Levels come in pairs where k and −k are equivalent, if and only if time reversal holds."""
    for spin, paired in ((Spin.SPIN_ORBIT, True), (Spin.NON_COLLINEAR, False)):
        assert spin.has_time_reversal is paired
        m = spinor(spin)
        s = overlap_of(m).at_k(kpt, format="dense", spin=spin)
        levels = eigvalsh(m.at_k(kpt, format="dense"), s)
        split = np.abs(levels[1::2] - levels[::2]).max()
        assert split < 1e-10 if paired else split > 1e-2
    m = spinor(Spin.SPIN_ORBIT)
    there, back = (m.at_k(np.multiply(sign, KPT), format="dense") for sign in (1, -1))
    levels = eigvalsh(there)
    np.testing.assert_allclose(levels, eigvalsh(back), atol=1e-10)
    assert np.abs(levels[1::2] - levels[::2]).max() > 1e-2  # no inversion centre


@pytest.mark.parametrize("spin", [Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
def test_without_coupling_every_band_comes_twice(crystal, random_matrix, spin):
    m = random_matrix(crystal)
    values = np.concatenate([m.values, np.zeros((3, m.values.shape[1]))])
    coupled = RealSpaceMatrix(m.pairs, m.n_orbitals, values, spin)
    s = overlap_of(m)
    once = eigvalsh(m.at_k(KPT, format="dense"), s.at_k(KPT, format="dense"))
    wide = s.at_k(KPT, spin=spin)
    assert wide.has_canonical_format
    assert wide.nnz == 2 * s.at_k(KPT).nnz
    twice = eigvalsh(coupled.at_k(KPT, format="dense"), wide.toarray())
    np.testing.assert_allclose(twice, np.repeat(once, 2), atol=1e-12)
    np.testing.assert_array_equal(wide.toarray(), s.at_k(KPT, format="dense", spin=spin))


@pytest.mark.parametrize("spin", [Spin.POLARIZED, Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
def test_an_unpolarized_matrix_is_added_to_both_spins(crystal, random_matrix, spinor, spin):
    """H ⊗ 1 + V on the union of the pairs, in either order, and less it what there was."""
    v = spinor(spin) if spin.is_spinor else None
    if v is None:
        m = random_matrix(crystal)
        v = RealSpaceMatrix(m.pairs, m.n_orbitals, [m.single, -2 * m.single], spin)
    h = random_matrix(crystal, 5.0, seed=4)
    assert h.pairs.n_edges != v.pairs.n_edges
    for channel in range(spin.n_spins):
        alone = h.at_k(KPT, format="dense")
        both = np.kron(np.eye(2), alone) if spin.is_spinor else alone
        expected = both + v.at_k(KPT, format="dense", channel=channel)
        for total in (h + v, v + h):
            assert total.spin is spin
            found = total.at_k(KPT, format="dense", channel=channel)
            np.testing.assert_allclose(found, expected, atol=1e-12)
    left = h + v - h
    np.testing.assert_allclose(left.on_pairs(v.pairs).values, v.values, atol=1e-12)


@pytest.mark.parametrize("spin", [Spin.SPIN_ORBIT, Spin.NON_COLLINEAR])
def test_components_of_spinor_blocks(spin):
    """What H is put together of comes out of it again."""
    components = np.random.default_rng(2).normal(size=(4, 5))
    blocks = np.einsum("cst,cn->stn", spin.coefficients[0], components)
    np.testing.assert_allclose(spin.components_of(blocks), components, atol=1e-14)


def test_channels_of_a_polarized_matrix(crystal, random_matrix):
    up, down = (random_matrix(crystal, seed=seed) for seed in (0, 1))
    m = RealSpaceMatrix(up.pairs, up.n_orbitals, [up.single, down.single], "polarized")
    for channel, one in enumerate((up, down)):
        for format in ("dense", "csr"):
            found = m.at_k(KPT, channel=channel, format=format)
            assert (found != one.at_k(KPT, format=format)).sum() == 0
        np.testing.assert_array_equal(m.gradient_at_k(KPT, channel=channel), one.gradient_at_k(KPT))
        # S is the same for both
        found = up.at_k(KPT, channel=channel, spin=m.spin, format="dense")
        np.testing.assert_array_equal(found, up.at_k(KPT, format="dense"))
    with pytest.raises(ValueError, match="channel must be one of the 2 of polarized spin"):
        m.at_k(KPT, channel=2)
    with pytest.raises(ValueError, match="channel must be one of the 1 of unpolarized spin"):
        up.at_k(KPT, channel=1)
    with pytest.raises(ValueError, match="a polarized matrix has no spin-orbit form"):
        m.at_k(KPT, spin=Spin.SPIN_ORBIT)


@pytest.mark.parametrize("spin", Spin)
def test_states_hold_all_electrons(crystal, random_matrix, spin):
    """As many states times what each holds as there are orbitals with two spins."""
    n_basis = random_matrix(crystal).n_basis
    rows = spin.coefficients.shape[-1] * n_basis
    assert spin.n_spins * rows * spin.degeneracy == 2 * n_basis
    assert spin.coefficients.shape[:2] == (spin.n_spins, spin.n_components)
    assert len(spin.mirror_signs) == spin.n_components


@pytest.mark.parametrize("kind", [Spin.SPIN_ORBIT, Spin.NON_COLLINEAR], ids=lambda kind: kind.value)
def test_blocks_of_components(kind: Spin):
    """σ_x exchanges the spins, σ_y has −i above the diagonal, σ_z tells up from down."""
    i = 1j if kind is Spin.SPIN_ORBIT else 1
    (uu, ud), (du, dd) = kind.blocks_of(np.array([[5.0], [2.0], [3.0], [7.0]]))
    assert uu[0] == 5 + 7 * i
    assert dd[0] == 5 - 7 * i
    assert ud[0] == i * (2 - 3j)
    assert du[0] == i * (2 + 3j)
    components = np.random.default_rng(4).normal(size=(4, 3))
    np.testing.assert_allclose(kind.components_of(kind.blocks_of(components)), components)


def test_blocks_of_collinear_spins():
    blocks = Spin.POLARIZED.blocks_of(np.array([[5.0], [2.0]]))
    np.testing.assert_array_equal(blocks[..., 0], [[5, 0], [0, 2]])
