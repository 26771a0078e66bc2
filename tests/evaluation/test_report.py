"""The page says what was measured, and needs nothing but itself."""

import base64
import json
import re
import sys

import numpy as np
import pytest
import torch
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.cli import main
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.evaluation.evaluate import evaluate
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.model import HotHam
from hotham_ase.overlap import kinetic_matrix, overlap_matrix


def small_basis():
    grid = np.linspace(0, 2.5, 251)
    end = np.cos(np.pi * grid / 5.0) ** 4
    radial = np.stack([np.exp(-1.2 * grid**2) * end, grid * np.exp(-1.0 * grid**2) * end])
    norm = np.sqrt((radial**2 * grid**2).sum(axis=1) * grid[1])
    return OrbitalBasis((SpeciesBasis("C", (0, 1), (2.5, 2.5), 4, grid, radial / norm[:, None]),))


@pytest.fixture(scope="module")
def model():
    """Random weights: any errors will do."""
    torch.manual_seed(2)
    basis = small_basis()
    config = ModelConfig(
        l_max=2, channels=2, convolutions=("gaunt",), n_radial=4, hidden=8, message_cutoff=3.0
    )
    network = HotHam(config, [s.shells for s in basis.species], cutoffs(basis))
    provenance = {
        "data": {"structures": {"set/0": "0", "set/1": "1"}},
        "split": {"train": ["set/0"], "test": ["set/1"]},
        "run": {
            "curve": {"epoch": [0, 1], "train_mae_meV": [9.0, None], "val_mae_meV": [8.0, 7.0]}
        },
        "settings": {"training": {"loss": {"energy_zero": "none"}}},
    }
    network.eval().requires_grad_(False)
    return HamiltonianModel(network, basis, "tiny <&>", provenance)


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """Three chains and a molecule; each is H = T − 20 eV S."""
    basis, path = small_basis(), tmp_path_factory.mktemp("data") / "refs.h5"
    with DatasetWriter(path) as writer:
        for k in range(4):
            atoms = Atoms("C2", [(0, 0, 0), (0.1 * k, 0, 1.3)], cell=(8, 8, 2.7), pbc=(0, 0, k < 3))
            overlap = overlap_matrix(atoms, basis)
            h = kinetic_matrix(atoms, basis) - 20.0 * overlap
            name = f"set/<{k}>" if k < 3 else "molecules/<3>"
            writer.add(Sample(atoms, basis, h, overlap, None, 8.0, Provenance(name, "test")))
    return path


@pytest.fixture(scope="module")
def page(model, data_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    errors = evaluate(model, data_file, device="cpu", report=path).to_dict()
    return path.read_text(encoding="utf-8"), errors


def rows_of(text, heading):
    """Cells of the first table after a heading."""
    table = text[text.index(heading) :]
    table = table[: table.index("</table>")]
    return [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")][1:]


def test_the_page_needs_nothing_else(page):
    text = page[0]
    assert text.startswith("<!DOCTYPE html>")
    assert text.rstrip().endswith("</html>")
    for forbidden in ("http", "//", "<script", "<link", "@import", "url("):
        body = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        assert forbidden not in body
    sources = re.findall(r'<img src="([^"]+)"', text)
    assert len(sources) == len(re.findall("<figure>", text))
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(data).decode()
        for link in re.findall(r'href="([^"]*)"', svg):
            assert link.startswith(("#", "data:image/png;base64,"))
        assert "font-family" not in svg  # text is shapes


def test_the_page_says_what_was_measured(page):
    text, errors = page
    shown = rows_of(text, "<h2>Structures</h2>")[1:]
    assert len(shown) == errors["n_structures"] == 4
    sizes = [row["mae_meV"] for row in errors["structures"]]
    assert {row[1] for row in shown} == {"unknown"}
    assert [float(row[2]) for row in shown] == pytest.approx(sorted(sizes)[::-1], rel=6e-3)
    names = [row["name"] for row in errors["structures"]]
    worst = names[int(np.argmax(sizes))].replace("<", "&lt;").replace(">", "&gt;")
    assert shown[0][0] == worst
    means = rows_of(text, "<h2>Means over structures</h2>")[1:]
    assert [row[0] for row in means] == ["unseen", "part: unknown", "set", "molecules"]
    assert [row[1] for row in means] == ["4", "4", "3", "1"]
    assert "of 4 structures that the model has not seen" in text
    assert float(means[0][2]) == pytest.approx(errors["mae_meV"], rel=6e-3)
    assert "Energies are compared as they are" in text  # as the model was trained


def test_the_page_names_model_and_data(page, model, data_file):
    text = page[0]
    from hotham_ase.dataset import Dataset

    with Dataset(data_file) as data:
        assert data.fingerprint in text
    assert "tiny &lt;&amp;&gt; on refs.h5" in text
    assert "<&>" not in text
    assert "set/1" in text
    assert "radial functions" in text


def test_pictures_are_of_what_there_is(page):
    """Bands of a chain; a molecule has none."""
    text, errors = page
    sizes = [row["mae_meV"] for row in errors["structures"]]
    order = np.argsort(sizes)[::-1]
    shown = {errors["structures"][k]["name"] for k in (order[0], order[2])}
    n_bands = sum(not name.startswith("molecules") for name in shown)
    assert text.count("error of H.</figcaption>") == n_bands
    assert text.count("<figure>") == 5 + n_bands
    assert "epoch by epoch" in text


def test_details_add_up(page):
    errors = page[1]
    hopping = next(r for r in errors["by_species"] if r["blocks"] == "hopping")
    total = sum(r["n"] * r["mae_meV"] for r in errors["by_distance"])
    assert total / hopping["n"] == pytest.approx(hopping["mae_meV"])
    assert sum(r["n"] for r in errors["by_distance"]) == hopping["n"]
    json.dumps(errors)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["hotham", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_command_writes_it(model, data_file, tmp_path, monkeypatch, capsys):
    file, page = tmp_path / "m.safetensors", tmp_path / "r.html"
    model.save(file)
    command = ("evaluate", file, data_file, "-o", page, "--energy-zero", "fit")
    code, out, _ = run(monkeypatch, capsys, *command, "--json", tmp_path / "e.json")
    assert code == 0
    assert f"wrote {page}" in out
    assert "by_species" in out
    errors = json.loads((tmp_path / "e.json").read_text())
    assert errors["energy_zero"] == "fit"
    assert {"by_shell", "by_distance"} <= set(errors)
    assert page.read_text(encoding="utf-8").count("<figure>") >= 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.json", "m.safetensors", "r.html"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "report.pdf"), "must end in .html"),
        (("-o", "nowhere/r.html"), "does not exist"),
        (("--energy-zero", "vacuum"), "energy_zero must be none, fermi or fit"),
    ],
)
def test_mistakes_are_named(data_file, monkeypatch, capsys, options, message):
    code, _, err = run(monkeypatch, capsys, "evaluate", "carbon", data_file, *options)
    assert code == 2
    assert message in err


def test_a_page_is_whole_or_not_there(model, data_file, tmp_path, monkeypatch):
    from hotham_ase.evaluation import report

    def broken(*_):
        raise RuntimeError("no paper")

    monkeypatch.setattr(report, "plot_shells", broken)
    with pytest.raises(RuntimeError, match="no paper"):
        evaluate(model, data_file, device="cpu", report=tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
