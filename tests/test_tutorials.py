"""The tutorials run as they are."""

import runpy
from pathlib import Path

import pytest

from hotham_ase.model.bundled import bundled_models

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))
SAID = {
    "07_your_dft_code": ("eigenvalues of the run: compared", "direct gap at [0.3333 0.3333 0.    ]")
}


def test_there_are_tutorials():
    assert [path.name[:2] for path in TUTORIALS] == [f"{number:02}" for number in range(1, 8)]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial(path, tmp_path, monkeypatch, capsys):
    if path.stem == "04_spin_orbit" and "mos2" not in bundled_models():
        pytest.skip("needs the bundled model mos2")
    if path.stem == "06_from_nothing":
        pytest.importorskip("pyscf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert [text for text in SAID.get(path.stem, ()) if text not in out] == []
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 1
    assert pictures[0].stat().st_size > 10_000
