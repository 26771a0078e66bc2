"""The configuration of a training run: one YAML file, checked by pydantic."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hotham_ase.nn.model import ModelConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key."""


class SplitConfig(BaseModel):
    """How structures are divided, every group (the name up to the last "/") by itself.

    Groups too small to give each part a structure are divided together.

    Attributes
    ----------
    train, validation, test
        Fractions; they sum to 1.
    seed
        Of the shuffle.
    exclude
        Groups that are left out altogether.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: float = Field(0.75, gt=0, le=1)
    validation: float = Field(0.10, ge=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)
    seed: int = 0
    exclude: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class OptimizerConfig(BaseModel):
    """How weights are learned.

    Attributes
    ----------
    max_epochs
        Passes over the training set; the learning rate falls to zero over them.
    learning_rate
        Peak, reached after ``warmup`` of all steps.
    warmup
        Fraction of all steps.
    batch_size
        Structures per step.
    gradient_clip
        Largest norm of the gradient.
    onsite_weight
        Weight of the mean error of onsite blocks beside that of hopping blocks.
    eigenbasis_weight
        Weight of the mean error in the reference's eigenbasis, which keeps bands right where
        S(k) is nearly singular.
    seed
        Of weights and order of structures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_epochs: int = Field(200, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    warmup: float = Field(0.02, ge=0, lt=1)
    batch_size: int = Field(1, ge=1)
    gradient_clip: float = Field(1.0, gt=0)
    onsite_weight: float = Field(0.2, ge=0)
    eigenbasis_weight: float = Field(1.0, ge=0)
    seed: int = 0


class TrainConfig(BaseModel):
    """A training run.

    Attributes
    ----------
    data
        HDF5 data set of ``hotham import``; a relative path is relative to the configuration.
    output
        Folder of checkpoints, logs and the model; likewise.
    name
        Name of the model.
    model, split, training
        See the classes.
    device
        ``auto``, ``cpu`` or ``cuda``.
    threads
        CPU threads; None leaves torch's choice.
    cache
        GiB of memory for prepared structures; beyond it they are prepared anew when needed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    data: Path
    output: Path = Path("run")
    name: str = Field("model", pattern=r"^[\w.+-]+$")
    model: ModelConfig = ModelConfig()
    split: SplitConfig = SplitConfig()
    training: OptimizerConfig = OptimizerConfig()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)
    cache: float = Field(4.0, ge=0)


def load_config(path: str | Path) -> TrainConfig:
    """Read and check a YAML file.

    Raises
    ------
    ConfigError
        If a key is unknown (the nearest valid one is named), a value is wrong, or the file is
        not YAML.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values, at least 'data'")
    try:
        config = TrainConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_explain, error.errors()))) from error
    folder = path.resolve().parent
    return config.model_copy(
        update={"data": folder / config.data, "output": folder / config.output}
    )


def _explain(error: Any) -> str:
    """One sentence for one pydantic error."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    model: type[BaseModel] = TrainConfig
    for part in error["loc"][:-1]:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    valid = list(model.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.4)
    hint = f", did you mean {near[0]!r}?" if near else f"; valid keys are {valid}"
    return f"unknown key {where!r}{hint}"
