"""Time and peak memory of H and S against the number of atoms, in twisted bilayer graphene.

``python -m benchmarks.scaling [--quick] [--memory 8GiB]``; the bundled model ``carbon``, float32,
each size in a process of its own. With ``--quick`` 20 000 atoms are left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks._common import THREADS, Row, exponent, hand_over, machine, table
from hotham_ase.model.model import load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.overlap import overlap_matrix
from hotham_ase.structures import twisted_bilayer_graphene

CELLS = ((1, 3), (3, 5), (7, 9), (16, 17), (39, 43))  # 52, 196, 772, 3268, 20188 atoms
QUICK_UP_TO = 4
PROFILED = (16, 17)
OPERATORS = 12
REPEATS = 10
PATIENCE = 20.0  # s after which no further run begins
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measurement:
    """One structure; seconds, and GiB the whole process has held at most."""

    atoms: int
    pairs: int
    repeats: int
    hamiltonian: float
    overlap: float
    peak_before: float
    peak_hamiltonian: float
    peak: float


def measure(m: int, n: int, memory: str) -> Measurement:
    """To be called once in a process, since peaks never come down."""
    torch.set_num_threads(THREADS)
    model = load_model("carbon")
    atoms = twisted_bilayer_graphene(m, n)
    small = twisted_bilayer_graphene(1, 2)
    model.predict(small, PredictionOptions(device="cpu", memory=memory))
    overlap_matrix(small, model.basis)
    before = peak_memory()
    hamiltonian, of_h, repeats = timed(
        lambda: model.predict(atoms, PredictionOptions(device="cpu", memory=memory))
    )
    peak_hamiltonian = peak_memory()
    overlap, of_s, _ = timed(lambda: overlap_matrix(atoms, model.basis))
    if overlap.pairs.n_atoms != hamiltonian.pairs.n_atoms:  # keeps both alive until here
        raise RuntimeError("H and S are of different structures")
    return Measurement(
        len(atoms), hamiltonian.pairs.n_edges, repeats, of_h, of_s, before, peak_hamiltonian,
        peak_memory(),
    )  # fmt: skip


def timed(function: Callable[[], Result]) -> tuple[Result, float, int]:
    """The last result, the least processor time in seconds and the number of runs.

    It holds one result at a time.
    """
    seconds: list[float] = []
    while True:
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
        if len(seconds) == REPEATS or sum(seconds) > PATIENCE:
            return result, min(seconds), len(seconds)
        del result


def peak_memory() -> float:
    """GiB of this process alone; ``ru_maxrss`` would count what its parent held before exec."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_a_process(cell: tuple[int, int], memory: str) -> Measurement:
    """:func:`measure` of one structure."""
    call = [sys.executable, "-m", "benchmarks.scaling", "--memory", memory, "--only"]
    done = subprocess.run([*call, *map(str, cell)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Measurement(**json.loads(done.stdout))


def operators(cell: tuple[int, int], memory: str) -> str:
    """Where one prediction spends its time, by torch's operators."""
    model, atoms = load_model("carbon"), twisted_bilayer_graphene(*cell)
    model.predict(twisted_bilayer_graphene(1, 2), PredictionOptions(device="cpu", memory=memory))
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.predict(atoms, PredictionOptions(device="cpu", memory=memory))
    wall = time.perf_counter() - start
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    own = sum(e.self_cpu_time_total for e in events)
    rows = [
        [e.key, e.count, e.self_cpu_time_total / 1e3, f"{e.self_cpu_time_total / own:.0%}"]
        for e in events[:OPERATORS]
    ]
    title = f"Operators of one prediction of H, {len(atoms)} atoms, {wall:.1f} s under the profiler"
    return f"{title}; {own / 1e6:.1f} s in operators\n" + table(
        ["operator", "calls", "own ms", "share"], rows
    )


def report(measurements: list[Measurement], memory: str) -> list[Row]:
    """Print the table; return what goes into the table of all ratios."""
    headers = ["atoms", "pairs", "repeats", "H s", "S s", "H µs/pair"]
    headers += ["GiB at start", "peak of H GiB", "peak of H and S GiB"]
    lines = [
        [
            m.atoms, m.pairs, m.repeats, m.hamiltonian, m.overlap, 1e6 * m.hamiltonian / m.pairs,
            m.peak_before, m.peak_hamiltonian, m.peak,
        ]
        for m in measurements
    ]  # fmt: skip
    print(table(headers, lines))
    sizes = [m.atoms for m in measurements]
    span = f"{sizes[0]} to {sizes[-1]} atoms"
    of_h = exponent(sizes, [m.hamiltonian for m in measurements])
    of_s = exponent(sizes, [m.overlap for m in measurements])
    last = measurements[-1]
    note = f"{last.atoms} atoms, memory={memory}"
    return [
        Row(f"exponent of the time of H in atoms, {span}", of_h, target="≤ 1.05"),
        Row(f"exponent of the time of S in atoms, {span}", of_s, target="≤ 1.05"),
        Row(f"H, {note}", last.hamiltonian, unit="s"),
        Row(f"S, {note}", last.overlap, unit="s"),
        Row(f"peak memory of H, {note}", last.peak_hamiltonian, unit="GiB", target="≤ 8"),
        Row(f"peak memory of H and S, {note}", last.peak, unit="GiB", target="≤ 24"),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="without 20 000 atoms")
    parser.add_argument("--memory", default="8GiB")
    parser.add_argument("--only", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    if options.only:
        m, n = options.only
        print(json.dumps(asdict(measure(m, n, options.memory))))
        return
    print(machine())
    print(f"carbon model, float32, memory={options.memory}, twisted bilayer graphene")
    cells = CELLS[:QUICK_UP_TO] if options.quick else CELLS
    measurements = [in_a_process(cell, options.memory) for cell in cells]
    rows = report(measurements, options.memory)
    print("\n" + operators(PROFILED, options.memory))
    hand_over(rows)


if __name__ == "__main__":
    main()
