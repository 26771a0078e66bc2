"""The script in docs/data.md that makes DeepH folders of HamGNN's graphs, on stand-ins of these."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.units import Bohr, Hartree
from scipy.linalg import eigvalsh

from hotham_ase.dft import Sample, read_sample

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
# places of our orbitals in OpenMX's shells: x, y, z; z², x²-y², xy, xz, yz; m = 0, 1, -1, …
SHELL = {0: [0], 1: [2, 0, 1], 2: [2, 4, 0, 3, 1], 3: [3, 4, 2, 5, 1, 6, 0]}


def graph_of(sample: Sample, n: int, shells: tuple[int, ...]) -> SimpleNamespace:
    """What HamGNN's ``graph_data_gen`` keeps of a run: blocks in an array of n x n, in Hartree."""
    padded, places = {}, {}
    for species in sample.basis.species:
        ours = np.cumsum([0, *(2 * l + 1 for l in species.shells)])
        order = [ours[k] + place for k, l in enumerate(species.shells) for place in SHELL[l]]
        begins, at, taken = np.cumsum([0, *(2 * l + 1 for l in shells)]), 0, []
        for k, l in enumerate(shells):
            if at < len(species.shells) and species.shells[at] == l:
                taken += range(begins[k], begins[k] + 2 * l + 1)
                at += 1
        places[species.symbol] = (order, taken)
    symbols, pairs = list(sample.atoms.symbols), sample.hamiltonian.pairs
    i, j = pairs.edge_index
    for key, matrix, unit in (("H", sample.hamiltonian, Hartree), ("S", sample.overlap, 1.0)):
        matrix = matrix.on_pairs(pairs)
        blocks = [(a, a, matrix.onsite_block(a)) for a in range(len(symbols))]
        blocks += [
            (a, b, matrix.hopping_block(e)) for e, (a, b) in enumerate(zip(i, j, strict=True))
        ]
        rows = np.zeros((len(blocks), n, n), np.float32)
        for row, (a, b, block) in zip(rows, blocks, strict=True):
            (mine, at), (other, to) = places[symbols[a]], places[symbols[b]]
            row[np.ix_(at, to)] = block[np.ix_(mine, other)] / unit
        flat = torch.from_numpy(rows.reshape(len(blocks), -1))
        padded[f"{key}on"], padded[f"{key}off"] = flat[: len(symbols)], flat[len(symbols) :]
    return SimpleNamespace(
        z=torch.tensor(sample.atoms.numbers),
        cell=torch.tensor(sample.atoms.cell[:][None] / Bohr, dtype=torch.float32),
        pos=torch.tensor(sample.atoms.positions / Bohr, dtype=torch.float32),
        edge_index=torch.tensor(np.array(pairs.edge_index)),
        cell_shift=torch.tensor(np.array(pairs.cell_shifts)),
        **padded,
    )


def run_script(monkeypatch, *arguments: Path) -> None:
    (script,) = re.findall(r"^```py\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S)
    monkeypatch.setattr(sys, "argv", ["hamgnn_to_deeph.py", *map(str, arguments)])
    exec(compile(script, "hamgnn_to_deeph.py", "exec"), {})


@pytest.mark.parametrize(
    ("run", "n", "shells"),
    [("graphene", 14, (0, 0, 0, 1, 1, 2)), ("mos2", 26, (0, 0, 0, 1, 1, 2, 2, 3))],
)
def test_graphs_of_real_runs(
    shared_data: Path, tmp_path: Path, monkeypatch, run: str, n: int, shells: tuple[int, ...]
):
    """Levels are those of the run, as far as single precision has them."""
    sample = read_sample(shared_data / "openmx" / run)
    graphs = {0: graph_of(sample, n, shells), 1: graph_of(sample, n, shells)}
    np.savez(tmp_path / "graph_data.npz", graph=np.array(graphs, dtype=object))
    run_script(monkeypatch, tmp_path / "graph_data.npz", tmp_path / "graphs")
    n_valence = {s.symbol: s.n_valence for s in sample.basis.species}
    found = read_sample(tmp_path / "graphs" / "1", n_valence=n_valence)
    np.testing.assert_allclose(found.atoms.positions, sample.atoms.positions, atol=1e-5)
    for kpt in ((0.1, 0.2, 0.3), (0.0, 0.0, 0.0)):
        mine, theirs = (
            eigvalsh(*(m.at_k(kpt, format="dense") for m in (one.hamiltonian, one.overlap)))
            for one in (found, sample)
        )
        # the uppermost levels are of combinations whose norm S hardly has
        low = theirs < 50
        np.testing.assert_allclose(mine[low], theirs[low], rtol=0, atol=1e-4)


def test_graphs_with_spin_are_refused(tmp_path: Path, monkeypatch):
    graph = SimpleNamespace(Hon=torch.zeros(1, 196), iHon=torch.zeros(1, 196))
    np.savez(tmp_path / "graph_data.npz", graph=np.array({0: graph}, dtype=object))
    with pytest.raises(SystemExit, match="has spin"):
        run_script(monkeypatch, tmp_path / "graph_data.npz", tmp_path / "graphs")
