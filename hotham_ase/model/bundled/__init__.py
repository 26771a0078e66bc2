"""The bundled model files, and what can be said of a model file without loading the network."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
MAX_HEADER = 1 << 26  # bytes


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def model_path(model: str | Path) -> Path | None:
    """The file that a path or a bundled model's name stands for; None if there is none."""
    if Path(model).is_file():
        return Path(model)
    return FOLDER / f"{model}.safetensors" if str(model) in bundled_models() else None


def bundled_for(symbols: Iterable[str]) -> str | None:
    """The bundled model of the fewest species that knows all of these; None if there is none."""
    known = {name: set(species_of_file(name) or ()) for name in bundled_models()}
    able = [name for name, species in known.items() if species.issuperset(symbols)]
    return min(able, key=lambda name: len(known[name]), default=None)


def species_of_file(model: str | Path) -> tuple[str, ...] | None:
    """Chemical symbols that a model knows, from the header of its safetensors file.

    Nothing is checked: what cannot be read is left to :func:`hotham_ase.model.model.load_model`,
    which says what is wrong, but takes seconds to import.

    Parameters
    ----------
    model
        A bundled model's name, or a path.

    Returns
    -------
    None if the file does not say.
    """
    path = model_path(model)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))  # the format's: length, then JSON
            header = json.loads(file.read(min(length, MAX_HEADER)))
        entries = json.loads(header["__metadata__"]["species"])
        return tuple(str(entry["symbol"]) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
        return None
