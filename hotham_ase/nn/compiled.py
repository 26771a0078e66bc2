"""Functions compiled by torch where that works, and as they are where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch


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


def compile_methods(methods: Iterable[tuple[torch.nn.Module, str]]) -> None:
    """Compile some methods of modules in their place; where one fails, all stay as they are."""
    compiler = Compiler()
    for module, method in methods:
        setattr(module, method, compiler(getattr(module, method)))
