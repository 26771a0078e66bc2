"""Model files: named tensors and texts in one safetensors file, with a digest of all of them.

The texts say how the tensors are to be read. A file is refused unless it has a known format, the
conventions of this package, finite numbers, and nothing that no model has.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.errors import HothamError
from hotham_ase.files import replacing
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.architectures import check_sizes, read_config
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.protocol import Network
from hotham_ase.nn.uncertainty import BlockUncertainty

# what older versions would misread has a number of its own: 2 is of models that need H0, which
# would give the correction alone; 3 of those with tables for some pairs of species only; 4 of those
# with potentials in their basis, whatever else they have
FILE_FORMATS = tuple(f"hotham_ase model {k}" for k in (1, 2, 3, 4))
CONVENTIONS = {
    "harmonics": "real, m = -l ... l, no Condon-Shortley phase",
    "energy": "eV",
    "length": "Angstrom",
    "fourier": "H(k) = sum_R exp(+2 pi i k.R) H(R)",
}
DIGEST = "digest"
TEXTS = (
    "format", "name", "config", "species", "conventions", "provenance", "needs_initial", "physics",
    "fitted",
)  # fmt: skip
GROUPS = ("network.", "basis.", "uncertainty.")
DTYPES = (torch.float32, torch.float64)


class ModelFileError(HothamError, ValueError):
    """A model that cannot be found, or a file that is not a model."""


_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
_Degrees = Annotated[tuple[Annotated[int, Field(ge=0, le=6)], ...], Field(max_length=100)]
_Cutoffs = tuple[Annotated[float, Field(gt=0, le=100)], ...]


class PotentialEntry(BaseModel):
    """What a model file says of an atomic potential, beside its arrays.

    Attributes are those of :class:`~hotham_ase.basis.potentials.AtomicPotential`.
    """

    model_config = _STRICT

    degrees: _Degrees
    total_momenta: tuple[float, ...] | None = None
    cutoffs: _Cutoffs
    n_valence: float = Field(ge=0)
    source: str
    licence: str


class SpeciesEntry(BaseModel):
    """What a model file says of the orbitals of a species, beside their radial functions.

    Attributes are those of :class:`~hotham_ase.basis.orbitals.SpeciesBasis`.
    """

    model_config = _STRICT

    symbol: str
    shells: _Degrees
    cutoffs: _Cutoffs
    n_valence: float = Field(ge=0)
    potential: PotentialEntry | None = None


_OF_POTENTIAL = ("coefficients", "grid", "projectors", "neutral", "density")
_SPECIES = TypeAdapter(tuple[SpeciesEntry, ...])


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The content of a model file.

    Attributes
    ----------
    tensors
        By name; the first word says whose they are: ``network``, ``basis``, ``uncertainty``.
    texts
        By name, see ``TEXTS``; most of them are JSON.
    """

    tensors: Mapping[str, torch.Tensor]
    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of all tensors and texts, 64 hexadecimal digits."""
        total = hashlib.sha256()
        for name, text in sorted(self.texts.items()):
            total.update(json.dumps([name, text]).encode())
        for name, tensor in sorted(self.tensors.items()):
            head = [name, str(tensor.dtype), list(tensor.shape)]
            total.update(json.dumps(head).encode())
            total.update(tensor.contiguous().numpy().tobytes())
        return total.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write all into one file, whole or not at all."""
        with replacing(path) as temporary:
            save_file(dict(self.tensors), temporary, {**self.texts, DIGEST: self.digest})

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read and check a file.

        Parameters
        ----------
        path
            The file; one without a digest is of an older version and is not compared with one.

        Raises
        ------
        ModelFileError
            If the file is none of ours, is not what was written, or has texts or tensors that no
            model has, or values that are not finite.
        OSError
            If it cannot be read.
        """
        try:
            with safe_open(path, framework="pt") as file:
                texts = file.metadata() or {}
                if texts.get("format") not in FILE_FORMATS:
                    raise ModelFileError(
                        f"{path} is not a hotham_ase model: its format is {texts.get('format')!r}, "
                        f"expected {' or '.join(map(repr, FILE_FORMATS))}"
                    )
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
        digest = texts.pop(DIGEST, None)
        for name in texts:
            if name not in TEXTS:
                raise ModelFileError(f"{path} has an unknown entry {name!r}")
        for name, tensor in tensors.items():
            if not name.startswith(GROUPS):
                raise ModelFileError(f"{path} has an unknown tensor {name!r}")
            if tensor.dtype not in DTYPES or not torch.isfinite(tensor).all():
                raise ModelFileError(
                    f"{path}: tensor {name} must hold finite numbers, float32 or float64; it has "
                    f"{tensor.dtype} or values that are not finite"
                )
        content = cls(tensors, texts)
        if digest is not None and digest != content.digest:
            raise ModelFileError(f"{path} is damaged: its content is not what was written")
        return content

    def json(self, name: str) -> Any:
        """The content of a text.

        Raises
        ------
        KeyError, ValueError, RecursionError
            If there is none, or it is not JSON.
        """
        return json.loads(self.texts[name])

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors of which the names start so, by the rest of their names."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def basis(self) -> OrbitalBasis:
        """The basis, from the text ``species`` and the functions of r among the tensors.

        Raises
        ------
        KeyError, ValueError
            If there is none, an entry has other keys, types or values than it must have, or there
            are functions of no species or potential.
        """
        functions, species = self.group("basis."), []

        def taken(symbol: str, names: Sequence[str]) -> dict[str, Any]:
            found = {name: functions.pop(f"{symbol}.{name}", None) for name in names}
            return {name: None if t is None else t.numpy() for name, t in found.items()}

        for entry in _SPECIES.validate_json(self.texts["species"]):
            potential = None
            if entry.potential is not None:
                arrays = taken(f"{entry.symbol}.potential", _OF_POTENTIAL)
                potential = AtomicPotential(**entry.potential.model_dump(), **arrays)
            arrays = taken(entry.symbol, ("grid", "radial"))
            of_orbitals = entry.model_dump(exclude={"potential"})
            species.append(SpeciesBasis(**of_orbitals, **arrays, potential=potential))
        if functions:
            raise ValueError(f"radial functions {list(functions)} are of no species of the basis")
        return OrbitalBasis(tuple(species))


def basis_content(basis: OrbitalBasis) -> tuple[str, dict[str, torch.Tensor]]:
    """The text ``species`` and the tensors from which :meth:`ModelFile.basis` makes a basis."""
    entries, arrays = [], dict[str, np.ndarray | None]()
    for s in basis.species:
        entry = SpeciesEntry.model_validate(s, from_attributes=True)
        # older versions know no potentials, and refuse what they do not know
        entries.append(entry.model_dump(exclude_none=True))
        arrays |= {f"{s.symbol}.{name}": getattr(s, name) for name in ("grid", "radial")}
        if s.potential is not None:
            potential = {name: getattr(s.potential, name) for name in _OF_POTENTIAL}
            arrays |= {f"{s.symbol}.potential.{name}": a for name, a in potential.items()}
    tensors = {f"basis.{name}": torch.tensor(a) for name, a in arrays.items() if a is not None}
    return json.dumps(entries), tensors


Stored = TypeVar("Stored", bound="StoredModel")


@dataclass(frozen=True, eq=False)
class StoredModel:
    """All that a model file holds: a network, its basis and the record of its training.

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
    uncertainty
        Expected errors of blocks, fitted after the training; None if nothing was held out for it.
    learns_correction
        Whether the network predicts H − H0, so that a prediction needs H0.
    physics
        Whether it predicts H − H0 with the H0 that the basis gives, T + V_nl + V_NA (+ V_fit).
    fitted
        V_fit; None without ``physics``, or if none was fitted.

    Raises
    ------
    ModelFileError
        If the network, the uncertainty or the fitted potential does not belong to the rest.
    """

    network: Network
    basis: OrbitalBasis
    name: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    uncertainty: BlockUncertainty | None = field(default=None, repr=False)
    learns_correction: bool = False
    physics: bool = False
    fitted: FittedPotential | None = None

    def __post_init__(self) -> None:
        shells = tuple(s.shells for s in self.basis.species)
        if shells != self.network.shells:
            raise ModelFileError(
                f"the basis has shells {shells}, the network predicts {self.network.shells}"
            )
        if self.uncertainty is not None and (
            self.uncertainty.n_descriptors != self.network.n_descriptors
        ):
            raise ModelFileError(f"the uncertainty of {self.name} is that of another network")
        if self.physics and self.learns_correction:
            raise ModelFileError(f"{self.name} must have one H0, computed or given, not both")
        if self.fitted is not None and not self.physics:
            raise ModelFileError(f"{self.name} must predict H − H0 to have a fitted potential")
        if self.physics and not self.basis.has_potentials:
            raise ModelFileError(
                f"{self.name} predicts H − H0 of the pseudopotentials, but not all species of its "
                "basis have one"
            )
        unknown = [s for s in self.fitted.amplitudes if s not in self.basis] if self.fitted else []
        if unknown:
            raise ModelFileError(
                f"{self.name} has a fitted potential of {unknown}, which its basis lacks"
            )

    @cached_property
    def h0_basis(self) -> OrbitalBasis:
        """The basis whose potentials H0 is made of: with the fitted one in V_NA."""
        return self.basis if self.fitted is None else self.fitted.added_to(self.basis)

    @property
    def cutoff(self) -> float:
        """Å; the longest hopping."""
        return self.network.cutoff

    def describe(self) -> dict[str, Any]:
        """What ``hotham info`` prints."""
        field = self.network.receptive_field
        return {
            "name": self.name,
            "species": {s.symbol: s.label for s in self.basis.species},
            "valence electrons": {s.symbol: s.n_valence for s in self.basis.species},
            "hopping cutoff (Å)": round(self.cutoff, 4),
            "receptive field (Å)": field if math.isfinite(field) else "the whole structure",
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "radial functions": self.basis.has_radial,
            "uncertainty": self.uncertainty is not None,
            "needs an initial Hamiltonian": self.learns_correction,
            "H0 from pseudopotentials": self.physics,
            "fitted potential (eV)": None if self.fitted is None else dict(self.fitted.amplitudes),
            "pseudopotentials": {
                s.symbol: s.potential.label for s in self.basis.species if s.potential is not None
            }
            or None,
            "spin-orbit coupling": self.basis.is_relativistic,
            "architecture": self.network.config.model_dump(mode="json"),
            "conventions": CONVENTIONS,
            **self.provenance,
        }

    def save(self, path: str | Path) -> None:
        """Write everything into one safetensors file, whole or not at all."""
        species, tensors = basis_content(self.basis)
        for group, module in (("network", self.network), ("uncertainty", self.uncertainty)):
            weights = {} if module is None else module.state_dict()
            tensors |= {f"{group}.{k}": v.contiguous().cpu() for k, v in weights.items()}
        texts = {
            "format": _format(tensors, self.learns_correction, self.physics),
            "name": self.name,
            "config": self.network.config.model_dump_json(),
            "species": species,
            "conventions": json.dumps(CONVENTIONS),
            "provenance": json.dumps(dict(self.provenance)),
            "needs_initial": json.dumps(self.learns_correction),
        }
        if self.physics:  # older versions know no such text
            texts["physics"] = json.dumps(self.physics)
        if self.fitted is not None:
            texts["fitted"] = json.dumps(self.fitted.amplitudes, sort_keys=True)
        ModelFile(tensors, texts).write(path)

    @classmethod
    def read(cls: type[Stored], path: Path) -> Stored:
        """Read a file of this or an older version.

        Raises
        ------
        ModelFileError
            If the file is not one of ours, or damaged.
        OSError
            If it cannot be read.
        """
        try:
            return cls._from_content(path, ModelFile.read(path))
        except ModelFileError:
            raise
        except KeyError as error:
            raise ModelFileError(f"{path} is damaged or incomplete: it has no {error}") from error
        except RecursionError as error:
            raise ModelFileError(f"{path} is damaged: its texts are nested too deeply") from error
        except (ValueError, IndexError) as error:  # JSON, settings, species, sizes
            raise ModelFileError(f"{path} is damaged: {_in_one_line(error)}") from error

    @classmethod
    def _from_content(cls: type[Stored], path: Path, file: ModelFile) -> Stored:
        if file.json("conventions") != CONVENTIONS:
            raise ModelFileError(f"{path} uses other conventions: {file.texts['conventions']}")
        # older files do not say it: their networks predict all of H
        needs_initial, physics = (
            json.loads(file.texts.get(name, "false")) for name in ("needs_initial", "physics")
        )
        provenance = file.json("provenance")
        flags = (needs_initial, physics)
        if {type(flag) for flag in flags} != {bool} or not isinstance(provenance, dict):
            raise ModelFileError(
                f"{path}: needs_initial and physics must be true or false and provenance an "
                f"object, got {needs_initial!r:.50}, {physics!r:.50} and "
                f"{type(provenance).__name__}"
            )
        if file.texts["format"] != _format(file.tensors, *flags):
            raise ModelFileError(
                f"{path}: its format does not go with needs_initial {needs_initial}, physics "
                f"{physics} and its tensors"
            )
        basis = file.basis()
        network = _read_network(path, file, basis)
        uncertainty = _read_uncertainty(path, file.group("uncertainty."), network)
        name = file.texts["name"]
        fitted = None
        if "fitted" in file.texts:
            fitted = FittedPotential(file.json("fitted"))
        return cls(network, basis, name, provenance, uncertainty, *flags, fitted)


def _format(tensors: Mapping[str, torch.Tensor], learns_correction: bool, physics: bool) -> str:
    if physics or any(n.startswith("basis.") and ".potential." in n for n in tensors):
        return FILE_FORMATS[3]
    return FILE_FORMATS[2 if "network.baseline.pairs" in tensors else learns_correction]


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def _read_network(path: Path, file: ModelFile, basis: OrbitalBasis) -> Network:
    config, weights = read_config(file.json("config")), file.group("network.")
    dtypes = {w.dtype for w in weights.values()}
    if len(dtypes) != 1:
        raise ModelFileError(f"{path} must have weights of one precision, got {dtypes or 'none'}")
    # before a network of that size is built
    check_sizes(config, [w.shape for w in weights.values()])
    with default_dtype(dtypes.pop()):
        network = network_for(config, basis)
    _fill(network, weights, f"{path} does not fit its own architecture")
    return network.eval().requires_grad_(False)


def _read_uncertainty(
    path: Path, state: Mapping[str, torch.Tensor], network: Network
) -> BlockUncertainty | None:
    if not state:
        return None
    if network.n_descriptors is None:
        raise ModelFileError(f"{path} has an uncertainty, which its architecture cannot have")
    n_bins = state["hopping_factor"].shape[1]
    n_points = state.get("nearest.points", torch.empty(0)).shape[0]
    uncertainty = BlockUncertainty(
        network.n_descriptors, len(network.shells), network.cutoff, n_bins, n_points
    )
    newer = ("nearest.points", "nearest.usual", "hopping_scale", "band_factor")
    # what older files lack keeps its value
    state = {**{k: v for k, v in uncertainty.state_dict().items() if k in newer}, **state}
    _fill(uncertainty, state, f"{path} has an uncertainty of another network")
    return uncertainty


def _fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], complaint: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{complaint}: {_in_one_line(error)}") from error
