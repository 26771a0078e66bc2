"""A trained model and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hotham_ase.files import replacing
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.nn.devices import default_dtype, torch_device, torch_dtype
from hotham_ase.nn.model import HotHam, ModelConfig
from hotham_ase.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.tensors import build_graph, cutoffs, from_union

if TYPE_CHECKING:
    from ase import Atoms

FILE_FORMAT = "hotham_ase model 1"
CONVENTIONS = {
    "harmonics": "real, m = -l ... l, no Condon-Shortley phase",
    "energy": "eV",
    "length": "Angstrom",
    "fourier": "H(k) = sum_R exp(+2 pi i k.R) H(R)",
}


class ModelFileError(ValueError):
    """A model that cannot be found, or a file that is not a model."""


@dataclass(frozen=True, eq=False)
class HamiltonianModel:
    """A network with the basis it predicts H in and the record of its training.

    Attributes
    ----------
    network
        Weights and architecture, float32 or float64.
    basis
        Orbitals of every species the model knows.
    name
        For messages and plots.
    provenance
        JSON-able record: data, split, settings, versions, errors.
    """

    network: HotHam
    basis: OrbitalBasis
    name: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shells = tuple(s.shells for s in self.basis.species)
        if shells != self.network.shells:
            raise ModelFileError(
                f"the basis has shells {shells}, the network predicts {self.network.shells}"
            )

    @property
    def cutoff(self) -> float:
        """Å; the longest hopping."""
        return self.network.cutoff

    def predict(
        self, atoms: Atoms, *, device: str = "auto", dtype: str = "float32"
    ) -> RealSpaceMatrix:
        """Predict H(R) of a structure.

        Parameters
        ----------
        atoms
            Structure of elements that the model knows.
        device
            ``auto`` (a GPU where there is one), or a torch device.
        dtype
            Precision of the network; the matrix is always float64.

        Returns
        -------
        RealSpaceMatrix, eV.

        Raises
        ------
        BasisError
            If an element is not known.
        PairListError
            If positions are not finite, atoms overlap or the cell is degenerate.
        """
        config = self.network.config
        pairs, graph = build_graph(atoms, self.basis, config.hopping_margin)
        network = self._on(torch_device(device), torch_dtype(dtype))
        with torch.no_grad():
            graph = graph.to(network.cutoffs.device)
            onsite, hopping = network(graph, network.geometry(graph))
        onsite, hopping = (x.double().cpu().numpy() for x in (onsite, hopping))
        return from_union(pairs, onsite, hopping, self.basis, network)

    def _on(self, device: torch.device, dtype: torch.dtype) -> HotHam:
        """The network on a device, converted at most once for each device and precision."""
        cache: dict[tuple[torch.device, torch.dtype], HotHam] = self.__dict__.setdefault(
            "_copies", {}
        )
        if (device, dtype) not in cache:
            with default_dtype(dtype):
                config = self.network.config
                table = cutoffs(self.basis, config.hopping_margin)
                network = HotHam(config, self.network.shells, table)
            network.load_state_dict(self.network.state_dict())
            cache[device, dtype] = network.to(device).eval().requires_grad_(False)
        return cache[device, dtype]

    def describe(self) -> dict[str, Any]:
        """What ``hotham info`` prints."""
        return {
            "name": self.name,
            "species": {s.symbol: s.label for s in self.basis.species},
            "valence electrons": {s.symbol: s.n_valence for s in self.basis.species},
            "hopping cutoff (Å)": round(self.cutoff, 4),
            "receptive field (Å)": self.network.receptive_field,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "radial functions": self.basis.has_radial,
            "architecture": self.network.config.model_dump(mode="json"),
            "conventions": CONVENTIONS,
            **self.provenance,
        }

    def save(self, path: str | Path) -> None:
        """Write everything into one safetensors file, whole or not at all."""
        tensors = {
            f"network.{k}": v.contiguous().cpu() for k, v in self.network.state_dict().items()
        }
        species = []
        for s in self.basis.species:
            species.append(
                {
                    "symbol": s.symbol,
                    "shells": s.shells,
                    "cutoffs": s.cutoffs,
                    "n_valence": s.n_valence,
                }
            )
            if s.grid is not None and s.radial is not None:
                tensors[f"basis.{s.symbol}.grid"] = torch.tensor(s.grid)
                tensors[f"basis.{s.symbol}.radial"] = torch.tensor(s.radial)
        metadata = {
            "format": FILE_FORMAT,
            "name": self.name,
            "config": self.network.config.model_dump_json(),
            "species": json.dumps(species),
            "conventions": json.dumps(CONVENTIONS),
            "provenance": json.dumps(dict(self.provenance)),
        }
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)


def load_model(name_or_path: str | Path) -> HamiltonianModel:
    """Load a model file, or a bundled model by its name.

    Parameters
    ----------
    name_or_path
        ``"carbon"``, or a path of a ``.safetensors`` file.

    Raises
    ------
    ModelFileError
        If there is no such model, or the file is not one of ours.
    """
    path = _find(name_or_path)
    try:
        return _read_model(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
    except (KeyError, json.JSONDecodeError, ValidationError) as error:
        raise ModelFileError(f"{path} is damaged or incomplete: {error}") from error


def _read_model(path: Path) -> HamiltonianModel:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FILE_FORMAT:
            raise ModelFileError(
                f"{path} is not a hotham_ase model: its format is "
                f"{metadata.get('format')!r}, expected {FILE_FORMAT!r}"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if json.loads(metadata["conventions"]) != CONVENTIONS:
        raise ModelFileError(f"{path} uses other conventions: {metadata['conventions']}")
    species = []
    for entry in json.loads(metadata["species"]):
        radial = {
            key: tensors[f"basis.{entry['symbol']}.{key}"].numpy()
            for key in ("grid", "radial")
            if f"basis.{entry['symbol']}.{key}" in tensors
        }
        species.append(SpeciesBasis(**entry, **radial))
    basis = OrbitalBasis(tuple(species))
    config = ModelConfig.model_validate_json(metadata["config"])
    weights = {
        key.removeprefix("network."): value
        for key, value in tensors.items()
        if key.startswith("network.")
    }
    with default_dtype(next(iter(weights.values())).dtype):
        table = cutoffs(basis, config.hopping_margin)
        network = HotHam(config, tuple(s.shells for s in basis.species), table)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(f"{path} does not fit its own architecture: {error}") from error
    network.eval().requires_grad_(False)
    provenance = json.loads(metadata["provenance"])
    return HamiltonianModel(network, basis, metadata["name"], provenance)


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    folder = files("hotham_ase") / "models"
    return sorted(
        f.name.removesuffix(".safetensors")
        for f in folder.iterdir()
        if f.name.endswith(".safetensors")
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path)
    if name in bundled_models():
        return Path(str(files("hotham_ase") / "models" / f"{name}.safetensors"))
    raise ModelFileError(
        f"model must be a file or one of the bundled models {bundled_models()}, got {name!r}"
    )
