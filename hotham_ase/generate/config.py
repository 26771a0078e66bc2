"""The configuration of a data set that is computed: one YAML file, checked by pydantic."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, model_validator

from hotham_ase.engines import Engine, read_engine
from hotham_ase.engines.engine import engine_class
from hotham_ase.settings import Settings, load_settings


class DynamicsConfig(Settings):
    """Frames of molecular dynamics at a constant temperature (Langevin)."""

    calculator: str
    """ASE's name of a calculator of forces, like ``emt``, or ``module:name`` of a class or function
    that makes one; it is imported and called."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """The calculator is made with these."""
    temperature: float = Field(300.0, gt=0)
    """In K."""
    timestep: float = Field(1.0, gt=0)
    """In fs; 0.5 where there is hydrogen."""
    equilibration: float = Field(200.0, ge=0)
    """So many fs pass before the first frame."""
    interval: float = Field(50.0, gt=0)
    """So many fs lie between frames."""


class StructuresConfig(Settings):
    """Structures of one kind: those of a file, or more made of them."""

    start: str
    """A built-in name like ``cubic-silicon`` or ``molecule:H2O``, or a file that ASE reads: all of
    its frames, or those of ``@index`` as ``run.traj@100::10``; relative to this file."""
    name: str | None = Field(None, pattern=r"^[\w.+-]+$")
    """The group of these structures, which are called ``name/0000`` and so on; by default after
    ``start``. Trainings divide every group by itself."""
    number: int | None = Field(None, ge=1, le=1_000_000)
    """So many are made, of the frames in turn; by default one of each frame."""
    displacement: float = Field(0.0, ge=0, le=1)
    """Every coordinate is moved at random, with this standard deviation in Å."""
    strain: float = Field(0.0, ge=0, le=0.5)
    """The cell is strained at random along its periodic directions, each component of the strain
    being at most so large."""
    sliding: bool = False
    """Every layer but the lowest is moved in its plane to a random place of the cell; layers are at
    least 2 Å apart along z."""
    dynamics: DynamicsConfig | None = None
    """The frames are those of molecular dynamics from ``start``, as follows."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Another seed makes other structures."""

    @model_validator(mode="after")
    def _check_number(self) -> StructuresConfig:
        if self.dynamics is not None and self.number is None:
            raise ValueError("dynamics needs number, how many frames to take")
        return self

    @property
    def group(self) -> str:
        """The name, or one made of ``start``."""
        plain = Path(self.start.partition("@")[0]).stem if "." in self.start else self.start
        return self.name or re.sub(r"[^\w.+-]+", "-", plain).strip("-")


class GenerateConfig(Settings):
    """A data set to be computed."""

    output: Path
    """The data set, an HDF5 file; a relative path is relative to this file."""
    structures: tuple[StructuresConfig, ...] = Field(min_length=1)
    """Structures of one or more kinds."""
    engine: Annotated[SerializeAsAny[Engine], BeforeValidator(read_engine)] = Field(
        default_factory=lambda: engine_class({}).model_validate({})
    )
    """What computes them; by default PySCF with PBE and def2-SVP, for molecules."""
    workers: int | None = Field(None, ge=1, le=1024)
    """So many structures are computed side by side, each on its share of the cores; by default one
    on each core."""

    @classmethod
    def section(cls, key: str, value: Any) -> type[BaseModel] | None:
        """See :meth:`Settings.section`; every engine has its own class of settings."""
        if key != "engine":
            return super().section(key, value)
        with suppress(ValueError):  # of an engine that there is none, which is refused later
            return engine_class(value)
        return None

    @model_validator(mode="after")
    def _check_groups(self) -> GenerateConfig:
        groups = [part.group for part in self.structures]
        twice = sorted({group for group in groups if groups.count(group) > 1})
        if twice:
            raise ValueError(f"structures must differ in name, but {twice} come twice")
        return self


def load_config(path: str | Path) -> GenerateConfig:
    """Read and check a YAML file; paths in it become relative to the current folder.

    Raises
    ------
    SettingsError
        If a key is unknown (the nearest valid one is named), a value is wrong, or the file is
        not YAML.
    """
    path = Path(path)
    config = load_settings(path, GenerateConfig)
    folder = path.resolve().parent
    parts = tuple(part.model_copy(update=_placed(part, folder)) for part in config.structures)
    return config.model_copy(
        update={
            "output": folder / config.output,
            "structures": parts,
            "engine": config.engine.relative_to(folder),
        }
    )


def _placed(part: StructuresConfig, folder: Path) -> dict[str, str]:
    """What changes in a kind of structures whose ``start`` is a file in the folder."""
    file = folder / part.start
    is_file = file.is_file() or Path(str(file).rpartition("@")[0]).is_file()
    return {"start": str(file), "name": part.group} if is_file else {}
