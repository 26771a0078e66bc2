"""SOAP, with weights of one shape in one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

LARGEST_ROTATED = 512  # longer sides of a weight are left as they are
Sides = list[torch.Tensor | None]  # (n, d, d) for each side of length d; None where not rotated


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbases of the gradients' second moments.

    Σ G Gᵀ over all other sides is averaged for every side of a weight. Adam works on gradients that
    are rotated into its eigenvectors, and its steps are rotated back. Eigenvectors are renewed by
    one step of power iteration and a QR decomposition. The first gradients give the first
    eigenvectors and no step.

    The numbers are those of ``SOAP`` in the library pytorch-optimizer, whose states can be loaded,
    but for the choice of eigenvectors where the first gradients leave it open.
    There every weight is taken by itself; a network has many small ones, and here those of one
    shape are multiplied together. Means of gradients are kept rotated, which saves a rotation.

    Source: Vyas et al., arXiv 2409.11321, algorithm 3.

    Parameters
    ----------
    params
        Weights. Those of one dimension, and sides longer than 512, are not rotated.
    lr
        Learning rate.
    betas
        What the mean of gradients, and their second moments, keep of themselves in a step.
    eps
        Added to the root of the mean squares.
    precondition_frequency
        Steps between new eigenvectors.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        precondition_frequency: int = 10,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps}
        settings["precondition_frequency"] = precondition_frequency
        super().__init__(params, {**settings, "step": 0})
        self._stacks: dict[int, tuple[list[bool], list[_Stack]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take another state; stacks are made of it at the next step."""
        super().__setstate__(state)
        self._stacks = {}
        for weight, of_weight in self.state.items():
            if "exp_avg" in of_weight:
                self.state[weight] = _converted(of_weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            stacks = self._stacked(index)
            n_steps = group["step"]
            group["step"] += 1
            if n_steps == 0:
                continue
            beta, beta_sq = group["betas"]
            unbiased = math.sqrt(1 - beta_sq**n_steps) / (1 - beta**n_steps)
            for stack in stacks:
                stack.step(group["lr"] * unbiased, beta, beta_sq, group["eps"])
                if n_steps % group["precondition_frequency"] == 0:
                    stack.renew()
        return loss

    def _stacked(self, index: int) -> list[_Stack]:
        """Weights of a group that have a gradient, by shape; their states are parts of these."""
        group = self.param_groups[index]
        having = [p.grad is not None for p in group["params"]]
        if index in self._stacks and self._stacks[index][0] == having:
            return self._stacks[index][1]
        shapes: dict[torch.Size, list[torch.Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                if not self.state[weight]:
                    self.state[weight] = _first_state(weight.grad, group["betas"][1])
                shapes.setdefault(weight.shape, []).append(weight)
        stacks = []
        for weights in shapes.values():
            stack = _Stack.of(weights, [self.state[w] for w in weights])
            for k, weight in enumerate(weights):
                self.state[weight] = stack.state(k)
            stacks.append(stack)
        self._stacks[index] = having, stacks
        return stacks


def _first_state(grad: torch.Tensor, beta: float) -> dict[str, Any]:
    """Second moments of the first gradient and their eigenvectors; ``[]`` for other sides."""
    moments: list[Any] = []
    bases: list[Any] = []
    for side, length in enumerate(grad.shape):
        moments.append([])
        bases.append([])
        if grad.ndim < 2 or not 1 < length <= LARGEST_ROTATED:
            continue
        flat = grad.movedim(side, 0).flatten(1)
        moments[-1] = (1 - beta) * (flat @ flat.mT)
        # in double precision, once: in single precision the iteration may not converge
        vectors = torch.linalg.eigh(moments[-1].double()).eigenvectors
        bases[-1] = vectors.flip(1).to(grad.dtype)  # the largest first
    zero = torch.zeros_like(grad)
    return {"mean": zero, "square": zero, "moments": moments, "bases": bases}


def _converted(state: dict[str, Any]) -> dict[str, Any]:
    """A weight's state in the library's SOAP, where the mean is not rotated, as one of ours."""
    # rotations of a side of length 1 are left out
    moments, bases = ([m if len(m) > 1 else [] for m in state[name]] for name in ("GG", "Q"))
    mean = _rotated(state["exp_avg"][None], [b[None] if len(b) else None for b in bases])[0]
    return {"mean": mean, "square": state["exp_avg_sq"], "moments": moments, "bases": bases}


def _rotated(x: torch.Tensor, bases: Sides, back: bool = False) -> torch.Tensor:
    """(n, *shape) into the eigenbases, or back."""
    for basis in bases:
        # each side in turn goes to the end, so that at last all are in order again
        if basis is None:
            x = x.movedim(1, -1)
        else:
            others = x.shape[2:]
            x = torch.bmm(x.flatten(2).mT, basis.mT if back else basis)
            x = x.unflatten(1, others) if len(others) > 1 else x
    return x


@dataclass(frozen=True)
class _Stack:
    """Weights of one shape and what is known of their gradients, changed in place.

    Attributes
    ----------
    weights
        n of them.
    mean, square
        (n, *shape) of rotated gradients and of their squares.
    moments
        Means of Σ G Gᵀ.
    bases
        Eigenvectors of ``moments`` in columns, nearly.
    """

    weights: Sequence[torch.Tensor]
    mean: torch.Tensor
    square: torch.Tensor
    moments: Sides
    bases: Sides

    @classmethod
    def of(cls, weights: Sequence[torch.Tensor], states: Sequence[dict[str, Any]]) -> _Stack:
        """Copy the states of weights into one."""
        mean, square = (torch.stack([s[name] for s in states]) for name in ("mean", "square"))

        def sides(name: str) -> Sides:
            each = zip(*(state[name] for state in states), strict=True)
            return [torch.stack(side) if len(side[0]) else None for side in each]

        return cls(weights, mean, square, sides("moments"), sides("bases"))

    def state(self, k: int) -> dict[str, Any]:
        """Of one weight, as parts of this."""
        sides = {"moments": self.moments, "bases": self.bases}
        parts: dict[str, list[Any]] = {
            name: [[] if side is None else side[k] for side in each] for name, each in sides.items()
        }
        return {"mean": self.mean[k], "square": self.square[k], **parts}

    def step(self, rate: float, beta: float, beta_sq: float, eps: float) -> None:
        """Move the weights, and learn of their gradients."""
        grad = torch.stack([weight.grad for weight in self.weights])  # type: ignore[misc]
        rotated = _rotated(grad, self.bases)
        self.mean.lerp_(rotated, 1 - beta)
        self.square.mul_(beta_sq).addcmul_(rotated, rotated, value=1 - beta_sq)
        steps = _rotated(self.mean / self.square.sqrt().add_(eps), self.bases, back=True)
        for weight, step in zip(self.weights, steps.unbind(), strict=True):
            weight.sub_(step, alpha=rate)
        for side, moment in enumerate(self.moments, 1):
            if moment is not None:
                flat = grad.movedim(side, 1).flatten(2)  # (n, d, others)
                moment.baddbmm_(flat, flat.mT, beta=beta_sq, alpha=1 - beta_sq)

    def renew(self) -> None:
        """One step of power iteration towards the eigenvectors, the largest first."""
        mean = _rotated(self.mean, self.bases, back=True)
        for side, (moment, basis) in enumerate(zip(self.moments, self.bases, strict=True), 1):
            if moment is None or basis is None:
                continue
            moved = moment @ basis
            order = (basis * moved).sum(1).argsort(dim=1, descending=True)  # (n, d)
            columns = moved.gather(2, order[:, None].expand_as(moved))
            basis.copy_(torch.linalg.qr(columns).Q)
            order = order.view(*order.shape, *[1] * (mean.ndim - 2)).movedim(1, side)
            self.square.copy_(self.square.gather(side, order.expand_as(mean)))
        self.mean.copy_(_rotated(mean, self.bases))
