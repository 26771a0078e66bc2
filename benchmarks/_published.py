"""The published Hot-Ham code on one graph, for :mod:`benchmarks.network`, in a Python of its own.

``python _published.py CHECKOUT GRAPH.npz SETTINGS.json [CHECKPOINT]``. The graph holds ``numbers``,
``species``, ``edge_index``, ``edge_vectors``, ``cell_shifts`` and ``reverse_edge_index``, pairs of
an atom with itself included; the settings are a published ``train.json``. A checkpoint that exists
is loaded, one that does not is written. Prints one JSON line when the first answer is there; then,
for each line ``forward``, ``both`` or ``geometry`` that it reads, the seconds that took, of the
processor and on the wall.
``blocks PATH`` saves the predicted blocks.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

started = time.perf_counter()


def main(checkout: str, graph_path: str, settings_path: str, checkpoint: str | None = None) -> None:
    """Build, answer once, then time what is asked for."""
    # The published modules import each other both ways.
    sys.path[:0] = [checkout, f"{checkout}/hotham"]
    from e3nn import o3

    model_class = importlib.import_module("hotham.entrypoints.model").Model
    parameters_class = importlib.import_module("hotham.entrypoints.Parameters").Parameters

    settings = json.loads(Path(settings_path).read_text(encoding="utf-8"))
    dtype = getattr(torch, settings["floatdtype"])
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    model = model_class(parameters_class({"edgeselfinteraction": False, **settings}))
    if checkpoint and Path(checkpoint).exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")["model_state_dict"]
        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        for key, value in state.items():
            if value.is_floating_point() or value.is_complex():
                state[key] = value.to(complex_dtype if value.is_complex() else dtype)
        model.load_state_dict(state, assign=True)
    elif checkpoint:
        torch.save({"model_state_dict": model.state_dict()}, checkpoint)

    graph = np.load(graph_path)
    data = _data(graph, dtype)

    def geometry() -> list[torch.Tensor]:
        """Rotations of all pairs, as the published data set makes them."""
        alpha, beta = o3.xyz_to_angles(data.D_hop[:, [1, 2, 0]])
        zero = torch.zeros_like(alpha)
        rotations = [o3.wigner_D(l, alpha, beta, zero) for l in range(settings["L_max"] + 1)]
        for l, rotation in enumerate(rotations):
            rotation[data.mask_sc] = torch.eye(2 * l + 1, dtype=dtype)
        return rotations

    def forward() -> Any:
        with torch.no_grad():
            return model(data)[0]

    def both() -> None:
        model.zero_grad(set_to_none=True)
        blocks = model(data)[0]
        present = [b for row in blocks.values() for b in row.values() if b is not None]
        torch.stack([b.square().sum() for b in present]).sum().backward()

    data.wigner_D = geometry()
    built = time.perf_counter() - started
    forward()
    first = time.perf_counter() - started
    parameters = sum(p.numel() for p in model.parameters())
    facts = {"parameters": parameters, "built": built, "first answer": first}
    _say({**facts, "torch": torch.__version__})

    commands: dict[str, Callable[[], object]] = {
        "geometry": geometry,
        "forward": forward,
        "both": both,
    }
    for line in sys.stdin:
        name, _, path = line.strip().partition(" ")
        if name == "blocks":
            np.savez(path, *_in_edge_order(forward(), data, settings))
            _say(path)
            continue
        processor, wall = time.process_time(), time.perf_counter()
        commands[name]()
        _say([time.process_time() - processor, time.perf_counter() - wall])


def _data(graph: Any, dtype: torch.dtype) -> SimpleNamespace:
    vectors = torch.tensor(graph["edge_vectors"], dtype=dtype)
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    return SimpleNamespace(
        AtomType=torch.tensor(graph["species"]),
        edge_index_hop=torch.tensor(graph["edge_index"]),
        d_hop=lengths,
        D_hop=vectors,
        S_hop=torch.tensor(graph["cell_shifts"]),
        edge_inverse=torch.tensor(graph["reverse_edge_index"]),
        mask_edge=lengths > 1e-6,
        mask_sc=lengths <= 1e-6,
        num_nodes=len(graph["numbers"]),
        num_edges=len(vectors),
        batch=None,
    )


def _in_edge_order(blocks: Any, data: SimpleNamespace, settings: Any) -> list[np.ndarray]:
    from ase.data import atomic_numbers

    symbols = sorted(settings["orbit"], key=lambda s: atomic_numbers[s])
    seen: dict[tuple[int, int], int] = {}
    ordered = []
    for i, j in data.AtomType[data.edge_index_hop].T.tolist():
        index = seen.get((i, j), 0)
        seen[i, j] = index + 1
        ordered.append(blocks[symbols[i]][symbols[j]][index].numpy())
    return ordered


def _say(message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
