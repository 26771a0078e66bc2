"""The training step, for Lightning."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch

from hotham_ase.nn.model import HotHam
from hotham_ase.train.config import OptimizerConfig
from hotham_ase.train.data import Prepared
from hotham_ase.train.losses import block_errors, eigenbasis_error, mean_absolute


class TrainingModule(pl.LightningModule):
    """Mean absolute error of blocks and in the reference's eigenbasis, energy zero removed.

    Parameters
    ----------
    network
        What is trained.
    config
        Optimizer settings.
    """

    def __init__(self, network: HotHam, config: OptimizerConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def _step(self, batch: Prepared, stage: str) -> torch.Tensor:
        onsite, hopping = self.network(batch.graph, batch.geometry)
        onsite, hopping, _ = block_errors(onsite, hopping, batch)
        target = batch.target
        onsite_mae = mean_absolute(onsite, target.onsite_mask)
        hopping_mae = mean_absolute(hopping, target.hopping_mask)
        n_onsite, n_hopping = target.onsite_mask.sum(), target.hopping_mask.sum()
        mae = (onsite_mae * n_onsite + hopping_mae * n_hopping) / (n_onsite + n_hopping)
        aligned = eigenbasis_error(onsite, hopping, batch)
        weights = self.config.onsite_weight, self.config.eigenbasis_weight
        loss = 1000 * (hopping_mae + weights[0] * onsite_mae + weights[1] * aligned)
        logged = {
            f"{stage}_loss": loss,
            f"{stage}_mae_meV": 1000 * mae,
            f"{stage}_onsite_meV": 1000 * onsite_mae,
            f"{stage}_eigenbasis_meV": 1000 * aligned,
        }
        for key, value in logged.items():
            self.log(
                key,
                value.detach(),
                on_step=False,
                on_epoch=True,
                batch_size=1,
            )
        return loss

    def training_step(self, batch: Prepared, batch_idx: int) -> torch.Tensor:
        """Loss in meV."""
        return self._step(batch, "train")

    def validation_step(self, batch: Prepared, batch_idx: int) -> torch.Tensor:
        """Loss in meV."""
        return self._step(batch, "val")

    def transfer_batch_to_device(
        self, batch: Prepared, device: torch.device, dataloader_idx: int
    ) -> Prepared:
        """Lightning's hook for our own batches."""
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        """Adam; linear warm-up, then a half cosine to zero at the last step."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(self.config.warmup * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (
                1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
