"""One convolution per pair, against e3nn's full tensor product and fairchem's eSCN convolution.

Equal l_max and channels everywhere, float32. ``python -m benchmarks.convolution``; for the real
eSCN code put ``pip install --no-deps --target FOLDER fairchem-core`` on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from e3nn import o3
from torch import nn

from benchmarks._common import (
    THREADS,
    Row,
    exponent,
    hand_over,
    interleaved,
    machine,
    table,
)
from hotham_ase.nn.interaction import EdgeConvolution
from hotham_ase.nn.orders import Orders
from hotham_ase.nn.rotation import EdgeFrames

CHANNELS = 16
PAIRS = 1000
FULL_PRODUCT_DEGREES = (2, 4, 6, 8)
OUR_DEGREES = (4, 6, 8, 10, 12)
MEMORY_LIMIT = 8.0  # GiB, of e3nn's product
TIME_LIMIT = 240  # s, for e3nn to build and run once at one l_max


def vectors(n: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def our_convolutions(l_max: int, n: int) -> dict[str, Callable[[], object]]:
    """Both kinds, in the edge frame and with the rotations in and out."""
    frames = EdgeFrames.from_vectors(vectors(n), l_max, (), torch.float32)
    x = torch.randn(n, (l_max + 1) ** 2, CHANNELS)
    orders = frames.to_edge(x)
    filter = torch.randn(n, l_max + 1, CHANNELS)
    timed: dict[str, Callable[[], object]] = {}
    for kind in ("so2", "gaunt"):
        convolution = EdgeConvolution(kind, l_max, CHANNELS).requires_grad_(False)

        def bare(convolution: nn.Module = convolution) -> Orders:
            return convolution(orders, filter)

        def rotated(convolution: nn.Module = convolution) -> torch.Tensor:
            return frames.to_global(convolution(frames.to_edge(x), filter))

        timed |= {kind: bare, f"{kind} + rotations": rotated}
    return timed


class FullProduct:
    """e3nn's product with the harmonics of the edge, its weights shared by all pairs.

    That is the form in which e3nn needs least memory and time: weights for each pair would be
    ``channels² × paths`` numbers for each of them. Its harmonics are computed beforehand.
    """

    def __init__(self, l_max: int) -> None:
        irreps = o3.Irreps([(CHANNELS, (l, (-1) ** l)) for l in range(l_max + 1)])
        harmonics = o3.Irreps.spherical_harmonics(l_max)
        self.l_max = l_max
        self.product = o3.FullyConnectedTensorProduct(irreps, harmonics, irreps)
        self.product.requires_grad_(False)

    def prepare(self, n: int) -> Callable[[], object]:
        """The product of n pairs, ready to be called."""
        y = o3.spherical_harmonics(list(range(self.l_max + 1)), vectors(n), normalize=True).float()
        x = torch.randn(n, CHANNELS * (self.l_max + 1) ** 2)
        return lambda: self.product(x, y)


def full_product_memory(l_max: int, n: int) -> float:
    """GiB of e3nn's outer products of the largest pair of degrees and of all its coefficients."""
    outer = n * CHANNELS * (2 * l_max + 1) ** 2
    coefficients = sum(
        (2 * a + 1) * (2 * b + 1) * (2 * c + 1)
        for a in range(l_max + 1)
        for b in range(l_max + 1)
        for c in range(abs(a - b), min(a + b, l_max) + 1, 2)
    )
    return 4 * (3 * outer + coefficients) / 2**30


def full_product_alone(l_max: int, n: int) -> None:
    """In a process of its own, which may die: build e3nn's product and run it once."""
    torch.set_num_threads(THREADS)
    with torch.no_grad():
        FullProduct(l_max).prepare(n)()


def fits(l_max: int, n: int) -> str:
    """Empty if e3nn's product can be built and run here, else what it would need."""
    needed = full_product_memory(l_max, n)
    if needed > MEMORY_LIMIT:
        return f"needs {needed:.0f} GiB"
    call = [sys.executable, "-m", "benchmarks.convolution", "--only", str(l_max), str(n)]
    try:
        done = subprocess.run(call, timeout=TIME_LIMIT, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return f"over {TIME_LIMIT} s to build and run"
    return "" if done.returncode == 0 else f"failed: {done.stderr.strip().splitlines()[-1]}"


class ReimplementedESCN(nn.Module):
    """The SO(2) convolution of eSCN after its published formula, where fairchem-core is not there.

    For each m one linear map of all degrees to twice the outputs; real and imaginary parts
    combine as a complex product. Passaro and Zitnick, ICML 2023, eqs. 9-12.
    """

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.sizes = [(l_max + 1 - m) * channels for m in range(l_max + 1)]
        self.first = nn.Linear(self.sizes[0], self.sizes[0])
        self.rest = nn.ModuleList(nn.Linear(s, 2 * s, bias=False) for s in self.sizes[1:])
        self.signs = [l_max + 1 - m for m in range(l_max + 1) for _ in range(2 if m else 1)]

    def forward(self, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """(n, (l_max+1)², channels), ordered by m, and a factor for each degree of each m."""
        n, _, channels = x.shape
        splits = [self.signs[0], *[2 * n_l for n_l in self.signs[1::2]]]
        parts = x.split(splits, dim=1)
        scales = factors.split(self.sizes, dim=1)
        out = [self.first(parts[0].flatten(1) * scales[0]).view(n, -1, channels)]
        for part, scale, linear in zip(parts[1:], scales[1:], self.rest, strict=True):
            y = linear(part.reshape(n, 2, -1) * scale[:, None])
            real, imaginary = y.chunk(2, dim=-1)
            out.append((real[:, 0] - imaginary[:, 1]).view(n, -1, channels))
            out.append((real[:, 1] + imaginary[:, 0]).view(n, -1, channels))
        return torch.cat(out, dim=1)


def escn_source() -> str:
    """Which eSCN code is measured."""
    if importlib.util.find_spec("fairchem") is None:
        return "reimplementation of eSCN's published formula (fairchem-core is not installed)"
    return f"fairchem-core {version('fairchem-core')}"


def escn(l_max: int, n: int) -> dict[str, Callable[[], object]]:
    """The eSCN convolution with a factor for each degree, order and channel, as ours has."""
    x = torch.randn(n, (l_max + 1) ** 2, CHANNELS)
    factors = torch.randn(n, sum(l_max + 1 - m for m in range(l_max + 1)) * CHANNELS)
    if importlib.util.find_spec("fairchem") is None:
        convolution = ReimplementedESCN(l_max, CHANNELS).requires_grad_(False)
        return {"eSCN": lambda: convolution(x, factors)}
    layers, mapping = _fairchem("nn.so2_layers"), _fairchem("common.so3")
    order = mapping.CoefficientMapping(l_max, l_max)
    build = layers.SO2_Convolution
    theirs = build(CHANNELS, CHANNELS, l_max, l_max, order).requires_grad_(False)
    block = layers.SO2_Conv1_WithRadialBlock(
        CHANNELS, CHANNELS, l_max, l_max, order, 0, [8, 8]
    ).requires_grad_(False)
    # two forms: as trained, and with fused weights for inference (without its gate)
    return {"eSCN": lambda: theirs(x, factors), "eSCN, fused": lambda: block(x, factors)}


def _fairchem(name: str) -> types.ModuleType:
    """A module of fairchem's UMA; the packages above it would import all of fairchem's needs."""
    spec = importlib.util.find_spec("fairchem")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fairchem")
    folder = Path(next(iter(spec.submodule_search_locations)))
    full = "fairchem.core.models.uma"
    for package in ("core", "core.models", "core.models.uma", "core.models.uma.nn"):
        stand_in = types.ModuleType(f"fairchem.{package}")
        stand_in.__path__ = [str(folder.joinpath(*package.split(".")))]
        sys.modules.setdefault(stand_in.__name__, stand_in)
    common = types.ModuleType(f"{full}.common")
    common.__path__ = [str(folder.joinpath("core", "models", "uma", "common"))]
    sys.modules.setdefault(common.__name__, common)
    return importlib.import_module(f"{full}.{name}")


def per_pair(seconds: float, n: int) -> float:
    """µs per pair."""
    return 1e6 * seconds / n


def against_full_product(n: int, degrees: tuple[int, ...]) -> tuple[list[Row], float | None]:
    """Rows, and e3nn's cost exponent from l_max 4 on, where two such degrees fit."""
    rows, lines = [], []
    measured: list[tuple[int, float]] = []
    for l_max in degrees:
        functions = our_convolutions(l_max, n)
        reason = fits(l_max, n)
        if not reason:
            functions["e3nn"] = FullProduct(l_max).prepare(n)
        timings = interleaved(functions, 12, 60)
        times = {k: per_pair(t.processor, n) for k, t in timings.items()}
        theirs = times.get("e3nn")
        lines.append([l_max, *[times[k] for k in functions if k != "e3nn"], theirs or reason])
        lines[-1] += [per_pair(timings["gaunt + rotations"].wall, n)]
        for kind in ("so2", "gaunt"):
            ours = times[f"{kind} + rotations"]
            if theirs is not None:
                quantity = f"{kind} convolution with rotations against e3nn, l_max {l_max}"
                rows.append(Row(quantity, ours, theirs, "µs/pair", theirs / ours, "≥ 1"))
        if theirs is not None and l_max >= OUR_DEGREES[0]:
            measured.append((l_max + 1, theirs))
    headers = ["l_max", "so2", "so2 + rotations", "gaunt", "gaunt + rotations", "e3nn full product"]
    headers += ["wall, gaunt + rotations"]
    print(
        f"\nµs of one processor per pair, {n} pairs, {CHANNELS} channels; e3nn with shared weights"
    )
    print(table(headers, lines))
    if len(measured) < 2:
        return rows, None
    slope = exponent(*zip(*measured, strict=True))
    span = f"l_max {measured[0][0] - 1} to {measured[-1][0] - 1}"
    print(f"cost exponent of e3nn in l_max + 1, {span}: {slope:.2f}")
    return rows, slope


def cost_exponents(n: int, degrees: tuple[int, ...], theirs: float | None) -> list[Row]:
    """Exponents in l_max, by least squares, beside e3nn's.

    The cost of a convolution is ``Σ c_p (l_max+1)^p``; only the largest p counts in the end. The
    slope over all degrees is smaller while fixed costs and the memory of small l_max weigh in, so
    the slope of the upper half of the degrees is given beside it.
    """
    by_degree = [interleaved(our_convolutions(l_max, n), 12, 30) for l_max in degrees]
    rows, lines = [], []
    for name in by_degree[0]:
        times = [per_pair(t[name].processor, n) for t in by_degree]
        sizes = [l_max + 1 for l_max in degrees]
        upper = slice(len(degrees) // 2, None)
        slopes = exponent(sizes, times), exponent(sizes[upper], times[upper])
        lines.append([name, *times, *slopes])
        for part, slope in zip((degrees, degrees[upper]), slopes, strict=True):
            quantity = f"cost exponent in l_max + 1, l_max {part[0]}-{part[-1]}, {name}"
            rows.append(Row(quantity, slope, theirs, target="≤ 3.2"))
    print(f"\nµs of one processor per pair, {n} pairs, {CHANNELS} channels")
    headers = ["convolution", *[f"l_max {l}" for l in degrees], "exponent"]
    print(table([*headers, f"from l_max {degrees[upper][0]} on"], lines))
    return rows


def against_escn(n: int, degrees: tuple[int, ...]) -> list[Row]:
    """The same map, without rotations: a factor for each degree and channel, then SO(2) linear."""
    rows, lines = [], []
    print(f"\neSCN: {escn_source()}; both without rotations and without the radial network")
    for l_max in degrees:
        ours = {"ours": our_convolutions(l_max, n)["so2"]}
        theirs = escn(l_max, n)
        timings = interleaved({**ours, **theirs}, 15, 60)
        times = {name: t.processor for name, t in timings.items()}
        best = min(times[name] for name in theirs)
        micro = [per_pair(t, n) for t in times.values()]
        wall = per_pair(timings["ours"].wall, n)
        lines.append([l_max, *micro, best / times["ours"], wall])
        rows.append(
            Row(
                f"so2 convolution against eSCN, l_max {l_max}",
                per_pair(times["ours"], n),
                per_pair(best, n),
                "µs/pair",
                best / times["ours"],
                "≥ 1",
            )
        )
    print(table(["l_max", *times, "ratio to the faster", "wall, ours"], lines))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--only", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        full_product_alone(*options.only)
        return
    torch.set_num_threads(THREADS)
    print(machine("fairchem-core"))
    with torch.no_grad():
        rows, theirs = against_full_product(options.pairs, FULL_PRODUCT_DEGREES)
        rows += cost_exponents(options.pairs, OUR_DEGREES, theirs)
        rows += against_escn(options.pairs, FULL_PRODUCT_DEGREES)
    hand_over(rows)


if __name__ == "__main__":
    main()
