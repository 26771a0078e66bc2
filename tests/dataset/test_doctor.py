"""Every fault is planted, and found; a sound data set has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import Dataset, DatasetError, DatasetWriter, Finding, check_dataset
from hotham_ase.dft import Provenance, Sample, read_sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import kinetic_matrix


def write(path: Path, *samples: Sample) -> Path:
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def findings(path: Path) -> dict[str, Finding]:
    """By code, without the checksum that every edited file fails."""
    found = {f.code: f for f in check_dataset(path)}
    found.pop("checksum", None)
    return found


def edit(path: Path, key: str, change, structure: int = 1) -> None:
    """Replace one array of a structure."""
    with h5py.File(path, "r+") as file:
        group = file[f"structures/{structure:08d}"]
        array = change(group[key][()])
        del group[key]
        group[key] = array


def matrix_on(matrix: RealSpaceMatrix, **changes) -> RealSpaceMatrix:
    """The same values, block by block, on a pair list with other geometry or lattice vectors."""
    pairs = matrix.pairs
    names = ("numbers", "positions", "cell", "pbc", "edge_index", "cell_shifts")
    arguments = {name: getattr(pairs, name) for name in names} | changes
    new = PairList(**arguments)
    place = new.find(*arguments["edge_index"], arguments["cell_shifts"])
    onsite = [matrix.onsite_block(i) for i in range(pairs.n_atoms)]
    hopping = [matrix.hopping_block(e) for e in np.argsort(place)]
    return RealSpaceMatrix.from_blocks(new, onsite, hopping, name=matrix.name)


def test_sound_data_set(dataset_path: Path):
    calls = []
    assert check_dataset(dataset_path, lambda *call: calls.append(call)) == []
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_file_that_is_no_data_set(tmp_path: Path):
    (tmp_path / "x.h5").write_text("no")
    with pytest.raises(DatasetError):
        check_dataset(tmp_path / "x.h5")


def test_edited_content(dataset_path: Path):
    edit(dataset_path, "hamiltonian/values", lambda v: v * (1 + 1e-12))
    found = check_dataset(dataset_path)
    assert [(f.structure, f.code, f.severity) for f in found] == [
        ("crystal/1", "checksum", "error")
    ]


def test_missing_part(dataset_path: Path):
    with h5py.File(dataset_path, "r+") as file:
        del file["structures/00000001/hamiltonian/cell_shifts"]
    assert findings(dataset_path)["unreadable"].structure == "crystal/1"


@pytest.mark.parametrize("key", ["positions", "hamiltonian/values", "overlap/values"])
def test_not_a_number(dataset_path: Path, key: str):
    def spoil(array):
        array.flat[2] = np.nan
        return array

    edit(dataset_path, key, spoil)
    found = findings(dataset_path)
    assert list(found) == ["nan"]
    assert found["nan"].structure == "crystal/1"


def test_unknown_element(dataset_path: Path):
    edit(dataset_path, "numbers", lambda n: np.array([5, 8]))
    assert "['O']" in findings(dataset_path)["unknown-element"].message


def test_overlapping_atoms(dataset_path: Path, samples: list[Sample]):
    # the second atom on the first one's image
    edit(dataset_path, "positions", lambda p: np.array([p[0], p[0] + samples[1].atoms.cell[0]]))
    assert "overlap" in findings(dataset_path)["overlapping-atoms"].message


def test_orbital_count(dataset_path: Path):
    with h5py.File(dataset_path, "r+") as file:
        file["basis/B"].attrs["shells"] = (0, 2)
    found = [f for f in check_dataset(dataset_path) if f.code == "orbital-count"]
    assert {f.structure for f in found} == {"crystal/0", "crystal/1", "crystal/2"}
    assert "hamiltonian has" in found[0].message


def test_onsite_block_that_is_not_symmetric(dataset_path: Path):
    def spoil(values):
        values[1] += 0.3  # element (0, 1) of the first block
        return values

    edit(dataset_path, "hamiltonian/values", spoil)
    assert "0.3" in findings(dataset_path)["not-hermitian"].message


def test_atom_alone_in_its_box(tmp_path: Path, samples: list[Sample]):
    """Its orbitals reach no image: that there are no pairs is no fault."""
    atoms = samples[0].atoms[:1]
    atoms.cell = np.eye(3) * 20.0
    pairs = PairList.from_atoms(atoms, samples[0].basis.pair_cutoffs)
    assert pairs.n_edges == 0
    unit = RealSpaceMatrix(pairs, [4], np.eye(4).ravel())
    lone = Sample(atoms, samples[0].basis, unit, unit, None, 3.0)
    assert "no-pairs" not in findings(write(tmp_path / "lone.h5", lone))


def test_empty_pair_list(dataset_path: Path, samples: list[Sample]):
    n_onsite = int((samples[1].hamiltonian.n_orbitals ** 2).sum())
    edit(dataset_path, "hamiltonian/values", lambda v: v[:n_onsite])
    edit(dataset_path, "hamiltonian/edge_index", lambda e: e[:, :0])
    edit(dataset_path, "hamiltonian/cell_shifts", lambda s: s[:0])
    assert "no pairs" in findings(dataset_path)["no-pairs"].message


def test_pair_listed_twice(dataset_path: Path, samples: list[Sample]):
    """Both directions of a pair where one belongs."""
    matrix = samples[1].hamiltonian
    with h5py.File(dataset_path) as file:
        i, j = file["structures/00000001/hamiltonian/edge_index"][:, 0]
    size = matrix.n_orbitals[i] * matrix.n_orbitals[j]
    edit(
        dataset_path,
        "hamiltonian/edge_index",
        lambda e: np.concatenate([e, e[::-1, :1]], axis=1),
    )
    edit(dataset_path, "hamiltonian/cell_shifts", lambda s: np.concatenate([s, -s[:1]]))
    edit(dataset_path, "hamiltonian/values", lambda v: np.concatenate([v, np.zeros(size)]))
    assert "more than once" in findings(dataset_path)["no-pairs"].message


def test_one_sided_pairs(tmp_path: Path, samples: list[Sample]):
    """Pairs within the cell are lost if those of R = 0 are taken for onsite blocks."""
    matrix = samples[0].hamiltonian
    across = np.flatnonzero(matrix.pairs.cell_shifts.any(axis=1))
    lost = matrix.on_pairs(matrix.pairs.select(across))
    found = findings(write(tmp_path / "a.h5", replace(samples[0], hamiltonian=lost)))
    assert found["one-sided-pairs"].severity == "error"
    assert "i=0, j=1, R=[0, 0, 0]" in found["one-sided-pairs"].message


def folded_sample(sample: Sample) -> Sample:
    """Positions outside the cell, lattice vectors of the folded ones."""
    positions = sample.atoms.positions + np.array([[1, 0, 0], [0, -2, 1]]) @ sample.atoms.cell[:]
    atoms = sample.atoms.copy()
    atoms.positions = positions
    return replace(
        sample,
        atoms=atoms,
        hamiltonian=matrix_on(sample.hamiltonian, positions=positions),
        overlap=matrix_on(sample.overlap, positions=positions),
    )


def test_folded_coordinates(tmp_path: Path, samples: list[Sample]):
    found = findings(write(tmp_path / "a.h5", folded_sample(samples[0])))
    assert list(found) == ["folded-coordinates"]


def test_positions_outside_the_cell_are_no_fault(tmp_path: Path, samples: list[Sample]):
    sample = samples[0]
    images = np.array([[1, 0, 0], [0, -2, 1]])
    atoms = sample.atoms.copy()
    atoms.positions = atoms.positions + images @ atoms.cell[:]
    moved = {}
    for name in ("hamiltonian", "overlap"):
        matrix = getattr(sample, name)
        i, j = matrix.pairs.edge_index
        shifts = matrix.pairs.cell_shifts - images[j] + images[i]
        moved[name] = matrix_on(matrix, positions=atoms.positions, cell_shifts=shifts)
    path = write(tmp_path / "a.h5", replace(sample, atoms=atoms, **moved))
    assert check_dataset(path) == []


def test_overlap_of_other_orbitals(tmp_path: Path, samples: list[Sample]):
    """An exchange of p_y and p_z of nitrogen leaves S symmetric and its eigenvalues alone."""
    sample = samples[0]
    swap = np.arange(9)
    swap[[6, 7]] = [7, 6]
    matrix = sample.overlap
    offsets = matrix.layout.orbital_offsets
    parts = [swap[offsets[a] : offsets[a + 1]] - offsets[a] for a in range(2)]
    onsite = [matrix.onsite_block(a)[np.ix_(parts[a], parts[a])] for a in range(2)]
    hopping = [
        matrix.hopping_block(e)[np.ix_(parts[i], parts[j])]
        for e, (i, j) in enumerate(matrix.pairs.edge_index.T)
    ]
    wrong = RealSpaceMatrix.from_blocks(matrix.pairs, onsite, hopping, name="overlap")
    found = findings(write(tmp_path / "a.h5", replace(sample, overlap=wrong)))
    assert found["overlap-mismatch"].severity == "error"


def test_overlap_of_little_accuracy_is_a_warning(tmp_path: Path, samples: list[Sample]):
    rough = replace(samples[0], overlap=samples[0].overlap * 1.0001)
    assert findings(write(tmp_path / "a.h5", rough))["overlap-mismatch"].severity == "warning"


def test_overlap_that_is_not_positive_definite(tmp_path: Path, samples: list[Sample]):
    negative = replace(samples[0], overlap=samples[0].overlap * -1.0)
    message = findings(write(tmp_path / "a.h5", negative))["overlap-indefinite"].message
    assert message.startswith("of an atom: the overlap matrix is not positive")
    # blocks of atoms are sound, but their neighbours overlap more than any functions can
    overlap = samples[0].overlap
    values = overlap.values.copy()
    values[:, overlap.layout.n_onsite :] *= 4
    large = RealSpaceMatrix(overlap.pairs, overlap.layout.n_orbitals, values, name="overlap")
    message = findings(write(tmp_path / "b.h5", replace(samples[0], overlap=large)))[
        "overlap-indefinite"
    ].message
    assert message.startswith("at k = [")


@pytest.mark.parametrize(
    ("factor", "severity"), [(1.5, "error"), (27.2, "error"), (1.01, "warning")]
)
def test_orbitals_of_another_norm(
    tmp_path: Path, samples: list[Sample], factor: float, severity: str
):
    found = findings(
        write(tmp_path / "a.h5", replace(samples[0], overlap=samples[0].overlap * factor))
    )
    assert found["overlap-norm"].severity == severity


def test_atom_without_a_block(tmp_path: Path, samples: list[Sample]):
    matrix = samples[0].hamiltonian
    values = matrix.values.copy()
    values[:, matrix.layout.offsets[1] : matrix.layout.offsets[2]] = 0.0
    empty = RealSpaceMatrix(matrix.pairs, matrix.n_orbitals, values, name="hamiltonian")
    found = findings(write(tmp_path / "a.h5", replace(samples[0], hamiltonian=empty)))
    assert "no onsite block of atoms [1]" in found["missing-blocks"].message


def test_far_pair_without_a_block(tmp_path: Path, samples: list[Sample]):
    """The farthest one whose orbitals overlap by more than 0.001."""
    pairs, overlap = samples[0].overlap.pairs, samples[0].overlap
    sizes = np.array([np.abs(overlap.hopping_block(e)).max() for e in range(pairs.n_edges)])
    far = max(np.flatnonzero(sizes > 1e-3), key=lambda e: pairs.edge_lengths[e])
    lost = (far, pairs.reverse_edge_index[far])
    kept = np.setdiff1d(np.arange(pairs.n_edges), lost)
    matrix = samples[0].hamiltonian.on_pairs(pairs.select(kept))
    found = findings(write(tmp_path / "a.h5", replace(samples[0], hamiltonian=matrix)))
    assert "lacks 2 pairs" in found["missing-blocks"].message


def test_levels_that_cannot_be(tmp_path: Path):
    """Two s orbitals: the levels are (h ± t) / (1 ± s), and 1 - s is small."""
    atoms = Atoms("B2", positions=[[0, 0, 0], [0, 0, 1.5]])
    basis = OrbitalBasis((SpeciesBasis("B", (0,), (1.0,), 3),))
    pairs = PairList.from_atoms(atoms, 2.0)

    def matrix(onsite: float, hopping: float, name: str) -> RealSpaceMatrix:
        blocks = ([[[value]]] * 2 for value in (onsite, hopping))
        return RealSpaceMatrix.from_blocks(pairs, *map(np.array, blocks), name=name)

    overlap = matrix(1.0, 0.999, "overlap")
    for hopping, lowest in ((-9.95, -50.0), (-9.9, -100.0)):
        assert lowest == pytest.approx((-10 - hopping) / (1 - 0.999))
        sample = Sample(atoms, basis, matrix(-10.0, hopping, "hamiltonian"), overlap, None, 2.0)
        found = findings(write(tmp_path / "a.h5", sample))
        assert ("absurd-levels" in found) == (lowest < -60)
    assert "lowest level is -100.0 eV" in found["absurd-levels"].message


def test_content_that_cannot_be_examined_is_a_finding(dataset_path: Path):
    with h5py.File(dataset_path, "r+") as file:
        del file["structures/00000001/numbers"]
        file["structures/00000001/numbers"] = h5py.ExternalLink("other.h5", "/numbers")
        del file["structures/00000002"].attrs["provenance"]
        file["structures/00000002"].attrs["provenance"] = "[" * 20000
    found = [f for f in check_dataset(dataset_path) if f.code == "unreadable"]
    assert [f.structure for f in found] == ["crystal/1", "crystal/2"]
    with h5py.File(dataset_path, "r+") as file:
        del file["names"]
    (found,) = check_dataset(dataset_path)
    assert found.code == "unreadable"
    assert "names is missing" in found.message


def with_origin(sample: Sample, **changes) -> Sample:
    return replace(sample, provenance=replace(sample.provenance, **changes))


def test_calculation_that_did_not_converge(tmp_path: Path, samples: list[Sample]):
    path = write(tmp_path / "a.h5", with_origin(samples[0], scf_converged=False))
    assert findings(path)["unconverged"].severity == "error"
    path = write(tmp_path / "b.h5", samples[0], with_origin(samples[1], scf_converged=None))
    found = findings(path)["unconverged"]
    assert (found.severity, found.structure) == ("info", None)
    assert "1 of 2" in found.message


def test_run_of_one_step(tmp_path: Path, samples: list[Sample]):
    path = write(tmp_path / "a.h5", with_origin(samples[0], scf_steps=1))
    assert "H0" in findings(path)["first-step"].message


@pytest.mark.parametrize("shift", [-60.0, 60.0])
def test_matrix_that_the_fermi_level_does_not_belong_to(
    tmp_path: Path, samples: list[Sample], shift: float
):
    """A constant potential stands for the difference between H0 and H."""
    sample = samples[0]
    wrong = replace(sample, hamiltonian=sample.hamiltonian + shift * sample.overlap)
    found = findings(write(tmp_path / "a.h5", wrong))["electron-count"]
    assert f"but there are {sample.n_electrons:g}" in found.message


def test_structure_that_is_there_twice(tmp_path: Path, samples: list[Sample]):
    path = write(tmp_path / "a.h5", *samples, with_origin(samples[1], name="copy"))
    found = findings(path)["duplicate"]
    assert (found.structure, found.severity) == ("copy", "warning")
    assert "crystal/1" in found.message


def test_structures_of_different_functionals(tmp_path: Path, samples: list[Sample]):
    path = write(
        tmp_path / "a.h5", with_origin(samples[0], xc="PBE"), with_origin(samples[1], xc="LDA")
    )
    assert "xc: LDA, PBE" in findings(path)["mixed-settings"].message


def test_basis_without_radial_functions(tmp_path: Path, samples: list[Sample]):
    """What needs no integrals is checked all the same."""
    bare = OrbitalBasis(
        tuple(
            SpeciesBasis(s.symbol, s.shells, s.cutoffs, s.n_valence)
            for s in samples[0].basis.species
        )
    )
    good = replace(samples[0], basis=bare)
    assert check_dataset(write(tmp_path / "a.h5", good)) == []
    assert list(findings(write(tmp_path / "b.h5", folded_sample(good)))) == ["folded-coordinates"]


@pytest.mark.parametrize("run", ["graphene/001", "mos2/000", "carbon_allotropes/graphiteAB_0"])
def test_real_runs_have_no_faults(tmp_path: Path, shared_data: Path, run: str):
    path = write(tmp_path / "a.h5", read_sample(shared_data / "abacus" / run))
    assert check_dataset(path) == []
    assert len(Dataset(path)) == 1


def test_fermi_level_of_another_step_of_a_real_run(tmp_path: Path, shared_data: Path):
    """Graphene's first and last step differ by 3.3 eV in the Fermi level.

    No H0 of a real run is at hand; this is the mismatch it would come with.
    """
    sample = read_sample(shared_data / "abacus" / "graphene" / "000")
    wrong = replace(sample, fermi_level=sample.fermi_level - 3.3)
    assert "electron-count" in findings(write(tmp_path / "a.h5", wrong))


def test_initial_hamiltonians(tmp_path: Path, samples: list[Sample]):
    kinetic = [kinetic_matrix(s.atoms, s.basis) for s in samples]

    def found(*initial, steps: int | None = None) -> list[tuple[str | None, str, str]]:
        changed = [
            replace(with_origin(s, initial=Provenance(scf_steps=steps)), initial_hamiltonian=h0)
            for s, h0 in zip(samples, initial, strict=True)
        ]
        found = check_dataset(write(tmp_path / "a.h5", *changed))
        return [(f.structure, f.code, f.message) for f in found]

    near = [s.hamiltonian + 0.01 * t for s, t in zip(samples, kinetic, strict=True)]
    assert found(*near) == []
    # the zero of energy does not count
    assert found(near[0] + 50.0 * samples[0].overlap, *near[1:]) == []
    ((name, code, message),) = found(near[0], None, near[2])
    assert (name, code) == (None, "initial")
    assert "2 of 3 structures" in message
    assert "the first is crystal/1" in message
    ((name, code, message),) = found(near[0], samples[1].hamiltonian, near[2])
    assert (name, code) == ("crystal/1", "initial")
    assert "H itself" in message
    ((name, code, message),) = found(near[0], -1.0 * samples[1].hamiltonian, near[2])
    assert (name, code) == ("crystal/1", "initial")
    assert "2 times as large" in message
    late = found(*near, steps=9)
    assert [(name, code) for name, code, _ in late] == [(s.name, "initial") for s in samples]
    assert "made 9 steps" in late[0][2]
    assert found(*near, steps=1) == []


def test_initial_hamiltonian_that_is_damaged(tmp_path: Path, samples: list[Sample]):
    with_h0 = [replace(s, initial_hamiltonian=0.9 * s.hamiltonian) for s in samples]
    path = write(tmp_path / "a.h5", *with_h0)
    edit(path, "initial_hamiltonian/values", lambda v: np.where(np.arange(len(v)) == 5, np.nan, v))
    assert "initial_hamiltonian" in findings(path)["nan"].message
