"""Damage to model files: to their bytes, to single tensors and texts, with and without a digest."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.file import ModelFileError
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.model import HotHam
from tests.fuzz.mutations import BINARY, Outcome, mutate
from tests.potentials import make_potential

NAME = "model"


@functools.cache
def base() -> tuple[Path, str]:
    """An undamaged model, written once, and the digest of what it holds."""
    path = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "model.safetensors"
    grid = np.linspace(0, 2, 9)
    radial = np.stack([np.exp(-grid), grid * np.exp(-grid)])
    orbitals = SpeciesBasis("C", (0, 1), (2.0, 2.0), 4, grid, radial, make_potential(4))
    basis = OrbitalBasis((orbitals,))
    config = ModelConfig(l_max=2, channels=3, hidden=4, n_radial=4, message_cutoff=2.5)
    torch.manual_seed(0)
    network = HotHam(config, [s.shells for s in basis.species], cutoffs(basis))
    network, fitted = network.eval().requires_grad_(False), FittedPotential({"C": (9.0, 1.5)})
    HamiltonianModel(network, basis, physics=True, fitted=fitted).save(path)
    return path, content(path)


def content(path: Path) -> str:
    """All that a loaded model holds: the digest of the file that it would write."""
    again = path.with_name("again.safetensors")
    load_model(path).save(again)
    with safe_open(again, framework="pt") as file:
        return file.metadata()["digest"]


def damage_part(rng: np.random.Generator, path: Path, *, digest: bool) -> str:
    """Change one tensor or one text of a file."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        texts = file.metadata()
    if not digest:
        del texts["digest"]
    if rng.random() < 0.5:
        name = str(rng.choice([n for n in texts if n != "digest"]))
        damage, data = mutate(rng, texts[name].encode())
        texts[name] = data.decode("utf-8", errors="replace")
    else:
        name, other = map(str, rng.choice(sorted(tensors), 2, replace=False))
        damage = str(rng.choice(["scaled", "zero", "nan", "swapped", "dropped", "reshaped", "int"]))
        tensor = tensors[name]
        changed = {
            "scaled": tensor * float(rng.choice([0.5, -1, 1 + 1e-6, 27.2])),
            "zero": torch.zeros_like(tensor),
            "nan": torch.full_like(tensor, float("nan")),
            "swapped": tensors[other].clone(),
            "dropped": None,
            "reshaped": tensor.reshape(1, -1).clone(),
            "int": tensor.to(torch.int32),
        }[damage]
        if damage == "swapped":
            tensors[other] = tensor.clone()
        tensors[name] = changed
    save_file({n: t for n, t in tensors.items() if t is not None}, path, texts)
    return f"{name} {damage}{'' if digest else ', no digest'}"


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage a model file and load it."""
    sound, expected = base()
    path = folder / "model.safetensors"
    path.write_bytes(sound.read_bytes())
    digest = bool(rng.random() < 0.7)
    if digest and rng.random() < 0.5:
        damage, data = mutate(rng, sound.read_bytes(), BINARY)
        path.write_bytes(data)
    else:
        damage = damage_part(rng, path, digest=digest)
    try:
        found = content(path)
    except ModelFileError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    if found == expected:
        return Outcome("identical", damage)
    return Outcome("accepted" if digest else "close", damage)  # older files cannot tell
