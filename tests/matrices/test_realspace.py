"""Blocks, Hermiticity, arithmetic and files of RealSpaceMatrix."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ase import Atoms

from hotham_ase.matrices import MatrixError, RealSpaceMatrix, Spin
from hotham_ase.matrices.pairs import PairList


def test_layout(crystal, random_matrix):
    m = random_matrix(crystal)
    assert m.n_orbitals.tolist() == [4, 1, 3, 1]
    assert m.n_basis == 9
    assert m.layout.orbital_offsets.tolist() == [0, 4, 5, 8, 9]
    flat = [m.onsite_block(a) for a in range(4)]
    flat += [m.hopping_block(e) for e in range(m.pairs.n_edges)]
    np.testing.assert_array_equal(np.concatenate([b.ravel() for b in flat]), m.values[0])
    i, j = m.pairs.edge_index
    for e, r in enumerate(m.pairs.reverse_edge_index):
        assert m.hopping_block(e).shape == (m.n_orbitals[i[e]], m.n_orbitals[j[e]])
        np.testing.assert_allclose(m.hopping_block(e), m.hopping_block(r).T)
    np.testing.assert_array_equal(m.onsite_block(-1), m.onsite_block(3))
    with pytest.raises(IndexError):
        m.onsite_block(4)
    with pytest.raises(IndexError):
        m.hopping_block(m.pairs.n_edges)


@pytest.mark.parametrize("imaginary", [False, True])
def test_what_is_not_hermitian_is_refused(crystal, random_matrix, imaginary):
    m = random_matrix(crystal, imaginary=imaginary)
    onsite, hopping = 1, int(m.layout.offsets[4 + 7])
    for where in (onsite, hopping):
        values = m.values.copy()
        values[0, where] += 1e-3
        with pytest.raises(MatrixError, match=r"random is not Hermitian: .* by 0.001"):
            RealSpaceMatrix(m.pairs, m.n_orbitals, values, name="random")
        values[0, where] += 1e-9 - 1e-3
        RealSpaceMatrix(m.pairs, m.n_orbitals, values)


def test_imaginary_part_must_be_antisymmetric(crystal, random_matrix):
    m = random_matrix(crystal)
    with pytest.raises(MatrixError, match="not Hermitian"):
        RealSpaceMatrix(m.pairs, m.n_orbitals, m.values + 0.1j)


def test_components_of_each_spin_kind_obey_its_symmetry():
    """With H = H_0 + i Σ B_a σ_a, the B_a of the reverse block have the other sign."""
    pairs = PairList.from_atoms(Atoms("H2", [(0, 0, 0), (1, 0, 0)]), 2.0)
    one = np.ones(2, dtype=int)
    coupling = [0.0, 0.0, 0.7, -0.7]
    values = np.array([[1.0, 2.0, 3.0, 3.0], coupling, np.zeros(4), coupling])
    m = RealSpaceMatrix(pairs, one, values, Spin.SPIN_ORBIT)
    assert m.values.dtype == float
    assert RealSpaceMatrix(pairs, one, values + 1e-9j, "spin-orbit").values.dtype == float
    with pytest.raises(MatrixError, match="not Hermitian"):
        RealSpaceMatrix(pairs, one, np.abs(values), "spin-orbit")
    imaginary = values.astype(complex)
    imaginary[0, 2:] += [0.5j, -0.5j]
    message = "not symmetric under time reversal: .* parts up to 0.5, the largest element being 3"
    with pytest.raises(MatrixError, match=message):
        RealSpaceMatrix(pairs, one, imaginary, "spin-orbit")
    magnetic = np.array([imaginary[0], 1j * values[1], 1j * values[2], 1j * values[3]])
    RealSpaceMatrix(pairs, one, magnetic, "non-collinear")
    with pytest.raises(MatrixError, match="not Hermitian"):
        RealSpaceMatrix(pairs, one, values, "non-collinear")
    with pytest.raises(MatrixError, match=r"\(n_components, n_values\) = \(4, 4\), got \(1, 4\)"):
        RealSpaceMatrix(pairs, one, values[0], "non-collinear")
    with pytest.raises(ValueError, match="collinear"):
        RealSpaceMatrix(pairs, one, values[0], "collinear")


def test_single_component(crystal, random_matrix):
    m = random_matrix(crystal)
    np.testing.assert_array_equal(m.single, m.values[0])
    both = RealSpaceMatrix(m.pairs, m.n_orbitals, np.repeat(m.values, 2, 0), "polarized", "H")
    with pytest.raises(NotImplementedError, match="unpolarized here, but it is polarized"):
        _ = both.single


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_must_be_finite(crystal, random_matrix, bad):
    m = random_matrix(crystal)
    values = m.values.copy()
    values[0, 0] = bad
    with pytest.raises(MatrixError, match="not finite"):
        RealSpaceMatrix(m.pairs, m.n_orbitals, values)


def test_sizes_are_checked(crystal, random_matrix):
    m = random_matrix(crystal)
    with pytest.raises(MatrixError, match="must have shape"):
        RealSpaceMatrix(m.pairs, m.n_orbitals, m.values[:, :-1])
    for n_orbitals in ([4, 1, 3], [4, 0, 3, 1]):
        with pytest.raises(MatrixError, match="4 positive numbers"):
            RealSpaceMatrix(m.pairs, n_orbitals, m.values)
    with pytest.raises(ValueError, match="read-only"):
        m.values[0, 0] = 1


# ------------------------------------------------------------------ arithmetic

KPT = (0.13, -0.42, 0.31)


def dense(matrix: RealSpaceMatrix) -> np.ndarray:
    return matrix.at_k(KPT, format="dense")


def test_arithmetic_is_that_of_the_bloch_sums(crystal, random_matrix):
    """Linear in the matrices, also on pair lists of which neither holds the other."""
    a, b = random_matrix(crystal, 4.0), random_matrix(crystal, 5.0, seed=1)
    one_sided = b.pairs.select(b.pairs.edge_lengths > 2.0)
    b = b.on_pairs(one_sided)
    for left, right in ((a, b), (b, a), (a, a)):
        np.testing.assert_allclose(dense(left + right), dense(left) + dense(right), atol=1e-12)
        np.testing.assert_allclose(dense(left - right), dense(left) - dense(right), atol=1e-12)
    np.testing.assert_allclose(dense(2.5 * a), 2.5 * dense(a))
    np.testing.assert_allclose(dense(a * np.float64(3)), 3 * dense(a))
    np.testing.assert_allclose(dense(np.float64(3) * a), 3 * dense(a))
    np.testing.assert_allclose(dense(-a), -dense(a))
    assert (a + b).pairs.n_edges == len(set_of(a.pairs) | set_of(b.pairs))
    assert not (a - a).values.any()


def set_of(pairs: PairList) -> set[tuple[int, ...]]:
    return set(map(tuple, np.column_stack([*pairs.edge_index, pairs.cell_shifts]).tolist()))


def test_complex_factor_and_other_types_are_refused(crystal, random_matrix):
    a = random_matrix(crystal)
    for bad in (1j, np.eye(2), "2"):
        with pytest.raises(TypeError):
            a * bad
        with pytest.raises(TypeError):
            bad * a
    with pytest.raises(TypeError):
        a + 1.0


def test_unlike_matrices_do_not_add(crystal, random_matrix):
    a = random_matrix(crystal)
    pairs = a.pairs
    one = RealSpaceMatrix(pairs, np.ones(4, dtype=int), np.ones(4 + pairs.n_edges))
    with pytest.raises(MatrixError, match="the orbitals of every atom the same"):
        a + one
    magnet = RealSpaceMatrix(pairs, a.n_orbitals, np.repeat(a.values, 2, axis=0), "polarized")
    values = np.concatenate([a.values, np.zeros((3, a.layout.n_values))])
    spinor = RealSpaceMatrix(pairs, a.n_orbitals, values, "spin-orbit")
    with pytest.raises(MatrixError, match="spin kinds polarized and spin-orbit must be the same"):
        spinor + magnet


def test_on_pairs(crystal, random_matrix):
    m = random_matrix(crystal, 4.0)
    longer = PairList.from_atoms(crystal, 6.0)
    extended = m.on_pairs(longer)
    np.testing.assert_allclose(dense(extended), dense(m), atol=1e-13)
    back = extended.on_pairs(m.pairs)
    np.testing.assert_array_equal(back.values, m.values)
    shorter = m.on_pairs(PairList.from_atoms(crystal, 3.0))
    i, j = shorter.pairs.edge_index
    same = m.pairs.find(i, j, shorter.pairs.cell_shifts)
    for e, source in enumerate(same):
        np.testing.assert_array_equal(shorter.hopping_block(e), m.hopping_block(source))
    none = m.on_pairs(PairList.from_atoms(crystal, 1e-3))
    assert none.values.shape[1] == 16 + 1 + 9 + 1
    with pytest.raises(MatrixError, match="same 4 atoms, got 3"):
        m.on_pairs(PairList.from_atoms(crystal[:3], 3.0))


def test_union(crystal):
    long, short = PairList.from_atoms(crystal, 5.0), PairList.from_atoms(crystal, 3.0)
    assert long.union(short) is long
    assert set_of(short.union(long)) == set_of(long)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("imaginary", [False, True])
def test_save_and_load(crystal, random_matrix, tmp_path, imaginary):
    m = random_matrix(crystal, imaginary=imaginary)
    m.save(tmp_path / "h.h5")
    again = RealSpaceMatrix.load(tmp_path / "h.h5")
    np.testing.assert_array_equal(again.values, m.values)
    assert again.values.dtype == m.values.dtype
    np.testing.assert_array_equal(again.n_orbitals, m.n_orbitals)
    for key in ("numbers", "positions", "cell", "pbc", "edge_index", "cell_shifts"):
        np.testing.assert_array_equal(getattr(again.pairs, key), getattr(m.pairs, key))
    assert (again.spin, again.name) == (m.spin, "random")
    assert [p.name for p in tmp_path.iterdir()] == ["h.h5"]


def test_failed_save_leaves_nothing(crystal, random_matrix, tmp_path):
    m = random_matrix(crystal)
    (tmp_path / "h.h5").write_text("old")
    object.__setattr__(m, "n_orbitals", [object()])  # what HDF5 cannot hold
    with pytest.raises(TypeError):
        m.save(tmp_path / "h.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["h.h5"]
    assert (tmp_path / "h.h5").read_text() == "old"


def test_files_of_spinors_name_their_components(tmp_path):
    pairs = PairList.from_atoms(Atoms("H"), 2.0)
    m = RealSpaceMatrix(pairs, [1], [[1.0], [0.0], [0.0], [0.0]], "spin-orbit")
    path = tmp_path / "h.h5"
    m.save(path)
    again = RealSpaceMatrix.load(path)
    assert again.spin is Spin.SPIN_ORBIT
    np.testing.assert_array_equal(again.values, m.values)
    with h5py.File(path, "r+") as file:
        del file.attrs["components"]
    with pytest.raises(MatrixError, match="components uu, ud, du, dd of an earlier version"):
        RealSpaceMatrix.load(path)


def test_wrong_files(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name in ("text.h5", "other.h5"):
        with pytest.raises(MatrixError, match="not a file of RealSpaceMatrix.save"):
            RealSpaceMatrix.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        RealSpaceMatrix.load(tmp_path / "missing.h5")


def test_files_that_hold_something_else(crystal, random_matrix, tmp_path):
    path = tmp_path / "h.h5"
    random_matrix(crystal).save(path)
    with h5py.File(path) as file:
        assert file["values"].dtype == float

    def link(file):
        file["values"] = h5py.ExternalLink("other.h5", "/values")

    def announce(file):
        file.create_dataset("values", (1, 10**12), dtype=float, chunks=(1, 1000))

    changes = [
        (link, "values is a link to another place"),
        (announce, "values announces 8000000000000 bytes, but 0 are stored"),
        (lambda file: file.create_group("values"), "values is not an array"),
        (
            lambda file: file.create_dataset("values", data=[b"text"]),
            "values must hold real numbers or complex numbers",
        ),
        (lambda file: file.create_dataset("values", data=h5py.Empty("f8")), "RealSpaceMatrix.save"),
        (lambda file: file.create_dataset("values", data=np.zeros((1, 3))), "values of .* must"),
        (lambda file: None, "values is missing"),
        (lambda file: file.attrs.modify("spin", "half"), "not a file of RealSpaceMatrix.save"),
    ]
    original = path.read_bytes()
    for change, message in changes:
        path.write_bytes(original)
        with h5py.File(path, "r+") as file:
            if "spin" not in message and change is not changes[-1][0]:
                del file["values"]
            change(file)
        with pytest.raises(MatrixError, match=message):
            RealSpaceMatrix.load(path)


def test_a_vector_that_is_not_periodic_does_not_matter_in_the_atomic_gauge(random_matrix):
    """Phases are those of a cell whose third vector is perpendicular, or parallel to the first."""
    atoms = Atoms("C2", [(0.3, 0, 0), (1.2, 0.7, 0)], cell=[2.4, 2.6, 9], pbc=(True, True, False))
    expected = random_matrix(atoms)
    atoms.cell[2] = [2.4, 0, 0]
    found = random_matrix(atoms)
    np.testing.assert_array_equal(found.values, expected.values)
    for kpt in ((0.3, -0.2, 0), (0.1, 0.4, 0)):
        np.testing.assert_allclose(
            found.at_k(kpt, gauge="atomic", format="dense"),
            expected.at_k(kpt, gauge="atomic", format="dense"),
            atol=1e-12,
        )
