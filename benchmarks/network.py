"""Whole networks: the published code, ours with the same weights, and our default.

l_max 4, 16 channels, 2 convolutions, 32 radial functions, graphene 3 × 3 rattled, 7.5 Å, float32.

``python -m benchmarks.network [--published-code CHECKOUT] [--published-python PYTHON]``: with a
checkout of the public repository liangzhixin-202169/Hot-Ham and a Python that has what it imports,
both run in turn with the same weights; otherwise the numbers quoted for it are measured elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import graphene
from ase.units import Bohr

from benchmarks._common import THREADS, Row, Timing, hand_over, interleaved, machine, table
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.checkpoints import import_checkpoint
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.nn.architectures import build_network
from hotham_ase.nn.config import ModelConfig, NetworkConfig
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.protocol import Network
from hotham_ase.nn.published.config import PublishedConfig

CUTOFF = 7.5  # Å
SHELLS = (0, 0, 1, 1, 2)
CONVOLUTIONS = 2
LAYERS = [16, 16, 16, 32], [0, 0, 0, 32]  # channels of natural and pseudo parity
SETTINGS = {
    "orbit": {"C": ["2s", "3s", "2p", "3p", "3d"]},
    "cutoff": {"C": CUTOFF / 2 / Bohr},
    "rc": CUTOFF,
    "basis_size": 32,
    "L_max": 4,
    "using_layernorm": True,
    "using_layernorm2": False,
    "restrict_last_out": True,
    "using_rearrangement_linear": True,
    "Ce": LAYERS[0],
    "Co": LAYERS[1],
    "edge_include_sc": True,
    "using_CoordinateTransformation": True,
    "model_type": 0,
    "intdtype": "int64",
    "floatdtype": "float32",
    "complexdtype": "complex64",
    "dft": "abacus",
    "train_target": "hamiltonian",
}
#: Seconds on 2 threads, measured once on a machine like ours; 20-40 s to the first answer.
QUOTED = {"parameters": 1.11e6, "first": 30.0, "forward": 0.46, "both": 0.46 + 0.65}
FIRST_ANSWER = """
import sys, time, ase.io, torch
from hotham_ase.model.model import load_model
from hotham_ase.model.options import PredictionOptions
torch.set_num_threads(int(sys.argv[3]))
atoms = ase.io.read(sys.argv[2])
start = time.perf_counter(); model = load_model(sys.argv[1])
loaded = time.perf_counter(); model.predict(atoms, PredictionOptions("cpu"))
print(loaded - start, time.perf_counter() - loaded)
"""
Times = dict[str, float]


def structure(repeat: int = 3) -> Atoms:
    """Rattled graphene, periodic in all directions."""
    atoms = graphene(size=(repeat, repeat, 1), vacuum=10)
    atoms.pbc = True
    atoms.rattle(0.05, seed=1)
    return atoms


def basis() -> OrbitalBasis:
    """Carbon with 13 orbitals, without radial functions."""
    return OrbitalBasis((SpeciesBasis("C", SHELLS, (CUTOFF / 2,) * len(SHELLS), 4),))


def make_graph(pairs: PairList) -> Graph:
    zero = torch.zeros(pairs.n_atoms, dtype=torch.long)
    return Graph(
        species=zero,
        edge_index=torch.tensor(pairs.edge_index),
        edge_vectors=torch.tensor(pairs.edge_vectors),
        reverse=torch.tensor(pairs.reverse_edge_index),
        structure=zero,
    )


class PublishedCode:
    """The published code in a process of its own, which waits for what to time."""

    def __init__(self, checkout: Path, python: str, folder: Path, pairs: PairList) -> None:
        np.savez(folder / "graph.npz", allow_pickle=False, **with_self_pairs(pairs))
        (folder / "train.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
        script = Path(__file__).with_name("_published.py")
        arguments = [checkout, *(folder / name for name in ("graph.npz", "train.json", "cp1.pth"))]
        self.process = subprocess.Popen(
            [python, str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )
        self.facts = self._read()

    def ask(self, command: str) -> Any:
        """The answer to one command."""
        print(command, file=self.process.stdin, flush=True)
        return self._read()

    def time(self, command: str) -> Timing:
        """What one run of a command takes."""
        return Timing(*self.ask(command))

    def _read(self) -> Any:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit("the published code stopped, see its message above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def with_self_pairs(pairs: PairList) -> dict[str, np.ndarray]:
    """Arrays of the pairs as the published code wants them, atoms paired with themselves last."""
    n, atoms = pairs.n_edges, np.arange(pairs.n_atoms)
    zeros = np.zeros((len(atoms), 3))
    return {
        "species": np.zeros(len(atoms), dtype=int),
        "numbers": pairs.numbers,
        "edge_index": np.concatenate([pairs.edge_index, [atoms, atoms]], axis=1),
        "edge_vectors": np.concatenate([pairs.edge_vectors, zeros]),
        "cell_shifts": np.concatenate([pairs.cell_shifts, zeros.astype(int)]),
        "reverse_edge_index": np.concatenate([pairs.reverse_edge_index, n + atoms]),
    }


def functions(network: Network, graph: Graph) -> dict[str, Callable[[], object]]:
    """What is timed of a network of ours."""
    on_gpu = graph.species.is_cuda
    geometry = network.geometry(graph)

    def finished(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            function()
            if on_gpu:
                torch.cuda.synchronize()

        return run

    def make_geometry() -> None:
        with torch.no_grad():
            network.geometry(graph)

    def forward() -> None:
        with torch.no_grad():
            network(graph, geometry)

    def both() -> None:
        network.zero_grad(set_to_none=True)
        onsite, hopping = network(graph, geometry)
        (onsite.square().sum() + hopping.square().sum()).backward()

    timed = {"geometry": make_geometry, "forward": forward, "both": both}
    return {name: finished(function) for name, function in timed.items()}


def first_answer(model: HamiltonianModel, folder: Path, atoms: Atoms) -> tuple[float, float]:
    """Seconds to load a model, and from there to the first H, in a fresh process."""
    model.save(folder / "model.safetensors")
    atoms.write(folder / "atoms.extxyz")
    files = map(str, [folder / "model.safetensors", folder / "atoms.extxyz", THREADS])
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ANSWER, *files], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    load, first = map(float, done.stdout.split())
    return load, first


def build(config: NetworkConfig) -> HamiltonianModel:
    torch.manual_seed(0)
    network = build_network(config, (SHELLS,), [[CUTOFF]])
    return HamiltonianModel(network, basis(), name="benchmark")


def our_configs() -> tuple[NetworkConfig, NetworkConfig]:
    """Both of our architectures at the sizes of the published one."""
    natural, odd = map(tuple, LAYERS)
    published = PublishedConfig(
        l_max=4, channels=natural, odd_channels=odd, cutoff=CUTOFF, n_radial=32
    )
    return published, ModelConfig(l_max=4, channels=16, convolutions=("gaunt",) * CONVOLUTIONS)


def measure(theirs: PublishedCode | None, folder: Path, repeats: int) -> dict[str, Times]:
    """Times and sizes of all networks."""
    atoms = structure()
    pairs = PairList.from_atoms(atoms, CUTOFF)
    graph = make_graph(pairs)
    published, default = (build(config) for config in our_configs())
    if theirs is not None:
        published = import_checkpoint(folder / "cp1.pth", folder / "train.json")
    models = {"ours, published architecture": published, "ours, default": default}
    results: dict[str, Times] = {}
    timed: dict[str, Callable[[], object]] = {}
    if theirs is not None:
        for part in ("geometry", "forward", "both"):
            timed[f"published code/{part}"] = partial(theirs.time, part)
        facts = theirs.facts
        results["published code"] = {
            "parameters": facts["parameters"],
            "load": facts["built"],
            "first": facts["first answer"] - facts["built"],
        }
        print(
            f"published code, torch {facts['torch']}:", difference(theirs, published, graph, folder)
        )
    for name, model in models.items():
        load, first = first_answer(model, folder, atoms)
        n_parameters = sum(p.numel() for p in model.network.parameters())
        results[name] = {"parameters": n_parameters, "load": load, "first": first}
        network = model.network.requires_grad_(True)
        timed |= {f"{name}/{part}": f for part, f in functions(network, graph).items()}
    for key, timing in interleaved(timed, repeats, seconds=120).items():
        name, _, part = key.partition("/")
        results[name] |= {part: timing.processor, f"{part} on the wall": timing.wall}
    return results


def difference(theirs: PublishedCode, ours: HamiltonianModel, graph: Graph, folder: Path) -> str:
    """How far the blocks of the two are apart, with the same weights."""
    theirs.ask(f"blocks {folder / 'blocks.npz'}")
    blocks = np.load(folder / "blocks.npz")
    expected = np.stack([blocks[name] for name in blocks.files])
    network = ours.network
    with torch.no_grad():
        onsite, hopping = network(graph, network.geometry(graph))
    order = network.orbitals[0]
    found = torch.cat([hopping, onsite])[:, order[:, None], order].numpy()
    relative = np.abs(found - expected).max() / np.abs(expected).max()
    return f"same weights, blocks differ by {relative:.1e} of the largest element"


def quoted() -> Times:
    """The published code's numbers where it is not at hand."""
    return {**QUOTED, **dict.fromkeys(["load", "geometry", "forward on the wall"], float("nan"))}


def report(results: dict[str, Times], quoted_numbers: bool) -> list[Row]:
    """Print the table; return what goes into the table of all ratios."""
    theirs = results["published code"]
    lines = []
    for name, t in results.items():
        shown = [t["load"], t["first"]]
        shown += [1e3 * t[part] for part in ("geometry", "forward", "both")]
        shown += [1e3 * (t["geometry"] + t["forward"]), 1e3 * (t["both"] - t["forward"])]
        shown += [theirs["forward"] / t["forward"], theirs["both"] / t["both"]]
        shown += [1e3 * t["forward on the wall"]]
        label = f"{name} (quoted)" if quoted_numbers and t is theirs else name
        lines.append([label, f"{t['parameters']:,.0f}", *shown])
    headers = "network,parameters,load s,first answer s,geometry ms,forward ms,fwd+bwd ms"
    headers += ",geometry+fwd ms,backward ms,ratio fwd,ratio fwd+bwd,wall fwd ms"
    print(table(headers.split(","), lines))
    note = ", quoted" if quoted_numbers else ""
    rows = []
    for name, targets in (
        ("ours, published architecture", ("≥ 4", "≥ 4")),
        ("ours, default", ("≥ 20", "≥ 12")),
    ):
        t = results[name]
        for part, label, target in zip(
            ("forward", "both"), ("forward", "forward+backward"), targets, strict=True
        ):
            rows.append(
                Row(
                    f"{name}: {label} (against published code{note})",
                    1e3 * t[part],
                    1e3 * theirs[part],
                    "ms",
                    theirs[part] / t[part],
                    target,
                )
            )
        begin = sum(theirs[part] for part in ("load", "first") if np.isfinite(theirs[part]))
        rows.append(Row(f"{name}: first answer after loading", t["first"], begin, "s", None, "≤ 1"))
    return rows


def on_gpu(repeats: int) -> list[Row]:
    """Pairs per second of both architectures on a GPU, and the ratio to the CPU."""
    graph = make_graph(PairList.from_atoms(structure(12), CUTOFF))
    rows, lines = [], []
    for name, config in zip(("published architecture", "default"), our_configs(), strict=True):
        seconds = {}
        for device in ("cpu", "cuda"):
            network = build(config).network.to(device).requires_grad_(True)
            timed = functions(network, graph.to(device))
            seconds[device] = interleaved(timed, repeats if device == "cuda" else 3)
        for part in ("geometry", "forward", "both"):
            cpu, gpu = (seconds[device][part].wall for device in ("cpu", "cuda"))
            lines.append([name, part, graph.n_edges, 1e3 * cpu, 1e3 * gpu, graph.n_edges / gpu])
            quantity = f"GPU against CPU: {name}, {part}"
            rows.append(Row(quantity, 1e3 * gpu, 1e3 * cpu, "ms", cpu / gpu))
    print(f"\nGPU: {torch.cuda.get_device_name()}, float32, TF32 off")
    print(table(["network", "part", "pairs", "CPU ms", "GPU ms", "pairs/s on the GPU"], lines))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--published-code", type=Path, help="checkout of the published code")
    parser.add_argument("--published-python", default=sys.executable, help="Python to run it with")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    print(machine())
    pairs = PairList.from_atoms(structure(), CUTOFF)
    print(f"{pairs.n_atoms} atoms, {pairs.n_edges} directed pairs, float32, l_max 4, 16 channels")
    with tempfile.TemporaryDirectory() as name:
        folder, theirs = Path(name), None
        if options.published_code:
            code = options.published_code.resolve()
            theirs = PublishedCode(code, options.published_python, folder, pairs)
        try:
            results = measure(theirs, folder, options.repeats)
        finally:
            if theirs is not None:
                theirs.close()
    if theirs is None:
        results = {"published code": quoted(), **results}
    rows = report(results, theirs is None)
    if torch.cuda.is_available():
        rows += on_gpu(options.repeats)
    else:
        print("no GPU was at hand")
    hand_over(rows)


if __name__ == "__main__":
    main()
