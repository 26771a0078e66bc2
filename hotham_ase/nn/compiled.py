"""Functions compiled by torch where that works, and as they are where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from hotham_ase.nn.model import HotHam


class CompiledFunction:
    """A function that is compiled at its first call, for arguments of any size.

    Compilation needs a C++ compiler (or Triton on a GPU). Where it fails, one warning says so, and
    the function itself is used from then on.

    Parameters
    ----------
    function
        To be called with tensors and dataclasses of them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] = torch.compile(function, dynamic=True)
        self.works: bool | None = None  # not known yet

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        if self.works is not None:
            return (self.compiled if self.works else self.function)(*args)
        try:
            value = self.compiled(*args)
        except Exception as error:  # compilers fail in many ways
            value, self.works = self.function(*args), False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=2)
            return value
        self.works = True
        return value


def compile_network(network: HotHam) -> HotHam:
    """Compile what a prediction spends its time in; changes the network and returns it."""
    hot = [(interaction, "message") for interaction in network.interactions]
    for module, method in [*hot, (network, "hopping_blocks")]:
        setattr(module, method, CompiledFunction(getattr(module, method)))
    return network
