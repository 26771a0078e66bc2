from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample
from hotham_ase.dft.deeph import write_deeph
from tests.dft.upf_files import Content, version_2

ELECTRONS = {"B": 3.0, "Mo": 14.0}


def write_files(folder: Path, symbols: str = "B Mo", **changes) -> Path:
    folder.mkdir(exist_ok=True)
    for symbol in symbols.split():
        content = Content(**{"element": symbol, "n_valence": ELECTRONS[symbol], **changes})
        (folder / f"{symbol}.upf").write_text(version_2(content))
    return folder


@pytest.fixture
def run(tmp_path: Path, write_abacus) -> Path:
    return write_abacus(tmp_path / "set" / "run")


def test_absent_files_are_no_fault(run: Path):
    basis = read_sample(run).basis
    assert not basis.has_potentials
    assert basis["B"].potential is None


def test_files_beside_the_orbitals(run: Path):
    write_files(run / "orb")
    basis = read_sample(run).basis
    assert basis.has_potentials
    assert basis.is_relativistic
    assert basis["Mo"].potential.n_valence == 14
    assert basis["Mo"].potential.source.startswith("Mo.upf")


@pytest.mark.parametrize("kind", ["relative", "absolute", "above"])
def test_places(run: Path, kind: str):
    place = write_files(run.parent / ("orbitals" if kind == "above" else "pp"))
    text = {"relative": "pseudo_dir ../pp", "absolute": f"pseudo_dir {place}", "above": ""}[kind]
    (run / "INPUT").write_text((run / "INPUT").read_text() + text + "\n")
    assert read_sample(run).basis.has_potentials


def test_place_of_input_comes_first(run: Path):
    write_files(run / "orb")
    write_files(run.parent / "pp", momenta=None)
    (run / "INPUT").write_text((run / "INPUT").read_text() + "pseudo_dir ../pp\n")
    assert not read_sample(run).basis.is_relativistic


def test_some_of_the_files(run: Path):
    write_files(run / "orb", "Mo")
    basis = read_sample(run).basis
    assert basis["Mo"].potential is not None
    assert basis["B"].potential is None


def test_folder_that_is_given(run: Path, tmp_path: Path):
    write_files(run / "orb")
    given = write_files(tmp_path / "given", momenta=None)
    assert not read_sample(run, pseudopotentials=given).basis.is_relativistic
    (given / "B.upf").unlink()
    with pytest.raises(DFTReadError, match=r"pseudopotential B.upf of B is not in .*given"):
        read_sample(run, pseudopotentials=given)


@pytest.mark.parametrize("kind", ["US", "PAW"])
def test_what_cannot_be_used_is_left_out_with_a_warning(run: Path, kind: str):
    write_files(run / "orb", "Mo")
    write_files(run / "orb", "B", kind=kind)
    with pytest.warns(UserWarning, match=r"no pseudopotential of B: .*B.upf is .*only norm-cons"):
        basis = read_sample(run).basis
    assert basis["B"].potential is None
    assert basis["Mo"].potential is not None
    with pytest.raises(UnsupportedRunError, match=r"B.upf is .*, only norm-conserving"):
        read_sample(run, pseudopotentials=run / "orb")


def test_file_of_another_element(run: Path):
    write_files(run / "orb")
    (run / "orb" / "B.upf").write_bytes((run / "orb" / "Mo.upf").read_bytes())
    with pytest.warns(UserWarning, match=r"B.upf is for Mo, not for B"):
        assert read_sample(run).basis["B"].potential is None


def test_electrons_of_another_potential(run: Path):
    write_files(run / "orb", "Mo", n_valence=6.0)
    with pytest.raises(DFTReadError, match=r"Mo with 14 valence electrons, but .* has 6"):
        read_sample(run)


def test_types_of_one_element(run: Path, tmp_path: Path):
    """Two types of boron with the same orbitals: the same potential, or none."""
    stru = (run / "STRU").read_text()
    lines = stru.splitlines()
    lines[1:2] = ["B1 10.81 B.upf", "B2 10.81 B_other.upf"]
    at = lines.index("B.orb")
    lines.insert(at, "B.orb")
    at = lines.index("B")
    lines[at : at + 5] = ["B1", "0.0", "1", lines[at + 3], "B2", "0.0", "1", lines[at + 4]]
    (run / "STRU").write_text("\n".join(lines) + "\n")
    log = run / "OUT.test" / "running_scf.log"
    of_b = "electron number of element B = "
    text = log.read_text().replace(
        f" {of_b}3\n", f" {of_b.replace('B', 'B1')}3\n {of_b.replace('B', 'B2')}3\n"
    )
    log.write_text(text)
    write_files(run / "orb")
    os.link(run / "orb" / "B.upf", run / "orb" / "B_other.upf")
    assert read_sample(run).basis.has_potentials
    (run / "orb" / "B_other.upf").unlink()
    assert read_sample(run).basis["B"].potential is None  # one of them is not known
    other = Content(element="B", n_valence=3.0, momenta=None)
    (run / "orb" / "B_other.upf").write_text(version_2(other))
    with pytest.warns(UserWarning, match="atoms of B have different pseudopotentials"):
        assert read_sample(run).basis["B"].potential is None


def test_names_that_no_file_has(run: Path):
    stru = (run / "STRU").read_text()
    (run / "STRU").write_text(stru.replace("B.upf", "B" * 5000))
    assert read_sample(run).basis["B"].potential is None


def test_formats_without_them(tmp_path: Path, sample: Sample):
    folder = tmp_path / "deeph"
    write_deeph(sample, folder)
    assert read_sample(folder).basis["B"].potential is None
    with pytest.raises(DFTReadError, match="DeepH do not say which pseudopotentials"):
        read_sample(folder, pseudopotentials=tmp_path)


def test_initial_run_without_them(run: Path, write_abacus):
    """The orbitals must be the same, the potentials are those of the run."""
    write_files(run / "orb")
    write_abacus(run / "initial")
    sample = read_sample(run)
    assert sample.initial_hamiltonian is not None
    assert sample.basis.has_potentials


def test_runs_of_the_shared_sets(shared_data: Path):
    sample = read_sample(shared_data / "abacus" / "mos2" / "000", verify=False)
    assert sample.basis.has_potentials
    assert sample.basis.is_relativistic
