"""Which processes train together, and on what."""

from __future__ import annotations

import os

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from hotham_ase.train.config import ConfigError, TrainConfig


def check_device(config: TrainConfig) -> None:
    """Refuse a device that is not there.

    Raises
    ------
    ConfigError
        If there is no GPU, or there are fewer than processes.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and there == 0:
        raise ConfigError(
            "device: cuda needs a GPU that torch can use, found none; use auto or cpu"
        )
    if config.device != "cpu" and 0 < there < config.devices:
        raise ConfigError(f"devices: got {config.devices}, but there are {there} GPUs")


def cluster(devices: int) -> ClusterEnvironment:
    """Where the rank of this process and the number of all come from.

    Processes are those that torchrun or srun has started on this machine, else one, which starts
    the others itself.

    Parameters
    ----------
    devices
        How many the configuration wants.

    Raises
    ------
    ConfigError
        If a launcher has started another number, or variables of one are left over.
    """
    if TorchElasticEnvironment.detect():
        _check_number(devices, int(os.environ["WORLD_SIZE"]), "torchrun")
        return TorchElasticEnvironment()
    tasks = _slurm_tasks()
    if tasks > 1:
        _check_number(devices, tasks, "srun")
        if int(os.environ.get("SLURM_NNODES", "1")) > 1:
            raise ConfigError("devices: processes on several machines cannot train together")
        job = int(os.environ.get("SLURM_JOB_ID", "0")) + int(os.environ.get("SLURM_STEP_ID", "0"))
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
        os.environ["WORLD_SIZE"] = str(tasks)
        os.environ.setdefault("MASTER_PORT", str(15000 + job % 10000))  # the same in all of them
    elif devices > 1 and "LOCAL_RANK" in os.environ:
        world = os.environ.get("WORLD_SIZE", "not set")
        if world != str(devices):
            raise ConfigError(
                f"devices: got {devices}, but LOCAL_RANK is set and WORLD_SIZE is {world}; unset "
                "LOCAL_RANK, or start processes with torchrun or srun"
            )
    environment = LightningEnvironment()
    if devices == 1:  # whatever LOCAL_RANK is left over
        environment.set_global_rank(0)
    return environment


def _slurm_tasks() -> int:
    """Tasks that srun has started, of which this is one; 1 without it."""
    if not {"SLURM_PROCID", "SLURM_LOCALID"} <= set(os.environ):
        return 1
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1")))


def _check_number(devices: int, started: int, launcher: str) -> None:
    if started > 1 and started != devices:
        raise ConfigError(
            f"devices: got {devices}, but {launcher} has started {started} processes; set "
            f"devices to {started}, or start one process"
        )
