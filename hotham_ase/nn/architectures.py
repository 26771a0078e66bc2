"""The architectures there are, by name; each is imported when a file or a setting asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hotham_ase.nn.config import ModelConfig, NetworkConfig

if TYPE_CHECKING:
    from hotham_ase.nn.protocol import Network

SHORTEST, LONGEST = 0.1, 1000.0  # Å, of the ranges in a model file


class Architecture(NamedTuple):
    """What gives the class of the settings, without torch, and that of the network."""

    config: Callable[[], type[NetworkConfig]]
    network: Callable[[], Callable[..., Network]]


def _default() -> Callable[..., Network]:
    from hotham_ase.nn.model import HotHam

    return HotHam


def _published_config() -> type[NetworkConfig]:
    from hotham_ase.nn.published.config import PublishedConfig

    return PublishedConfig


def _published() -> Callable[..., Network]:
    from hotham_ase.nn.published.network import PublishedHotHam

    return PublishedHotHam


ARCHITECTURES = {
    "default": Architecture(lambda: ModelConfig, _default),
    "published": Architecture(_published_config, _published),
}


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
    for architecture in ARCHITECTURES.values():
        if isinstance(config, architecture.config()):
            return architecture.network()(config, shells, cutoffs)
    raise TypeError(f"config must be one of an architecture, got {type(config).__name__}")


def config_class(content: object) -> type[NetworkConfig]:
    """The class of settings with this content; without ``architecture`` they are the default's."""
    name = content.get("architecture") if isinstance(content, Mapping) else None
    return ARCHITECTURES.get(str(name), ARCHITECTURES["default"]).config()


def read_config(content: Any) -> NetworkConfig:
    """Settings from their content, as in files; ready ones are taken as they are.

    Raises
    ------
    pydantic.ValidationError
        If there are unknown keys or values.
    """
    if isinstance(content, NetworkConfig):
        return content
    return config_class(content).model_validate(content)


def check_sizes(config: NetworkConfig, shapes: Iterable[Sequence[int]]) -> None:
    """Refuse a configuration that asks for far more than tensors of these shapes can hold.

    Raises
    ------
    ValueError
        If a number of channels, functions or hidden units exceeds all lengths of the tensors, or
        a range is beyond 1000 Å or so short that radial functions become countless.
    """
    # numbers of channels are lengths of tensors, floats are ranges in Å
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
