"""The three ways to a Gaunt product by l_max, and where the fastest one changes.

Filter form and general form, float32, forward and with the backward pass, in ms for 1000 pairs or
atoms: ``python -m benchmarks.gaunt [--pairs N] [--atoms N] [--channels N] [--device cpu]``. The
crossover gives ``ZONAL_DIRECT_UP_TO`` and ``GENERAL_DIRECT_UP_TO`` in
``hotham_ase/nn/gaunt/products.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch

from benchmarks._common import THREADS, Row, exponent, hand_over, interleaved, machine, table
from hotham_ase.nn.gaunt import products as gaunt

SEED = 0
METHODS: tuple[gaunt.GauntMethod, ...] = ("direct", "quadrature", "fourier")
DEGREES = (1, 2, 3, 4, 6, 8, 10, 12)
Pass = Callable[[gaunt.GauntMethod, bool], Callable[[], object]]


def filter_form(l_max: int, n: int, channels: int, device: str) -> Pass:
    """Passes of the filter form over the same random features."""
    shapes = [(n, 2 if m else 1, l_max + 1 - m, channels) for m in range(l_max + 1)]
    x = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    filter = torch.randn(n, l_max + 1, channels, device=device, requires_grad=True)
    weights = [torch.randn_like(part) for part in x]

    def build(method: gaunt.GauntMethod, backward: bool) -> Callable[[], object]:
        product = gaunt.ZonalGauntProduct(l_max, method).to(device)
        return partial(one_pass, lambda: product(x, filter), [*x, filter], weights, backward)

    return build


def general_form(l_max: int, n: int, channels: int, device: str) -> Pass:
    """Passes of the general form over the same random features."""
    shape = (n, (l_max + 1) ** 2, channels)
    x, y = (torch.randn(shape, device=device, requires_grad=True) for _ in range(2))
    weights = [torch.randn(shape, device=device)]

    def build(method: gaunt.GauntMethod, backward: bool) -> Callable[[], object]:
        product = gaunt.GauntProduct(l_max, method).to(device)
        return partial(one_pass, lambda: [product(x, y)], [x, y], weights, backward)

    return build


def one_pass(
    function: Callable[[], list[torch.Tensor]],
    inputs: list[torch.Tensor],
    weights: list[torch.Tensor],
    backward: bool,
) -> None:
    """Forward, or forward and backward, to the end also on a GPU."""
    with torch.set_grad_enabled(backward):
        out = function()
    if backward:
        torch.autograd.grad(out, inputs, weights)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()


def compare(name: str, form: Callable[..., Pass], n: int, channels: int, device: str) -> list[Row]:
    """Print the table of one form."""
    rows = []
    for backward in (False, True):
        what = f"{name}, forward{' + backward' if backward else ''}"
        times: dict[str, list[float]] = {method: [] for method in METHODS}
        lines = []
        for l_max in DEGREES:
            build = form(l_max, n, channels, device)
            functions = {method: build(method, backward) for method in METHODS}
            timings = interleaved(functions, 15, seconds=4.0)
            for method, timing in timings.items():
                seconds = timing.wall if device.startswith("cuda") else timing.processor
                times[method].append(1e6 * seconds / n)
            at = {method: times[method][-1] for method in METHODS}
            lines.append([l_max, *at.values(), min(at, key=at.__getitem__)])
        span = slice(DEGREES.index(4), None)
        slopes = [exponent(DEGREES[span], times[method][span]) for method in METHODS]
        lines.append(["exponent 4-12", *slopes, ""])
        print(f"{what}: ms of one processor per 1000 ({n} at a time)")
        print(table(["l_max", *METHODS, "fastest"], lines), flush=True)
        for l_max in (4, 8):
            direct, quadrature = (times[m][DEGREES.index(l_max)] for m in METHODS[:2])
            quantity = f"Gaunt product, {what}, l_max {l_max}, quadrature against direct sums"
            rows.append(Row(quantity, quadrature, direct, "ms/1000", direct / quadrature))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--atoms", type=int, default=100)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=THREADS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    print(f"seed {SEED}, {options.channels} channels, {options.device}, float32; {machine()}")
    print(
        f"chosen: direct sums up to l_max {gaunt.ZONAL_DIRECT_UP_TO} (filter form) and "
        f"{gaunt.GENERAL_DIRECT_UP_TO} (general form), quadrature above"
    )
    rows = compare("filter form", filter_form, options.pairs, options.channels, options.device)
    rows += compare("general form", general_form, options.atoms, options.channels, options.device)
    hand_over(rows)


if __name__ == "__main__":
    main()
