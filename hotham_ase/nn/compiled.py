"""Functions compiled by torch where that works, and as they are where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from hotham_ase.nn.model import HotHam


class Compiler:
    """Compiles functions at their first call, for arguments of any size.

    Compilation needs a C++ compiler (or Triton on a GPU). Where it fails, one warning says so, and
    all functions of this compiler are used as they are from then on.
    """

    def __init__(self) -> None:
        self.works = True

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The compiled function; its arguments are tensors and dataclasses of them."""
        compiled = torch.compile(function, dynamic=True)

        def call(*args: Any) -> Any:
            if not self.works:
                return function(*args)
            try:
                return compiled(*args)
            except Exception as error:  # compilers fail in many ways
                value = function(*args)  # what the function itself raises is no matter of theirs
                self.works = False
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=2)
                return value

        return call


def compile_network(network: HotHam) -> Compiler:
    """Compile what a prediction spends its time in; changes the network."""
    compiler = Compiler()
    hot = [(interaction, "message") for interaction in network.interactions]
    for module, method in [*hot, (network, "hopping_blocks")]:
        setattr(module, method, compiler(getattr(module, method)))
    return compiler
