"""How a prediction is made: where, in which precision, with how much memory."""

from __future__ import annotations

from dataclasses import dataclass

from hotham_ase.errors import UsageError
from hotham_ase.memory import parse_size


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a prediction, none of which changes H beyond its rounding.

    Attributes
    ----------
    device
        ``auto`` (a GPU where there is one), or a torch device.
    dtype
        Precision of the network, ``float32`` or ``float64``; the matrix is always float64.
    memory
        What the prediction may use, the matrix included (on a GPU: of the GPU's memory), as in
        ``"8GiB"`` or in bytes; by default three quarters of what is free.
    compile
        Use torch.compile: the first prediction takes minutes longer, later ones are faster.

    Raises
    ------
    UsageError
        If an option has a bad value, or this machine has no such device.

    Examples
    --------
    >>> PredictionOptions(dtype="half")
    Traceback (most recent call last):
    hotham_ase.errors.UsageError: dtype must be 'float32' or 'float64', got 'half'
    """

    device: str = "auto"
    dtype: str = "float32"
    memory: str | int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.compile, bool):
            raise UsageError(f"compile must be True or False, got {self.compile!r}")
        if self.dtype not in ("float32", "float64"):
            raise UsageError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        if self.memory is not None:
            parse_size(self.memory)
        if self.device not in ("auto", "cpu"):  # these need no torch, which is slow to import
            from hotham_ase.nn.devices import torch_device

            torch_device(self.device)
