"""ABACUS, SIESTA and OpenMX with a stand-in that leaves the files of a stored run."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io.siesta import read_fdf
from scipy.linalg import eigvalsh

from hotham_ase.dft import read_sample
from hotham_ase.dft.abacus.input import read_input
from hotham_ase.dft.abacus.stru import read_stru
from hotham_ase.dft.openmx.input import parse_input
from hotham_ase.engines import EngineError
from hotham_ase.engines.abacus import Abacus
from hotham_ase.engines.openmx import OpenMX
from hotham_ase.engines.siesta import Siesta
from hotham_ase.overlap import overlap_matrix

STAND_IN = Path(__file__).with_name("stand_in.py")
RUNS = {Abacus: "abacus/hbn/000", Siesta: "siesta/Si_pdos_k", OpenMX: "openmx/graphene"}
ENGINES = pytest.mark.parametrize("engine", RUNS, ids=lambda kind: kind.__name__)


def template(kind, data: Path, folder: Path) -> Path:
    """Inputs of a stored run, and what they name: no results."""
    stored, to = data / RUNS[kind], folder / kind.__name__
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for path in stored.iterdir():
        if path.is_file() and path.name in {"INPUT", "STRU", "KPT", "Si_pdos.fdf", "graphene.dat"}:
            shutil.copyfile(path, to / path.name)
    if kind is Siesta:
        (to / "Si.psf").write_text("a pseudopotential")
    if kind is OpenMX:
        (folder / "PAO").mkdir(exist_ok=True)
        shutil.copyfile(data / "openmx/pao/C6.0.pao.xz", folder / "PAO/C6.0.pao.xz")
    if kind is Abacus:
        text = (to / "INPUT").read_text().replace("../../orbitals", str(data / "abacus/orbitals"))
        (to / "INPUT").write_text(text)
    return to


@pytest.fixture
def made(shared_data, tmp_path):
    """Function (kind, **settings) that makes the engine; what it gives its program is in seen/."""

    def make(kind, **settings):
        words = [sys.executable, STAND_IN, tmp_path / "seen", shared_data / RUNS[kind]]
        command = shlex.join(map(str, words))
        folder = template(kind, shared_data, tmp_path)
        return kind(template=folder, command=command, **settings)

    return make


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    """Where folders of runs are made."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def stored(kind, data: Path):
    orbitals = data / "openmx/pao" if kind is OpenMX else None
    return read_sample(data / RUNS[kind], orbitals=orbitals)


def written(kind, seen: Path):
    """The structure that the program was given, read by others where there are any."""
    if kind is Abacus:
        return read_stru(seen / "STRU").atoms
    if kind is Siesta:
        assert (seen / "stdin").read_bytes() == (seen / "input.fdf").read_bytes()
        found = read_fdf(seen / "stdin")
        assert found["latticeconstant"] == ["1.0", "Ang"]
        assert found["atomiccoordinatesformat"] == ["Ang"]
        numbers = {row[0]: int(row[1]) for row in found["chemicalspecieslabel"]}
        cell, rows = found["latticevectors"], found["atomiccoordinatesandatomicspecies"]
        counts = (found["numberofatoms"], found["numberofspecies"])
        assert counts == ([str(len(rows))], [str(len(numbers))])
        return Atoms(
            [numbers[row[3]] for row in rows],
            positions=np.array([row[:3] for row in rows], dtype=float),
            cell=np.array(cell, dtype=float),
        )
    given = parse_input((seen / "input.dat").read_text().splitlines(), "it")
    rows = given.block("Atoms.SpeciesAndCoordinates")
    units = {
        given.values[f"atoms.{what}.unit"] for what in ("unitvectors", "speciesandcoordinates")
    }
    assert units == {"Ang"}
    assert given.number("Atoms.Number") == len(rows)
    assert given.number("Species.Number") == len(given.species())
    return Atoms(
        [row[1] for row in rows],
        positions=np.array([row[2:5] for row in rows], dtype=float),
        cell=np.array(given.block("Atoms.UnitVectors"), dtype=float),
    )


@ENGINES
def test_a_replayed_run_is_what_the_reader_reads(made, shared_data, runs, engine):
    known = stored(engine, shared_data)
    sample = made(engine).calculate(known.atoms, "group/0007")
    np.testing.assert_allclose(
        sample.hamiltonian.values, known.hamiltonian.values, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(sample.overlap.values, known.overlap.values, rtol=0, atol=1e-12)
    assert sample.basis == known.basis
    assert (sample.fermi_level, sample.n_electrons) == (known.fermi_level, known.n_electrons)
    found = sample.provenance
    versions = {Abacus: known.provenance.version, Siesta: "4.1.5", OpenMX: "3.9"}
    assert (found.name, found.code) == ("group/0007", known.provenance.code)
    assert found.version == versions[engine]
    assert "stand_in.py" in found.extra["command"]
    assert not list(runs.iterdir())


@ENGINES
def test_what_the_program_is_given(made, shared_data, tmp_path, engine):
    known = stored(engine, shared_data)
    made(engine, kpts=1.9).calculate(known.atoms, "a/0")
    seen = tmp_path / "seen"
    atoms = written(engine, seen)
    assert atoms.symbols.get_chemical_formula() == known.atoms.symbols.get_chemical_formula()
    np.testing.assert_allclose(atoms.cell[:], known.atoms.cell[:], atol=1e-6)
    for symbol, position in zip(known.atoms.symbols, known.atoms.positions, strict=True):
        same = atoms[atoms.symbols == symbol]
        away = (same.positions - position) @ np.linalg.inv(atoms.cell[:])
        assert np.abs(away - np.rint(away)).max(axis=1).min() < 1e-7
    lengths = np.linalg.norm(known.atoms.cell.reciprocal()[:], axis=1)
    mesh = " ".join(str(int(np.ceil(1.9 * 2 * np.pi * length))) for length in lengths)
    if engine is Abacus:
        settings = read_input(seen)
        settings.check_supported()
        assert settings.get("out_mat_hs2", "0") == "1"
        for _, symbol, file in read_stru(seen / "STRU").species:
            assert f"Element                     {symbol}" in (seen / file).read_text()[:500]
            assert (seen / f"{symbol}_nexthamdojo.upf").stat().st_size > 10_000
        assert (seen / "KPT").read_text().splitlines()[3] == f"{mesh} 0 0 0"
    if engine is Siesta:
        text = (seen / "stdin").read_text()
        assert "SaveHS true" in text
        assert "MeshCutoff          150.0 Ry" in text  # of the template
        assert text.count("kgrid.MonkhorstPack") == 3  # that of PDOS is the template's
        assert (seen / "Si.psf").is_file()
    if engine is OpenMX:
        text = (seen / "input.dat").read_text()
        assert (seen / "arguments").read_text() == "input.dat"
        assert f"scf.Kgrid {mesh}" in text
        assert "scf.Kgrid 12 12 1" not in text
        assert f"DATA.PATH {tmp_path}" in text
        assert "C C6.0-s2p2d1 C_PBE19" in text
        assert text.rstrip().splitlines()[-1].startswith("scf.Kgrid")
        places = text.split("<Atoms.SpeciesAndCoordinates\n")[1].splitlines()[:2]
        assert [row.split()[1] for row in places] == ["C", "C"]
        assert all(row.split()[5:] == ["2.0", "2.0"] for row in places)


def test_another_order_of_atoms_and_other_cells_of_them(made, shared_data):
    """S are the integrals of the structure that was asked for, and levels those of the run."""
    known = stored(Abacus, shared_data)
    asked = known.atoms[np.arange(18).reshape(2, 9).T.ravel()]  # B and N in turn
    asked.positions += np.array([[1, -1, 0], [0, 2, 0]] * 9) @ asked.cell[:]
    sample = made(Abacus).calculate(asked, "a/0")
    assert np.array_equal(sample.atoms.positions, asked.positions)
    computed = overlap_matrix(asked, sample.basis)
    assert np.abs((sample.overlap - computed).values).max() < 1e-7
    kpt = (0.1, 0.3, 0.0)
    found, expected = (
        eigvalsh(*(m.at_k(kpt, format="dense") for m in (one.hamiltonian, one.overlap)))
        for one in (sample, known)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@ENGINES
def test_another_structure_than_was_asked_for_is_refused(made, shared_data, runs, engine):
    asked = stored(engine, shared_data).atoms
    asked.positions[1] += 0.01
    with pytest.raises(
        EngineError,
        match=r"(?s)atom 1 .*(0\.0173 Å from where|the structure file at).*folder is kept",
    ) as error:
        made(engine).calculate(asked, "a/0")
    (folder,) = runs.iterdir()
    assert str(error.value).endswith(str(folder))
    assert (folder / "output.txt").read_text().startswith("Siesta")


def test_another_cell_is_refused(made, shared_data):
    asked = stored(OpenMX, shared_data).atoms
    asked.set_cell(asked.cell[:] * 1.01, scale_atoms=True)
    with pytest.raises(EngineError, match="has the cell .* was asked for"):
        made(OpenMX).calculate(asked, "a/0")


def test_the_basis_before_any_run(made, shared_data):
    known = {kind: stored(kind, shared_data) for kind in RUNS}
    assert made(Siesta).basis_of(["Si"]) is None
    found = made(OpenMX).basis_of(["C"])
    assert found == known[OpenMX].basis
    found = made(Abacus).basis_of(["N", "B"])
    assert found.same_orbitals(known[Abacus].basis.subset(["B", "N"]))
    assert found.n_electrons([5, 7]) == 8


@ENGINES
def test_elements_that_the_template_lacks(made, shared_data, runs, engine):
    asked = stored(engine, shared_data).atoms
    asked.numbers[0] = 8
    with pytest.raises(EngineError, match="must have one (species|type) of O.*got none"):
        made(engine).calculate(asked, "a/0")
    assert not list(runs.iterdir())  # nothing ran


@ENGINES
def test_templates_without_their_files(tmp_path, engine):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="empty"):
        engine(template=tmp_path / "empty").identity()


@ENGINES
def test_another_template_is_another_engine(made, engine):
    one = made(engine)
    before = one.identity()
    assert one.identity() == before
    assert one.model_copy(update={"time_limit": 60.0}).identity() == before  # others may fail
    file = one.inputs()[0]
    file.write_text(file.read_text() + "\n# more\n")
    assert one.identity() != before


def test_includes_of_a_template(made, tmp_path, shared_data):
    known = stored(Siesta, shared_data)
    engine = made(Siesta)
    fdf = engine.template / "Si_pdos.fdf"
    (engine.template / "more.inc").write_text("Mesh.Cutoff 170.0 Ry\n")
    fdf.write_text("%include more.inc\n" + fdf.read_text())
    engine.calculate(known.atoms, "a/0")
    assert (tmp_path / "seen/stdin").read_text().startswith("Mesh.Cutoff 170.0 Ry\n")
    fdf.write_text(fdf.read_text() + "\n%block PAO.Basis < basis.txt\n")
    with pytest.raises(EngineError, match="put the lines of that file in place"):
        engine.calculate(known.atoms, "a/0")


RIBBON = "abacus/ribbon_spin/000"  # antiparallel moments of two of four carbons, and hydrogen


@pytest.fixture
def ribbon(shared_data, tmp_path):
    """Function (nspin) that makes the engine of a run with nspin 2; and that run."""
    run = shared_data / RIBBON

    def make(nspin: str = "nspin 2") -> Abacus:
        folder = tmp_path / "ribbon"
        folder.mkdir()
        shutil.copyfile(run / "STRU", folder / "STRU")
        shutil.copyfile(run / "KPT", folder / "KPT")
        text = (run / "INPUT").read_text()
        text = text.replace("../../orbitals", str(run.parents[1] / "orbitals"))
        assert "nspin 2" in text
        (folder / "INPUT").write_text(text.replace("nspin 2", nspin))
        words = [sys.executable, STAND_IN, tmp_path / "seen", run]
        return Abacus(template=folder, command=shlex.join(map(str, words)))

    return make, read_sample(run)


def test_initial_moments_are_those_that_abacus_begins_with(ribbon, tmp_path):
    make, known = ribbon
    order = [0, 4, 1, 2, 3, 5]
    asked = known.atoms[order]  # hydrogen among carbon
    assert asked.get_initial_magnetic_moments().tolist() == [1, 0, 0, 0, -1, 0]
    sample = make().calculate(asked, "a/0")
    assert read_stru(tmp_path / "seen/STRU").moments.tolist() == [1, 0, 0, -1, 0, 0]
    assert sample.atoms == asked
    for channel in range(2):
        for atom, of_run in enumerate(order):
            np.testing.assert_allclose(
                sample.hamiltonian.onsite_block(atom, channel),
                known.hamiltonian.onsite_block(of_run, channel),
                rtol=0,
                atol=1e-12,
            )


def test_moments_that_a_structure_lacks_are_the_template_s(ribbon, tmp_path):
    make, known = ribbon
    engine, asked = make(), known.atoms[[0, 4, 1, 2, 3, 5]]
    asked.set_initial_magnetic_moments(None)
    with pytest.raises(EngineError, match=r"of C the moments \[-1.0, 0.0, 1.0\]: structures need"):
        engine.calculate(asked, "a/0")
    stru = engine.template / "STRU"
    head, tail = stru.read_text().split("\nH\n0.0\n")
    stru.write_text(re.sub(r"mag \S+", "mag 0.5", head) + "\nH\n0.0\n" + tail)
    sample = engine.calculate(asked, "a/0")
    assert sample.atoms.get_initial_magnetic_moments().tolist() == [0.5, 0, 0.5, 0.5, 0.5, 0]


def test_orbitals_that_reach_across_the_vacuum(ribbon, monkeypatch):
    make, known = ribbon
    asked = known.atoms.copy()
    asked.pbc = [False, True, True]
    vacuum = (asked.cell[0, 0] - np.ptp(asked.positions[:, 0])) / 2
    monkeypatch.setattr("hotham_ase.dft.rearranged.VACUUM", vacuum)
    message = r"(?s)a block at R = .*pbc is \[False, True, True\].*folder is kept"
    with pytest.raises(EngineError, match=message):
        make().calculate(asked, "a/0")


def test_electrons_of_the_template_s_structure(ribbon):
    make, known = ribbon
    with pytest.raises(EngineError, match="has nelec, the electrons of its own structure"):
        make("nspin 2\nnelec 18").calculate(known.atoms, "a/0")


@ENGINES
def test_moments_that_a_program_is_not_told_of(made, shared_data, runs, engine):
    asked = stored(engine, shared_data).atoms
    asked.set_initial_magnetic_moments([1.0] + [0.0] * (len(asked) - 1))
    with pytest.raises(EngineError, match="initial magnetic moments, which .* remove them"):
        made(engine).calculate(asked, "a/0")
    assert not list(runs.iterdir())


def test_spins_of_the_template_s_atoms(made, shared_data):
    asked = stored(Siesta, shared_data).atoms
    engine = made(Siesta)
    fdf = engine.template / "Si_pdos.fdf"
    text = fdf.read_text()
    fdf.write_text(text + "\nDM.InitSpin.AF true\n")
    engine.calculate(asked, "a/0")
    fdf.write_text(text + "\n%block DM.InitSpin\n 1 +\n%endblock DM.InitSpin\n")
    with pytest.raises(EngineError, match="has DM.InitSpin, which numbers the atoms"):
        engine.calculate(asked, "a/0")
    engine = made(OpenMX)
    edited(engine.template / "graphene.dat", r"2\.0 +2\.0", "2.5 1.5")
    dat = engine.template / "graphene.dat"
    dat.write_text(dat.read_text().replace("2.5 1.5", "1.5 2.5", 1))
    with pytest.raises(EngineError, match=r"all atoms of C, got 1.5 2.5, 2.5 1.5"):
        engine.calculate(stored(OpenMX, shared_data).atoms, "a/0")


def edited(path: Path, pattern: str, replacement: str) -> None:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    text, n = re.subn(pattern, replacement, text)
    assert n
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize(
    ("kind", "file", "pattern", "replacement"),
    [
        (
            Abacus,
            "OUT.ABACUS/running_scf.log.gz",
            "charge density convergence is achieved",
            "convergence has not been achieved",
        ),
        (OpenMX, "graphene.std", r"NormRD = +0\.000000000017", "NormRD = 0.000000100000"),
    ],
)
def test_a_density_that_does_not_converge(
    made, shared_data, tmp_path, kind, file, pattern, replacement
):
    known = made(kind).calculate(stored(kind, shared_data).atoms, "a/0").provenance
    assert known.scf_converged
    run = tmp_path / "stored"
    shutil.copytree(shared_data / RUNS[kind], run)
    edited(run / file, pattern, replacement)
    engine = made(kind)
    command = shlex.join([*shlex.split(engine.command)[:-1], str(run)])
    with pytest.raises(EngineError, match=f"does not converge in {known.scf_steps} steps"):
        engine.model_copy(update={"command": command}).calculate(
            stored(kind, shared_data).atoms, "a/0"
        )
