"""Model files: named tensors and texts in one safetensors file, with a digest of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.errors import HothamError
from hotham_ase.files import replacing

DIGEST = "digest"
TEXTS = ("format", "name", "config", "species", "conventions", "provenance", "needs_initial")
GROUPS = ("network.", "basis.", "uncertainty.")
DTYPES = (torch.float32, torch.float64)


class ModelFileError(HothamError, ValueError):
    """A model that cannot be found, or a file that is not a model."""


class SpeciesEntry(BaseModel):
    """What a model file says of the orbitals of a species, beside their radial functions.

    Attributes are those of :class:`~hotham_ase.basis.orbitals.SpeciesBasis`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    symbol: str
    shells: tuple[Annotated[int, Field(ge=0, le=6)], ...] = Field(max_length=100)
    cutoffs: tuple[Annotated[float, Field(gt=0, le=100)], ...]
    n_valence: float = Field(ge=0)


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
    def read(cls, path: Path, formats: tuple[str, ...]) -> ModelFile:
        """Read and check a file.

        Parameters
        ----------
        path
            The file; one without a digest is of an older version and is not compared with one.
        formats
            What its text ``format`` may be.

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
                _check_format(path, texts.get("format"), formats)
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
        """The basis, from the text ``species`` and the radial functions among the tensors.

        Raises
        ------
        KeyError, ValueError
            If there is none, an entry has other keys, types or values than it must have, or there
            are radial functions of no species.
        """
        radial, species = self.group("basis."), []
        for entry in _SPECIES.validate_json(self.texts["species"]):
            grid, values = (radial.pop(f"{entry.symbol}.{k}", None) for k in ("grid", "radial"))
            species.append(
                SpeciesBasis(
                    **entry.model_dump(),
                    grid=None if grid is None else grid.numpy(),
                    radial=None if values is None else values.numpy(),
                )
            )
        if radial:
            raise ValueError(f"radial functions {list(radial)} are of no species of the basis")
        return OrbitalBasis(tuple(species))


def basis_content(basis: OrbitalBasis) -> tuple[str, dict[str, torch.Tensor]]:
    """The text ``species`` and the tensors from which :meth:`ModelFile.basis` makes a basis."""
    entries, tensors = [], {}
    for s in basis.species:
        entry = SpeciesEntry(
            symbol=s.symbol, shells=s.shells, cutoffs=s.cutoffs, n_valence=s.n_valence
        )
        entries.append(entry.model_dump())
        if s.grid is not None and s.radial is not None:
            tensors[f"basis.{s.symbol}.grid"] = torch.tensor(s.grid)
            tensors[f"basis.{s.symbol}.radial"] = torch.tensor(s.radial)
    return json.dumps(entries), tensors


def _check_format(path: Path, found: str | None, formats: tuple[str, ...]) -> None:
    if found not in formats:
        raise ModelFileError(
            f"{path} is not a hotham_ase model: its format is {found!r}, expected "
            f"{' or '.join(map(repr, formats))}"
        )
