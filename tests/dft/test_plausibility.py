from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft import DFTReadError, Sample, read_sample
from hotham_ase.dft.plausibility import (
    Eigenvalues,
    check_against_run,
    check_electrons,
    check_sample,
)
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from tests.dft.conftest import abacus_matrices, levels_of


@pytest.fixture(scope="module")
def run(sample: Sample) -> Eigenvalues:
    """The sample's own levels, back on the scale of H."""
    kpts, levels, occupations = levels_of(sample)
    return Eigenvalues(kpts, levels[None] * 13.605693122994 / 13.605698066, occupations[None])


def bare(sample: Sample) -> Sample:
    """The same sample without radial functions, as DeepH's folders give it."""
    species = tuple(replace(s, grid=None, radial=None) for s in sample.basis.species)
    return replace(sample, basis=OrbitalBasis(species))


def without(matrix: RealSpaceMatrix, edges: np.ndarray) -> RealSpaceMatrix:
    """Without some pairs and their reverses."""
    pairs = matrix.pairs
    gone = np.concatenate([edges, pairs.reverse_edge_index[edges]])
    kept = np.setdiff1d(np.arange(pairs.n_edges), gone)
    fewer = PairList(
        pairs.numbers,
        pairs.positions,
        pairs.cell,
        pairs.pbc,
        pairs.edge_index[:, kept],
        pairs.cell_shifts[kept],
    )
    return matrix.on_pairs(fewer)


def changed(matrix: RealSpaceMatrix, change: Callable[[np.ndarray], None]) -> RealSpaceMatrix:
    values = matrix.values.copy()
    change(values[0])
    return RealSpaceMatrix(matrix.pairs, matrix.n_orbitals, values, name=matrix.name)


@pytest.mark.parametrize("radial", [True, False])
def test_what_a_calculation_found_passes(sample: Sample, run: Eigenvalues, radial: bool):
    sample = sample if radial else bare(sample)
    check_sample(sample)
    check_electrons(sample)
    assert check_against_run(sample, run) == 2


@pytest.mark.parametrize("radial", [True, False])
def test_missing_blocks(sample: Sample, radial: bool):
    sample = sample if radial else bare(sample)
    order = sample.hamiltonian.pairs.edge_lengths.argsort()
    size = int(sample.hamiltonian.n_orbitals[0] ** 2)

    def drop_onsite(values: np.ndarray) -> None:
        values[:size] = 0.0

    with pytest.raises(DFTReadError, match="no onsite block of atom 0"):
        check_sample(replace(sample, hamiltonian=changed(sample.hamiltonian, drop_onsite)))

    def drop_level(values: np.ndarray) -> None:
        values[0] = 0.0

    with pytest.raises(DFTReadError, match=r"no element of orbital 0 of atom 0 .* with itself"):
        check_sample(replace(sample, hamiltonian=changed(sample.hamiltonian, drop_level)))
    nearest = without(sample.hamiltonian, order[:1])
    with pytest.raises(DFTReadError, match="hamiltonian lacks 2 blocks where orbitals overlap"):
        check_sample(replace(sample, hamiltonian=nearest))
    some = sample.overlap.pairs.edge_lengths.argsort()[:1]
    with pytest.raises(DFTReadError, match="overlap lacks 2 blocks where orbitals overlap"):
        check_sample(replace(sample, overlap=without(sample.overlap, some)))
    at_origin = np.flatnonzero(~sample.hamiltonian.pairs.cell_shifts.any(axis=1))
    with pytest.raises(DFTReadError, match="where orbitals overlap"):
        check_sample(replace(sample, hamiltonian=without(sample.hamiltonian, at_origin)))


def test_missing_blocks_at_the_border(sample: Sample):
    """Beyond three quarters of the reach, S tells where H has a block."""
    h, s = sample.hamiltonian, sample.overlap
    reach = 0.75 * 2 * sample.basis["B"].cutoff
    of_boron = (h.pairs.numbers[h.pairs.edge_index] == 5).all(axis=0)
    far = np.flatnonzero(of_boron & (h.pairs.edge_lengths > reach))
    sizes = np.maximum.reduceat(np.abs(s.values[0]), s.layout.offsets[:-1])[3:]
    found = s.pairs.find(*h.pairs.edge_index[:, far], h.pairs.cell_shifts[far])
    edge = far[np.where(found >= 0, sizes[found], 0.0).argmax()][None]
    with pytest.raises(DFTReadError, match="hamiltonian lacks 2 blocks where S has one"):
        check_sample(replace(sample, hamiltonian=without(h, edge)))


@pytest.mark.parametrize(
    ("factor", "message"), [(1.5, "with itself is 1.5"), (27.2, "with itself is 27.2")]
)
@pytest.mark.parametrize("radial", [True, False])
def test_overlaps_in_another_unit(sample: Sample, factor: float, message: str, radial: bool):
    sample = sample if radial else bare(sample)
    with pytest.raises(DFTReadError, match=message):
        check_sample(replace(sample, overlap=factor * sample.overlap))


def test_overlaps_of_another_order_or_structure(sample: Sample):
    n = int(sample.overlap.n_orbitals[0])

    def mix(values: np.ndarray) -> None:
        values[2] = values[2 * n] = 0.1  # 1s with a p function

    with pytest.raises(DFTReadError, match="of different l or m"):
        check_sample(replace(sample, overlap=changed(sample.overlap, mix)))
    first_hopping = int(sample.overlap.layout.offsets[3])

    def shrink(values: np.ndarray) -> None:
        values[first_hopping:] *= 0.99

    with pytest.raises(DFTReadError, match="from the integrals of the basis"):
        check_sample(replace(sample, overlap=changed(sample.overlap, shrink)))


def test_pairs_across_a_direction_that_is_not_periodic(sample: Sample):
    atoms = sample.atoms.copy()
    atoms.pbc = (True, True, False)
    with pytest.raises(DFTReadError, match="block at R = .* but pbc is"):
        check_sample(replace(sample, atoms=atoms))


@pytest.mark.parametrize("factor", [0.5, 2.0, 13.6, 27.2])
def test_hamiltonians_in_another_unit(sample: Sample, run: Eigenvalues, factor: float):
    scaled = replace(sample, hamiltonian=factor * sample.hamiltonian)
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        check_against_run(scaled, run)
    with pytest.raises(DFTReadError, match="electrons are below the Fermi level"):
        check_electrons(scaled)


def test_shifted_levels_and_electrons(sample: Sample, run: Eigenvalues):
    shifted = replace(sample, hamiltonian=sample.hamiltonian + 0.001 * sample.overlap)
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        check_against_run(shifted, run)
    with pytest.raises(DFTReadError, match="add up to 20 electrons, but the sample has 21"):
        check_against_run(replace(sample, n_electrons=21), run)
    with pytest.raises(DFTReadError, match="of 20 electrons are in the run's levels below"):
        check_against_run(replace(sample, fermi_level=sample.fermi_level - 30), run)
    more = np.concatenate([run.eigenvalues, run.eigenvalues + 100], axis=2)
    too_many = Eigenvalues(
        run.kpts, more, np.concatenate([run.occupations, 0 * run.occupations], 2)
    )
    with pytest.raises(DFTReadError, match="52 bands, more than"):
        check_against_run(sample, too_many)


def test_indefinite_overlaps(sample: Sample):
    """A hopping block that is too large makes a norm negative."""
    edge = 3 + int(sample.overlap.pairs.edge_lengths.argmin())
    back = int(sample.overlap.layout.reverse[edge])

    def grow(values: np.ndarray) -> None:
        for block in (edge, back):
            values[slice(*sample.overlap.layout.offsets[block : block + 2])] *= 20

    with pytest.raises(DFTReadError, match="not positive definite"):
        check_electrons(replace(sample, overlap=changed(sample.overlap, grow)))


def test_verification_can_be_left_out(tmp_path, write_abacus, sample: Sample):
    folder = write_abacus(
        tmp_path / "run",
        with_levels=True,
        change_h=lambda matrices: {r: 2 * m for r, m in matrices.items()},
    )
    with pytest.raises(DFTReadError, match="eigenvalues"):
        read_sample(folder)
    read = read_sample(folder, verify=False)
    np.testing.assert_allclose(read.hamiltonian.values, 2 * sample.hamiltonian.values, atol=1e-8)


def test_large_matrices_are_not_said_to_be_compared(tmp_path, write_abacus, monkeypatch):
    monkeypatch.setattr("hotham_ase.dft.plausibility.LARGEST_DENSE", 10)
    folder = write_abacus(tmp_path / "run", with_levels=True)
    assert read_sample(folder).provenance.eigenvalues is None


def test_printed_digits_are_taken_into_account(tmp_path, write_abacus, sample: Sample):
    """Runs may ask for five digits of H: its eigenvalues are as rough."""

    def rounded(matrices):
        return {
            r: np.array([[float(f"{x:.5e}") for x in row] for row in m])
            for r, m in matrices.items()
        }

    folder = write_abacus(tmp_path / "run", with_levels=True, change_h=rounded)
    path = folder / "OUT.test" / "data-HR-sparse_SPIN0.csr"
    path.write_text(re.sub(r"(\d\.\d{5})0{7}e", r"\1e", path.read_text()))
    assert read_sample(folder).provenance.eigenvalues == "compared"


# ------------------------------------------------------------------------- real runs


@pytest.mark.parametrize("run", ["silicon/000", "graphene/000"])
def test_damage_to_real_runs(shared_data: Path, run: str):
    """What passed unseen: another unit, a dropped ±R, a shifted diagonal."""
    from hotham_ase.dft.abacus.log import read_eigenvalues

    folder = shared_data / "abacus" / run
    sample, levels = read_sample(folder), read_eigenvalues(folder)
    h = sample.hamiltonian
    for factor in (0.5, 2.0, 13.6, 27.2):
        with pytest.raises(DFTReadError, match="own eigenvalues"):
            check_against_run(replace(sample, hamiltonian=factor * h), levels)
    shifts = h.pairs.cell_shifts
    for vector in ([1, 0, 0], [1, 1, 0]):
        gone = np.flatnonzero((shifts == vector).all(axis=1))
        damaged = replace(sample, hamiltonian=without(h, gone))
        with pytest.raises(DFTReadError, match="hamiltonian lacks"):
            check_sample(damaged)
        with pytest.raises(DFTReadError, match="own eigenvalues"):
            check_against_run(damaged, levels)

    def shift(values: np.ndarray) -> None:
        values[0] += 0.05

    with pytest.raises(DFTReadError, match="own eigenvalues"):
        check_against_run(replace(sample, hamiltonian=changed(h, shift)), levels)


@pytest.mark.parametrize("run", ["bcn/001", "hbn/001", "hbn_bilayer/001", "mos2_nospin/001"])
def test_true_runs_pass(shared_data: Path, run: str):
    """Also the looser check, for runs whose eigenvalues are not there."""
    sample = read_sample(shared_data / "abacus" / run)
    assert sample.provenance.eigenvalues == "compared"
    check_electrons(sample)


def test_matrices_of_the_first_lattice_vector_only(tmp_path, write_abacus, sample: Sample):
    def only(matrices):
        return {r: m for r, m in matrices.items() if not any(r)}

    folder = write_abacus(tmp_path / "run", change_h=only)
    assert len(abacus_matrices(sample.hamiltonian, sample)) > 1
    with pytest.raises(DFTReadError, match="hamiltonian lacks .* blocks where orbitals overlap"):
        read_sample(folder)

    def without_origin(matrices):
        return {r: m for r, m in matrices.items() if any(r)}

    folder = write_abacus(tmp_path / "other", change_h=without_origin)
    with pytest.raises(DFTReadError, match="no onsite block of atom 0|farther apart than"):
        read_sample(folder)
