"""Files of settings: YAML of plain values only, each key once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from hotham_ase.errors import HothamError

LARGEST = 2**20  # bytes
DEEPEST = 20  # levels


class SettingsError(HothamError, ValueError):
    """A file that is not one of settings; the message says where."""


class Settings(BaseModel):
    """Base of the sections of a file; the string below each setting says what it means."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Loader(yaml.SafeLoader):
    """Refuses aliases, with which a few lines become gigabytes, and keys that come twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise SettingsError(f"line {mark.line + 1}: aliases (*name) are not taken")
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise SettingsError(f"line {mark.line + 1}: nested deeper than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise SettingsError(f"line {key.start_mark.line + 1}: a key must be a word")
            if key.value in seen:
                raise SettingsError(f"line {key.start_mark.line + 1}: {key.value!r} comes twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_settings(path: Path) -> Any:
    """Content of a YAML file.

    Raises
    ------
    SettingsError
        If it is not YAML, is too large or too deep, has aliases, a key twice, or a number that is
        not finite.
    """
    if path.stat().st_size > LARGEST:
        raise SettingsError(f"{path} has more than 1 MiB, too much for a file of settings")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # made safe above
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not a YAML file: {error}") from error
    _check_finite(content, str(path), "")
    return content


def _check_finite(value: Any, path: str, where: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _check_finite(part, path, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for part in value:
            _check_finite(part, path, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{path}: {where}: must be a finite number, got {value}")
