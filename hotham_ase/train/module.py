"""The training step, for Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from hotham_ase.nn.protocol import Network
from hotham_ase.train.config import OptimizerConfig
from hotham_ase.train.data.prepared import Prepared
from hotham_ase.train.loss.losses import Loss
from hotham_ase.train.soap import SOAP


class TrainingModule(pl.LightningModule):
    """Errors of predicted blocks as a weighted sum of named terms.

    Parameters
    ----------
    network
        What is trained.
    config
        Loss and optimizer settings.
    symbols
        Species in the order of the network's indices; for weights by pair of species only.
    """

    def __init__(
        self, network: Network, config: OptimizerConfig, symbols: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.progress = 0.0  # fraction of the run that is done, kept by RunClock
        self.loss = Loss.from_config(config.loss, symbols)
        self._sums: dict[str, dict[str, tuple[Any, int]]] = {"train": {}, "val": {}}

    def _in_reach(self, batch: Prepared) -> torch.Tensor:
        """(n_edges,) the pairs whose orbitals can overlap: those of every evaluation."""
        reach = self.network.cutoffs - self.network.config.hopping_margin
        i, j = batch.graph.species[batch.graph.edge_index]
        return torch.linalg.vector_norm(batch.graph.edge_vectors, dim=-1) < reach[i, j]

    def _step(self, batch: Prepared, stage: str) -> torch.Tensor:
        onsite, hopping = self.network(batch.graph, batch.geometry)
        errors = self.loss.errors(onsite, hopping, batch)
        loss, terms = self.loss(errors, self.progress)
        logged = {
            f"{stage}_loss": loss,
            f"{stage}_mae_meV": errors.mae(self._in_reach(batch)),
            f"{stage}_onsite_meV": errors.onsite_mae,
            **{f"{stage}_{name}_meV": value for name, value in terms.items()},
        }
        for key, value in logged.items():
            # every step counts alike in an epoch's mean, however many structures it has
            total, n_steps = self._sums[stage].get(key, (0.0, 0))
            self._sums[stage][key] = total + 1000 * value.detach(), n_steps + 1
        return 1000 * loss

    def training_step(self, batch: Prepared, batch_idx: int) -> torch.Tensor:
        """Loss in meV."""
        return self._step(batch, "train")

    def validation_step(self, batch: Prepared, batch_idx: int) -> torch.Tensor:
        """Loss in meV."""
        return self._step(batch, "val")

    def log_means(self, stage: str) -> None:
        """Log what the steps of an epoch gave, and begin anew.

        Lightning's own means take 4 % of a step on a small structure.
        """
        for key, (total, n_steps) in self._sums[stage].items():
            self.log(key, total / n_steps)
        self._sums[stage] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of what is not frozen; :class:`RunClock` sets its learning rate."""
        trained = [p for p in self.parameters() if p.requires_grad]
        if self.config.optimizer == "adam":
            return torch.optim.Adam(trained, lr=self.config.peak)
        return SOAP(trained, lr=self.config.peak)
