"""The networks there are, by their configurations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

from hotham_ase.nn.model import HotHam, ModelConfig
from hotham_ase.nn.published import PublishedConfig, PublishedHotHam

NetworkConfig: TypeAlias = ModelConfig | PublishedConfig
Network: TypeAlias = HotHam | PublishedHotHam


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
