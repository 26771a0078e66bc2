"""The networks there are, by their configurations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from hotham_ase.nn.model import HotHam, ModelConfig
from hotham_ase.nn.published.config import PublishedConfig
from hotham_ase.nn.published.network import PublishedHotHam

NetworkConfig: TypeAlias = ModelConfig | PublishedConfig
Network: TypeAlias = HotHam | PublishedHotHam
SHORTEST, LONGEST = 0.1, 1000.0  # Å, of the ranges in a model file


def build_network(
    config: NetworkConfig, shells: Sequence[Sequence[int]], cutoffs: Sequence[Sequence[float]]
) -> Network:
    """An untrained network.

    Parameters
    ----------
    config
        Its class decides which network.
    shells
        Angular momenta of the shells of each species.
    cutoffs : (n_species, n_species)
        Å; the longest hopping of each pair of species.
    """
    if isinstance(config, PublishedConfig):
        return PublishedHotHam(config, shells, cutoffs)
    return HotHam(config, shells, cutoffs)


def parse_config(text: str) -> NetworkConfig:
    """Read the JSON of a configuration; one that names no architecture is the default's.

    Raises
    ------
    json.JSONDecodeError, pydantic.ValidationError
        If the text is not JSON, or has unknown keys or values.
    """
    content = json.loads(text)
    if isinstance(content, dict) and content.get("architecture") == "published":
        return PublishedConfig.model_validate_json(text)
    return ModelConfig.model_validate_json(text)


def check_sizes(config: NetworkConfig, shapes: Iterable[Sequence[int]]) -> None:
    """Refuse a configuration that asks for far more than tensors of these shapes can hold.

    Raises
    ------
    ValueError
        If a number of channels, functions or hidden units exceeds all lengths of the tensors, or
        a range is beyond 1000 Å or so short that radial functions become countless.
    """
    longest = max((n for shape in shapes for n in shape), default=0)
    for name, value in config:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and number > longest:
                raise ValueError(
                    f"{name} must be at most {longest}, the longest side of its tensors, got "
                    f"{number:.6g}"
                )
            if isinstance(number, float) and not (
                number <= LONGEST and (number >= SHORTEST or not name.endswith("cutoff"))
            ):
                raise ValueError(
                    f"{name} must be at most {LONGEST} and no cutoff below {SHORTEST} Å, got "
                    f"{number:g}"
                )
