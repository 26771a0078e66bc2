"""A trained model and its file; the only crossing from torch to scipy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hotham_ase.files import replacing
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.model import HotHam, ModelConfig
from hotham_ase.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.pairs import PairList

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


# ------------------------------------------------------------------ structure ↔ tensors


def cutoffs(basis: OrbitalBasis, margin: float = 0.0) -> list[list[float]]:
    """(n_species, n_species) Å, the longest hopping of each pair of species.

    Parameters
    ----------
    margin
        Å by which it exceeds the reach of the orbitals, see :class:`ModelConfig`.
    """
    table = basis.pair_cutoffs
    return [[table[a, b] + margin for b in basis.symbols] for a in basis.symbols]


def build_graph(atoms: Atoms, basis: OrbitalBasis, margin: float = 0.0) -> tuple[PairList, Graph]:
    """Hopping pairs of a structure, and the network's view of them; see :func:`cutoffs`."""
    species = basis.species_index(atoms.numbers)
    reach = {pair: cutoff + margin for pair, cutoff in basis.pair_cutoffs.items()}
    pairs = PairList.from_atoms(atoms, reach)
    pairs.check_distances()
    graph = Graph(
        species=torch.tensor(species),
        edge_index=torch.tensor(pairs.edge_index),
        edge_vectors=torch.tensor(pairs.edge_vectors),
        reverse=torch.tensor(pairs.reverse_edge_index),
        structure=torch.zeros(len(species), dtype=torch.long),
    )
    return pairs, graph


def from_union(
    pairs: PairList,
    onsite: np.ndarray,
    hopping: np.ndarray,
    basis: OrbitalBasis,
    network: HotHam,
) -> RealSpaceMatrix:
    """Blocks on the union of shells to a real-space matrix.

    Parameters
    ----------
    onsite : (n_atoms, n_union, n_union)
    hopping : (n_edges, n_union, n_union)
    """
    n_orbitals = basis.n_orbitals(pairs.numbers)
    if all(n == onsite.shape[-1] for n in n_orbitals):
        values = np.concatenate([onsite.ravel(), hopping.ravel()])
        return RealSpaceMatrix(pairs, n_orbitals, values, name="hamiltonian")
    species = basis.species_index(pairs.numbers)
    i, j = pairs.edge_index
    kinds = np.concatenate([np.stack([species, species]), species[pairs.edge_index]], axis=1)
    blocks = np.concatenate([onsite, hopping])
    sizes = np.concatenate([n_orbitals**2, n_orbitals[i] * n_orbitals[j]])
    starts = np.cumsum(sizes) - sizes
    values = np.empty(int(sizes.sum()))
    for a in np.unique(species):
        for b in np.unique(species):
            of_kind = np.flatnonzero((kinds[0] == a) & (kinds[1] == b))
            rows, columns = network.orbitals[a].numpy(), network.orbitals[b].numpy()
            picked = blocks[of_kind][:, rows[:, None], columns].reshape(len(of_kind), -1)
            values[starts[of_kind][:, None] + np.arange(picked.shape[1])] = picked
    return RealSpaceMatrix(pairs, n_orbitals, values, name="hamiltonian")


def to_union(
    matrix: RealSpaceMatrix, basis: OrbitalBasis, network: HotHam
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`from_union`; orbitals that an atom lacks get zeros.

    Returns
    -------
    onsite : (n_atoms, n_union, n_union)
    hopping : (n_edges, n_union, n_union)
    """
    n_union = sum(2 * l + 1 for l in network.union)
    blocks = np.zeros((matrix.block_atoms.shape[1], n_union, n_union))
    kinds = basis.species_index(matrix.pairs.numbers)[matrix.block_atoms]
    for a in range(len(basis.species)):
        for b in range(len(basis.species)):
            of_kind = np.flatnonzero((kinds[0] == a) & (kinds[1] == b))
            rows, columns = network.orbitals[a].numpy(), network.orbitals[b].numpy()
            index = matrix.block_offsets[of_kind][:, None] + np.arange(len(rows) * len(columns))
            picked = matrix.values[0][index].reshape(-1, len(rows), len(columns))
            blocks[of_kind[:, None, None], rows[:, None], columns] = picked
    return blocks[: matrix.pairs.n_atoms], blocks[matrix.pairs.n_atoms :]


# ------------------------------------------------------------------ devices


def torch_device(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device must be 'auto' or a torch device of this machine, got {device!r}: {error}"
        ) from error


def torch_dtype(dtype: str) -> torch.dtype:
    """``float32`` or ``float64``."""
    table = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in table:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return table[dtype]


class default_dtype:
    """Context in which new torch parameters and constants have a precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.previous = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.previous)
