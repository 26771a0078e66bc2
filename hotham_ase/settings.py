"""Files of settings: YAML of plain values only, each key once."""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from hotham_ase.errors import HothamError

LARGEST = 2**20  # bytes
DEEPEST = 20  # levels
WIDTH = 96  # of comments


class SettingsError(HothamError, ValueError):
    """A file that is not one of settings; the message says where."""


class Settings(BaseModel):
    """Base of the sections of a file; the string below each setting says what it means."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def section(cls, key: str, value: Any) -> type[BaseModel] | None:
        """The class of the settings under a key, or of each in its list; None if there are none.

        Parameters
        ----------
        key
            As in a file.
        value
            What a file has there, which may choose the class.
        """
        field = keys(cls).get(key)
        return None if field is None else _class_within(field.annotation)


def _class_within(annotation: Any) -> type[BaseModel] | None:
    """The settings in an annotation like ``Part``, ``Part | None`` or ``tuple[Part, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_class_within, get_args(annotation))), None)


_Kind = TypeVar("_Kind", bound=Settings)


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


def load_settings(path: Path, kind: type[_Kind]) -> _Kind:
    """Settings of a YAML file.

    Parameters
    ----------
    path
        The file.
    kind
        Their class.

    Raises
    ------
    SettingsError
        If a key is unknown (the nearest valid one is named), a value is wrong, or the file is
        not YAML.
    """
    content = read_settings(path)
    if not isinstance(content, dict):
        needed = [key for key, field in keys(kind).items() if field.is_required()]
        raise SettingsError(f"{path} must hold keys and values, at least {', '.join(needed)}")
    try:
        _refuse_truth(content, kind, "")
        return kind.model_validate(content)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    except ValidationError as error:
        errors = error.errors()
        places = {e["loc"][:n] for e in errors for n in range(len(e["loc"]))}
        # of a list whose only section is wrong it says that the list is empty, too
        inner = [e for e in errors if e["loc"] not in places]
        raise SettingsError(
            f"{path}: " + "; ".join(_explain(e, content, kind) for e in inner)
        ) from error


def keys(model: type[BaseModel]) -> dict[Any, FieldInfo]:
    """The settings by their keys in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def commented(settings: BaseModel, off: Collection[str] = (), indent: str = "") -> list[str]:
    """Lines of YAML: every setting with its value, under a comment that says what it means.

    Parameters
    ----------
    settings
        Those to be written.
    off
        Names of settings whose lines are comments, too.
    indent
        What the lines begin with.
    """
    lines, content = [], settings.model_dump(mode="json", by_alias=True)
    for (name, value), (key, field) in zip(settings, keys(type(settings)).items(), strict=True):
        lines += comment(field.description or "", indent)
        parts = value if isinstance(value, tuple) else ()
        if isinstance(value, BaseModel):
            part = [f"{indent}{key}:", *commented(value, off, indent + "  ")]
        elif parts and isinstance(parts[0], BaseModel):
            part = [f"{indent}{key}:"]
            for one in parts:
                rows = commented(one, off, indent + "  ")
                first = next(n for n, row in enumerate(rows) if not row.lstrip().startswith("#"))
                rows[first] = f"{indent}- {rows[first].lstrip()}"
                part += rows
        else:
            part = [f"{indent}{key}: {_scalar(content[key])}"]
        begin = f"{indent}# " if name in off else indent
        lines += [begin + line.removeprefix(indent) for line in part]
    return lines


def comment(text: str, indent: str = "") -> list[str]:
    """Lines of a comment."""
    text = text.replace("``", "")
    return [f"{indent}# {line}" for line in textwrap.wrap(text, WIDTH - len(indent))]


def _scalar(value: Any) -> str:
    """One value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _section(model: type[BaseModel], key: str, value: Any) -> type[BaseModel] | None:
    return model.section(key, value) if issubclass(model, Settings) else None


def _refuse_truth(content: dict[Any, Any], model: type[BaseModel], where: str) -> None:
    """Refuse yes and no where a number or a word is wanted; Python takes True for 1.

    Raises
    ------
    SettingsError
        Naming the key.
    """
    for key, value in content.items():
        field = keys(model).get(key)
        if field is None:
            continue
        part = _section(model, key, value)
        sections = value if isinstance(value, list) else [value]
        if part is not None and all(isinstance(section, dict) for section in sections):
            for section in sections:
                _refuse_truth(section, part, f"{where}{key}.")
            continue
        wants_truth = field.annotation is bool
        if not wants_truth and _has_truth(value):
            raise SettingsError(f"{where}{key}: yes and no (true, false) have no meaning here")


def _has_truth(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        return any(map(_has_truth, parts))
    return isinstance(value, bool)


def _explain(error: Any, content: Any, kind: type[BaseModel]) -> str:
    """One sentence for one pydantic error in a file's content."""
    model: type[BaseModel] | None = kind
    *within, last = error["loc"] or ("",)
    for part in within:
        if isinstance(content, list) and isinstance(part, int):  # one of several sections
            content = content[part]
            continue
        content = content.get(part) if isinstance(content, dict) else None
        # None: within a list or a table of plain values
        model = None if model is None else _section(model, str(part), content)
    where = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden" or model is None:
        said = str(error["msg"]).removeprefix("Value error, ")
        return f"{where}: {said}" if where else said
    valid = list(keys(model))
    near = difflib.get_close_matches(str(last), valid, n=1, cutoff=0.4)
    hint = f", did you mean {near[0]!r}?" if near else f"; valid keys are {valid}"
    return f"unknown key {where!r}{hint}"
