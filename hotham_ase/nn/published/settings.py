"""Settings of a training of the published code: the train.json that belongs to a checkpoint."""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hotham_ase.errors import HothamError
from hotham_ase.nn.published.config import PublishedConfig

#: Settings without which the architecture is not known.
_REQUIRED = (
    "orbit", "rc", "basis_size", "L_max", "Ce", "Co", "using_layernorm", "restrict_last_out",
    "using_rearrangement_linear",
)  # fmt: skip
#: Settings of which the package knows some values only.
_LIMITED: dict[str, tuple[Any, ...]] = {
    "dft": ("abacus", "openmx"),
    "train_target": ("hamiltonian", "band", "hamiltonian_from_deeph"),
    "model_type": (0,),
    "using_layernorm2": (False,),
    "using_CoordinateTransformation": (True,),
    "edge_include_sc": (True,),
    "fix_average": (False,),
    "edgeselfinteraction": (False,),
    "using_manybody": (False,),
}
#: Settings that do not change what a trained network predicts.
_WITHOUT_EFFECT = (
    "trainset", "valset", "testset", "optimizer", "lambda_2", "lr_scheduler", "factor", "patience",
    "threshold", "lr", "new_lr", "epoch", "gamma", "batch_size", "shuffle", "seed", "prediction",
    "intdtype", "floatdtype", "complexdtype", "device", "model_save_path", "checkpoint_interval",
    "save_interval", "model_init_path", "init_from_model", "init_from_checkpoint", "split_stru",
    "band_min", "band_max", "band_weight", "band_zerosweight", "N_average", "v_max",
)  # fmt: skip
_KNOWN = (*_REQUIRED, *_LIMITED, *_WITHOUT_EFFECT, "cutoff")
#: What the settings of the architecture are called here.
_NAMES = {
    "l_max": "L_max", "channels": "Ce", "odd_channels": "Co", "cutoff": "rc",
    "n_radial": "basis_size", "layer_norm": "using_layernorm",
    "restrict_output": "restrict_last_out",
}  # fmt: skip


class CheckpointError(HothamError, ValueError):
    """A checkpoint or its settings are damaged, foreign, or of a kind that is not supported."""


@dataclass(frozen=True)
class PublishedSettings:
    """What a train.json says of the network and of the orbitals that it predicts.

    Attributes
    ----------
    path
        The file, for messages.
    config
        Architecture.
    shells
        By element the angular momenta of its shells, as listed.
    radii
        By element the range of its orbitals in Bohr; None where pairs reach as far as
        ``config.cutoff``.
    rearranged
        Whether the readout's weights are one matrix for each irrep.
    content
        All settings as they are in the file.
    """

    path: Path
    config: PublishedConfig
    shells: Mapping[str, tuple[int, ...]]
    radii: Mapping[str, float] | None
    rearranged: bool
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> PublishedSettings:
        """Read and check a file.

        Raises
        ------
        CheckpointError
            If it is not JSON, or a setting is missing, unknown, wrong or not supported.
        OSError
            If it cannot be read.
        """
        options = _read_json(path)
        _check_settings(options, path)
        config, shells = _config(options, path), _shells(options["orbit"], path)
        radii = options.get("cutoff")
        # OpenMX cuts orbitals off at radii of their own, ABACUS at those that rc was taken from
        if radii is None and options.get("dft") == "openmx":
            warnings.warn(
                f"{path} has no cutoff radii: pairs will reach as far as rc = {options['rc']} Å, "
                "while a training on OpenMX results took the pairs of these",
                stacklevel=3,
            )
        if not isinstance(radii, dict | None):
            raise CheckpointError(
                f"{path}: cutoff must map elements to radii in Bohr, got {radii!r}"
            )
        if radii is not None:
            radii = {symbol: _radius(radii, symbol, path) for symbol in shells}
        rearranged = options["using_rearrangement_linear"]
        return cls(path, config, shells, radii, rearranged, options)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON with // comments and trailing commas."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    # the published examples have // comments and trailing commas; strings stay as they are
    string = r'("(?:\\.|[^"\\])*")'
    text = re.sub(string + r"|//[^\n]*", lambda m: m[1] or "", text)
    text = re.sub(string + r"|,(?=\s*[}\]])", lambda m: m[1] or "", text)
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise CheckpointError(f"{path} is not JSON that can be read: {error}") from error
    if not isinstance(options, dict):
        raise CheckpointError(f"{path} must hold a JSON object of settings")
    return options


def _check_settings(options: Mapping[str, Any], path: Path) -> None:
    """Refuse unknown and missing settings, and values that the package does not know."""
    for key, value in options.items():
        if key not in _KNOWN:
            near = difflib.get_close_matches(key, _KNOWN, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CheckpointError(f"{path}: unknown setting {key!r}{hint}")
        if key in _LIMITED and value not in _LIMITED[key]:
            raise CheckpointError(
                f"{path}: {key} = {value!r} is not supported, only "
                f"{' or '.join(map(repr, _LIMITED[key]))}"
            )
    missing = [key for key in _REQUIRED if key not in options]
    if missing:
        raise CheckpointError(f"{path}: settings {missing} are missing")
    rearranged = options["using_rearrangement_linear"]
    if not isinstance(rearranged, bool):
        raise CheckpointError(
            f"{path}: using_rearrangement_linear must be true or false, got {rearranged!r}"
        )


def _config(options: Mapping[str, Any], path: Path) -> PublishedConfig:
    try:
        # strictly, no text for numbers; only from JSON may lists be tuples then
        text = json.dumps({target: options[source] for target, source in _NAMES.items()})
        return PublishedConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = _NAMES.get(str(problem["loc"][0]), "") if problem["loc"] else "Ce, Co"
        raise CheckpointError(f"{path}: {where}: {problem['msg']}") from error


def _shells(orbit: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Angular momenta of each element's shells, from labels as ``2s``."""
    if not isinstance(orbit, dict) or not orbit:
        raise CheckpointError(f"{path}: orbit must map elements to lists of shells, got {orbit!r}")
    shells = {}
    for symbol, labels in orbit.items():
        if not isinstance(labels, list):
            raise CheckpointError(
                f"{path}: orbit of {symbol} must be a list of shells as '2s', '2p', …, "
                f"got {labels!r}"
            )
        matches = [re.fullmatch(r"\d*([spdfg])", str(label)) for label in labels]
        shells[symbol] = tuple("spdfg".index(m[1]) for m in matches if m)
        if len(shells[symbol]) != len(labels):
            raise CheckpointError(
                f"{path}: orbit of {symbol} must be shells as '2s', '2p', …, got {labels}"
            )
    return shells


def _radius(radii: Mapping[str, Any], symbol: str, path: Path) -> float:
    if symbol not in radii:
        raise CheckpointError(f"{path}: cutoff lacks a radius of {symbol}")
    radius = radii[symbol]
    if isinstance(radius, bool) or not isinstance(radius, int | float):
        raise CheckpointError(
            f"{path}: cutoff of {symbol} must be a number in Bohr, got {radius!r}"
        )
    return radius
