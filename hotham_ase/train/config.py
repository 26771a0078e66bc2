"""The configuration of a training run: one YAML file, checked by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from hotham_ase.nn.architectures import config_class, read_config
from hotham_ase.nn.config import ModelConfig, NetworkConfig
from hotham_ase.settings import Settings, SettingsError, load_settings
from hotham_ase.train.durations import Duration, parse_duration
from hotham_ase.train.loss.config import LossConfig

DEFAULT_EPOCHS = 200
LEARNING_RATES = {"soap": 1e-2, "adam": 4e-3}


class ConfigError(SettingsError):
    """A configuration that cannot be used; the message names the key."""


class SplitConfig(Settings):
    """How structures are divided, every group (the name up to the last "/") by itself.

    Groups too small to give each part a structure are divided together.
    """

    train: float = Field(0.75, gt=0, le=1)
    """This fraction is trained on; all three sum to 1."""
    validation: float = Field(0.10, ge=0, lt=1)
    """This fraction decides which weights are best."""
    test: float = Field(0.15, ge=0, lt=1)
    """This fraction tells the errors of the model."""
    seed: int = Field(0, ge=0, lt=2**32)
    """The seed decides how structures are shuffled before the division."""
    exclude: tuple[str, ...] = ()
    """Structures are left out altogether if their name or their group fits one of these patterns,
    like ``graphite/AA_*``. The others come into the parts where they would be with these."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class OptimizerConfig(Settings):
    """How weights are learned."""

    max_epochs: int | None = Field(None, ge=1, le=10**9)
    """There are so many passes over the training set; the learning rate falls to zero over them. By
    default there are 200, or as many as ``max_time`` allows."""
    max_time: Duration | None = None
    """The run may take this time, like ``1h`` or ``55min``, from its start to its last step. The
    learning rate falls to zero in this time, so that the model is the best one of it. Earlier
    starts of a resumed run count. By default there is no limit."""
    optimizer: Literal["soap", "adam"] = "soap"
    """The optimizer is ``soap``, Adam in the eigenbases of Shampoo's preconditioners, or ``adam``.
    A step of ``soap`` takes about a tenth more time, but far fewer are needed."""
    learning_rate: float | None = Field(None, gt=0)
    """The rate reaches this value after ``warmup`` and falls from there; by default it is 0.01 for
    ``soap`` and 0.004 for ``adam``."""
    warmup: float = Field(0.02, ge=0, lt=1)
    """The rate rises in this fraction of the run. The first steps set the scale of Adam's averages;
    larger ones lose the starting point."""
    batch_size: int | None = Field(None, ge=1)
    """A step takes so many structures per process. By default it is 1 for crystals, which have
    thousands of blocks each, and for molecules as many as have 256 hopping pairs together, up to
    32 and an eighth of the training set."""
    batch_pairs: int | None = Field(None, ge=1)
    """Instead of ``batch_size``, batches may be filled up to so many hopping pairs per process.
    This is for data sets of structures of very different sizes, and for GPUs, which small
    structures leave idle."""
    gradient_clip: float = Field(1.0, gt=0)
    """The norm of the gradient is cut to this value: a rare structure must not undo what was
    learned."""
    ema: float = Field(0.0, ge=0, lt=1)
    """A running average of the weights with this decay is validated and saved in their place; 0 is
    off. It is off since the learning rate falls to zero, which averages already; try 0.99 where it
    does not."""
    patience: int | None = Field(None, ge=1)
    """The run ends when the validation loss has not fallen for so many epochs. It is off since the
    loss falls most at the end, where the learning rate falls."""
    loss: LossConfig = LossConfig()
    """The loss is a weighted sum of terms."""
    seed: int = Field(0, ge=0, lt=2**32)
    """The seed decides the first weights and the order of structures."""

    @model_validator(mode="after")
    def _one_size_of_batches(self) -> OptimizerConfig:
        if self.batch_pairs is not None and self.batch_size is not None:
            raise ValueError("give batch_size or batch_pairs, not both")
        return self

    @property
    def peak(self) -> float:
        """The largest learning rate."""
        return LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def epochs(self) -> int | None:
        """Passes over the training set; None where only the time ends the run."""
        if self.max_epochs is None and self.max_time is None:
            return DEFAULT_EPOCHS
        return self.max_epochs


class TrainConfig(Settings):
    """A training run."""

    data: Path
    """The data set is an HDF5 file of ``hotham import``; a relative path is relative to this file.
    """
    output: Path = Path("run")
    """Checkpoints, logs and the model go into this folder; a relative path is relative to this
    file."""
    name: str = Field("model", pattern=r"^[\w.+-]+$")
    """The model has this name, and so has its file."""
    model: Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(read_config)] = ModelConfig()
    """The architecture has the following settings; ``architecture: published`` is that of the
    published code, which has others."""
    baseline: bool = True
    """If true, the two-centre part of H (or H − H0) is fitted beforehand and the network learns the
    rest only; otherwise it learns all of it."""
    learns_correction: bool = Field(False, alias="initial_hamiltonian")
    """If true, the network learns the correction to H0, the data's initial Hamiltonian, which every
    structure must have, whatever ``physics`` says. A prediction then needs H0 too. It is off since
    a prediction should not need a DFT code."""
    physics: Literal["auto", "none"] = "auto"
    """With ``auto`` the network learns H − H0 with H0 = T + V_nl + V_NA + V_fit, computed from the
    structure, if all elements of the data have pseudopotentials; V_fit, a short-ranged potential of
    each element, is fitted to the training set beforehand. With ``none`` it learns all of H. With
    ``init_from`` it learns what that model did."""
    split: SplitConfig = SplitConfig()
    """Structures are divided as follows, every group (the name up to the last "/") by itself."""
    training: OptimizerConfig = OptimizerConfig()
    """Weights are learned as follows."""
    init_from: str | None = None
    """The run goes on from this model, a file or a bundled model's name. Species of the data that
    it does not know are added. Its architecture is kept."""
    freeze: tuple[str, ...] = ()
    """Parameters that fit one of these patterns, like ``interactions.*``, stay as they are."""
    refit_baseline: Literal["new", "all"] = "new"
    """With ``init_from``, ``new`` pairs of species get a new baseline, or ``all`` do."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The device is ``auto``, ``cpu`` or ``cuda``."""
    devices: int = Field(1, ge=1, le=1024)
    """So many processes train together, each on its own GPU or on the CPU."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """The precision is ``32``, or ``bf16-mixed`` or ``16-mixed`` for matrix products of fewer
    digits. It is 32 since errors below a meV want all digits."""
    threads: int | None = Field(None, ge=1, le=1024)
    """The CPU works with so many threads; by default torch chooses."""
    loaders: int = Field(1, ge=0, le=1024)
    """So many threads read and prepare structures ahead of the training; with 0 they are read when
    needed."""
    cache: float = Field(4.0, ge=0)
    """Prepared structures may take so many GiB of memory; beyond it they are prepared anew when
    needed."""
    checkpoint_steps: int = Field(500, ge=1)
    """So many steps lie between checkpoints within an epoch; each epoch ends with one anyway."""

    @classmethod
    def section(cls, key: str, value: Any) -> type[BaseModel] | None:
        """See :meth:`Settings.section`; the architecture has its own class of settings."""
        return config_class(value) if key == "model" else super().section(key, value)

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_is_text(cls, value: Any) -> Any:
        return str(value)  # YAML reads 32 as a number

    def within(self, max_time: str) -> TrainConfig:
        """The same run with another ``max_time``, like ``1h``.

        Raises
        ------
        ConfigError
            If it is not a time.
        """
        try:
            training = self.training.model_copy(update={"max_time": parse_duration(max_time)})
        except ValueError as error:
            raise ConfigError(f"max_time: {error}") from error
        return self.model_copy(update={"training": training})

    @model_validator(mode="after")
    def _check_start(self) -> TrainConfig:
        if self.init_from is None and self.freeze:
            raise ValueError("freeze needs init_from: there is nothing to keep")
        if self.init_from is None and self.refit_baseline != "new":
            raise ValueError("refit_baseline needs init_from")
        return self


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
        config = load_settings(path, TrainConfig)
    except SettingsError as error:
        raise ConfigError(str(error)) from error
    # a name that is no file is that of a bundled model
    folder = path.resolve().parent
    places: dict[str, Path | str] = {"data": folder / config.data, "output": folder / config.output}
    if config.init_from is not None and (folder / config.init_from).is_file():
        places["init_from"] = str(folder / config.init_from)
    return config.model_copy(update=places)
