"""Bands that other tools find in what is written for them; skipped where they are not installed."""

from __future__ import annotations

import itertools
import logging
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.build import graphene
from ase.units import Rydberg
from scipy.linalg import block_diag, eigh, sqrtm

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.dft import (
    ExportError,
    Sample,
    read_sample,
    to_kwant,
    to_pybinding,
    write_sample,
)
from hotham_ase.dft.wannier90 import write_wannier90
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import position_matrix
from tests.dft.conftest import make_sample
from tests.dft.spinful import KINDS, KPTS, levels, spinor_levels, with_spin

MESH = np.array([[0, 0, 0], [1 / 3, 0, -1 / 3], [1 / 3, 1 / 3, 1 / 3]])  # of 3x3x3

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other tools


def tool(name: str):
    """A module, or a skipped test that says which it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            name, reason=f"needs {name}: pip install it", exc_type=ImportError
        )


@pytest.fixture(scope="module")
def written(sample: Sample, tmp_path_factory):
    """Function that gives the folder, written when it is first asked for: after tools are found."""

    @cache
    def write() -> Path:
        path = tmp_path_factory.mktemp("wannier90") / "run"
        write_wannier90(sample, path, error=5e-7)
        return path

    return write


def test_tbmodels(sample: Sample, written):
    tbmodels = tool("tbmodels")
    names = ("hr_file", "_hr.dat"), ("win_file", ".win"), ("xyz_file", "_centres.xyz")
    files = {key: str(written() / f"hotham{end}") for key, end in names}
    model = tbmodels.Model.from_wannier_files(**files)
    for kpt in KPTS:
        np.testing.assert_allclose(model.eigenval(kpt), levels(sample, kpt)[0], atol=1e-6)


def z2_of_plane(z2pack, system) -> int:
    """Z2 invariant of a layer by the Wilson loops of half of its zone."""
    logging.getLogger("z2pack").setLevel(logging.ERROR)  # it tells of every step
    settings = {"min_neighbour_dist": 0.005, "load": False}
    result = z2pack.surface.run(system=system, surface=lambda s, t: [s / 2, t, 0], **settings)
    return z2pack.invariant.z2(result)


def kane_mele(staggered: float, coupling: float = 0.1) -> Sample:
    """Kane and Mele's model, PRL 95, 146802 (2005): t = 1 eV, energies ±staggered."""
    atoms = graphene()
    atoms.pbc = (True, True, False)
    atoms.center(vacuum=4.0, axis=2)
    basis = OrbitalBasis((SpeciesBasis("C", (0,), (1.25,), 1.0),))
    pairs = PairList.from_atoms(atoms, 2.5)
    (i, j), lengths = pairs.edge_index, pairs.edge_lengths
    nearest = lengths < 2.0
    values = np.zeros((4, 2 + pairs.n_edges))
    values[0, :2] = staggered, -staggered
    values[0, 2:][nearest] = 1.0
    # ν = ±1 as the way over the atom between turns left or right
    for edge in np.flatnonzero(~nearest):
        for k in np.flatnonzero(nearest & (i == i[edge])):
            rest = pairs.cell_shifts[edge] - pairs.cell_shifts[k]
            step = int(pairs.find(j[[k]], j[[edge]], rest[None])[0])
            if step >= 0 and nearest[step]:
                turn = np.cross(pairs.edge_vectors[k], pairs.edge_vectors[step])
                values[3, 2 + edge] = coupling * np.sign(turn[2])
    h = RealSpaceMatrix(pairs, [1, 1], values, Spin.SPIN_ORBIT, "hamiltonian")
    unit = np.concatenate([np.ones(2), np.zeros(pairs.n_edges)])
    return Sample(atoms, basis, h, RealSpaceMatrix(pairs, [1, 1], unit), None, 2.0)


@pytest.mark.parametrize(("staggered", "invariant"), [(0.4, 1), (0.65, 0)])
def test_z2pack_of_files(tmp_path, staggered, invariant):
    """The model's gap closes where staggered = 3√3 coupling = 0.52 eV; below, it is topological."""
    tbmodels, z2pack = tool("tbmodels"), tool("z2pack")
    write_wannier90(kane_mele(staggered), tmp_path / "run", error=1e-8)
    names = ("hr_file", "_hr.dat"), ("win_file", ".win"), ("xyz_file", "_centres.xyz")
    files = {key: str(tmp_path / "run" / f"hotham{end}") for key, end in names}
    system = z2pack.tb.System(tbmodels.Model.from_wannier_files(**files), bands=2)
    assert z2_of_plane(z2pack, system) == invariant


def parity(sample: Sample, kpt: np.ndarray, states: np.ndarray) -> int:
    """Product of the parities of Kramers pairs, about the middle of two equal atoms."""
    h = sample.hamiltonian
    n, degrees = h.n_basis // 2, sample.basis[sample.atoms.symbols[0]].shells
    signs = np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in degrees])
    inversion = np.zeros((2 * n, 2 * n))  # in the cell, an atom becomes the other
    inversion[n:, :n] = inversion[:n, n:] = np.diag(signs)
    s_k = sample.overlap.at_k(kpt, format="dense", spin=h.spin)
    both = np.kron(np.eye(2), inversion)
    h_k = h.at_k(kpt, format="dense")
    np.testing.assert_allclose(both @ h_k @ both, h.at_k(-kpt, format="dense"), atol=1e-3)
    even_minus_odd = np.einsum("in,ij,jn->", states.conj(), s_k @ both, states).real
    n_odd = (states.shape[1] - even_minus_odd) / 2
    assert n_odd / 2 == pytest.approx(round(n_odd / 2), abs=1e-3)
    return (-1) ** round(n_odd / 2)


def test_z2pack_of_coupling_computed_from_pseudopotentials():
    """Graphene is a quantum spin Hall insulator: so say Wilson loops, and parities (Fu and Kane).

    The coupling is 600 times as strong as it is, so that the gap is not of µeV.
    """
    z2pack = tool("z2pack")
    atoms = graphene(vacuum=5.0)
    atoms.pbc = (True, True, False)
    sample = HotHamCalculator("carbon", spin_orbit=True).get_sample(atoms, fermi_level=False)
    h, s = sample.hamiltonian, sample.overlap
    strong = h.values * np.array([1, 600, 600, 600])[:, None]
    sample = replace(sample, hamiltonian=replace(h, values=strong))
    product = 1
    for kpt in itertools.product((0.0, 0.5), (0.0, 0.5), (0.0,)):
        at = {"kpt": np.array(kpt), "format": "dense"}
        states = eigh(sample.hamiltonian.at_k(**at), s.at_k(**at, spin=h.spin))[1][:, :8]
        product *= parity(sample, np.array(kpt), states)
    assert product == -1

    def between_lowdin_s_orbitals(kpt) -> np.ndarray:
        values, vectors = np.linalg.eigh(s.at_k(kpt, format="dense", spin=h.spin))
        root = (vectors / np.sqrt(values)) @ vectors.conj().T
        return root @ sample.hamiltonian.at_k(kpt, format="dense") @ root

    assert z2_of_plane(z2pack, z2pack.hm.System(between_lowdin_s_orbitals, bands=8)) == 1


def test_pythtb(sample: Sample, written):
    """Of releases before 2, which take minutes for all hops, its own model of the largest ones."""
    pythtb = tool("pythtb")
    if hasattr(pythtb, "W90"):
        model = pythtb.W90(str(written()), "hotham").model()
        exact = [levels(sample, kpt)[0] for kpt in KPTS]
        np.testing.assert_allclose(model.solve_ham(KPTS), exact, atol=1e-6)
        return
    read = pythtb.w90(str(written()), "hotham")
    largest, kpt = 2.0, KPTS[0]  # eV, so that it takes seconds
    h = np.zeros((read.num_wan,) * 2, dtype=complex)
    for shift, entry in read.ham_r.items():
        block = entry["h"] / entry["deg"]
        onsite = np.eye(len(block), dtype=bool) & (not any(shift))
        kept = np.where((abs(block) >= largest) | onsite, block, 0)
        h += np.exp(2j * np.pi * (kpt @ np.array(shift))) * kept
    found = read.model(min_hopping_norm=largest).solve_one(kpt)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(h), atol=1e-6)


def spinful_levels(sample: Sample, kpt: np.ndarray) -> np.ndarray:
    unpolarized = sample.hamiltonian.spin is Spin.UNPOLARIZED
    return levels(sample, kpt)[0] if unpolarized else spinor_levels(sample, kpt)


def mesh_and_error(kind: Spin) -> tuple[float, np.ndarray]:
    """Error between the mesh's points, and k: of spinors points of the smallest mesh, exact."""
    return (5e-7, KPTS) if kind is Spin.UNPOLARIZED else (10.0, MESH)


def lowdin_at_gamma(sample: Sample) -> np.ndarray:
    """Up and down of each orbital side by side, of collinear spins too."""
    h, gamma = sample.hamiltonian, np.zeros(3)
    parts = [h.at_k(gamma, format="dense", channel=c) for c in range(h.spin.n_spins)]
    matrix, n_spins = block_diag(*parts), 1 if h.spin is Spin.UNPOLARIZED else 2
    root = np.linalg.inv(sqrtm(sample.overlap.at_k(gamma, format="dense")))
    root = np.kron(np.eye(n_spins), root)
    blocks = (root @ matrix @ root).reshape(n_spins, h.n_basis, n_spins, h.n_basis)
    return blocks.transpose(1, 0, 3, 2).reshape(matrix.shape)


@pytest.fixture
def spinful(kind: Spin, sample: Sample) -> Sample:
    return with_spin(sample, kind)


@KINDS
def test_kwant(kind: Spin, spinful: Sample):
    kwant = tool("kwant")
    error, kpts = mesh_and_error(kind)
    wrapped = kwant.wraparound.wraparound(to_kwant(spinful, error=error)).finalized()
    for kpt in kpts:
        phases = dict(zip(("k_x", "k_y", "k_z"), 2 * np.pi * kpt, strict=True))
        found = np.linalg.eigvalsh(wrapped.hamiltonian_submatrix(params=phases))
        np.testing.assert_allclose(found, spinful_levels(spinful, kpt), atol=1e-6)


@KINDS
def test_pybinding(kind: Spin, spinful: Sample):
    """Its wave vector is minus ours, in 1/nm; elements at Γ are S^(−1/2) H S^(−1/2)."""
    pybinding = tool("pybinding")
    error, kpts = mesh_and_error(kind)
    lattice = to_pybinding(spinful, error=error)
    double = pybinding.force_double_precision()
    model = pybinding.Model(lattice, pybinding.translational_symmetry(), double)
    solver = pybinding.solver.lapack(model)
    np.testing.assert_allclose(model.hamiltonian.toarray(), lowdin_at_gamma(spinful), atol=1e-9)
    for kpt in kpts:
        solver.set_wave_vector(-2 * np.pi * np.linalg.solve(0.1 * spinful.atoms.cell[:], kpt))
        np.testing.assert_allclose(solver.eigenvalues, spinful_levels(spinful, kpt), atol=1e-6)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False)], ids=["layer", "0d"])
def test_layers_and_molecules_of_kwant_and_pybinding(pbc, atoms, basis):
    """Symmetry along what is periodic only; a molecule's levels are those of its one matrix."""
    flat = atoms.copy()
    flat.pbc = pbc
    sample = make_sample(flat, basis)
    kwant, pybinding = tool("kwant"), tool("pybinding")
    builder = to_kwant(sample, error=1e-6)
    assert len(builder.symmetry.periods) == sum(pbc)
    lattice = to_pybinding(sample, error=1e-6)
    if not any(pbc):
        exact = levels(sample, np.zeros(3))[0]
        found = builder.finalized().hamiltonian_submatrix()
        np.testing.assert_allclose(np.linalg.eigvalsh(found), exact, atol=1e-9)
        model = pybinding.Model(lattice, pybinding.force_double_precision())
        np.testing.assert_allclose(pybinding.solver.lapack(model).eigenvalues, exact, atol=1e-9)
        return
    assert lattice.ndim == 2
    wrapped = kwant.wraparound.wraparound(builder).finalized()
    kpt = np.array([0.21, -0.37, 0.0])
    found = wrapped.hamiltonian_submatrix(
        params={"k_x": 2 * np.pi * 0.21, "k_y": -2 * np.pi * 0.37}
    )
    np.testing.assert_allclose(np.linalg.eigvalsh(found), levels(sample, kpt)[0], atol=2e-6)


def test_without_them_the_error_says_what_to_install(sample: Sample, monkeypatch):
    for name, function in (("kwant", to_kwant), ("pybinding", to_pybinding)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ExportError, match=f"{name} is needed for its models: .* install"):
            function(sample)


def test_wannierberri(sample: Sample, written):
    wannierberri = tool("wannierberri")
    tool("numba")
    from wannierberri.evaluate_k import evaluate_k

    path = str(written() / "hotham_tb.dat")
    system = wannierberri.system.System_R.from_tb_dat(tb_file=path, berry=True)
    for kpt in KPTS:
        wanted = {"quantities": ["energy", "berry_curvature"], "return_single_as_dict": True}
        found = evaluate_k(system, k=kpt, **wanted)
        np.testing.assert_allclose(found["energy"], levels(sample, kpt)[0], atol=1e-6)
        assert found["berry_curvature"].shape == (sample.hamiltonian.n_basis, 3)


def pyatb_solver(path: Path, sample: Sample, monkeypatch):
    monkeypatch.chdir(path)  # it writes a log where it is imported
    tool("pyatb")
    from pyatb.constants import Ry_to_eV
    from pyatb.init_tb import init_tb

    read = init_tb(
        nspin=4 if sample.hamiltonian.spin.is_spinor else 1,
        lattice_constant=1.0,
        lattice_vector=sample.atoms.cell[:],
        HR_unit="Ry",
        rR_unit="Bohr",
        need_rR=True,
    )
    return read.tb_solver, Rydberg / Ry_to_eV  # its Ry is ABACUS's, 4e-7 larger


def test_pyatb(sample: Sample, tmp_path: Path, monkeypatch):
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, unit = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    found = unit * solver.diago_H_eigenvaluesOnly(KPTS)
    np.testing.assert_allclose(found, [levels(sample, kpt)[0] for kpt in KPTS], atol=1e-6)


def test_pyatb_of_spinors(shared_data: Path, tmp_path: Path, monkeypatch):
    sample = read_sample(shared_data / "abacus" / "mos2_soc" / "000")
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, unit = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    found = unit * solver.diago_H_eigenvaluesOnly(KPTS)
    np.testing.assert_allclose(found, [levels(sample, kpt)[0] for kpt in KPTS], atol=1e-6)


def test_pyatb_s_positions(sample: Sample, tmp_path: Path, monkeypatch):
    """Diagonal elements of r(k), summed from ours."""
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, _ = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    r = position_matrix(sample.atoms, sample.basis)
    found = solver.get_rk(np.zeros((1, 3)))[0].real
    layout = r.overlap.layout
    own = layout.atoms[0] == layout.atoms[1]
    traces = [
        sum(np.trace(layout.block(x, block)) for block in np.flatnonzero(own)) for x in r.values
    ]
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), traces, atol=1e-5)
