"""Provenance: where a sample comes from, as far as it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotham_ase.errors import HothamError

_KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "code", "version", "xc", "overlap", "eigenvalues", "n_valence"), str),
    "scf_converged": bool,
    "scf_steps": int,
}


def name_of(folder: Path) -> str:
    """Name that a sample gets from its folder: the last two parts of the path."""
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}"


class ProvenanceError(HothamError, ValueError):
    """A provenance with entries that cannot be what they are called, or cannot be stored."""


@dataclass(frozen=True)
class Provenance:
    """What is known of the calculation behind a sample; None where something is not known.

    Attributes
    ----------
    name
        Of the sample: the last two parts of its folder's path, or what it was given.
    code, version
        The DFT code, and its release.
    xc
        The functional, in the code's words.
    scf_converged, scf_steps
        Whether the density converged, and in how many steps; H of a run of one step is H0.
    overlap
        "read", or "computed" from the basis: then a data set need not hold S.
    eigenvalues
        "compared" where H and S were found to give the eigenvalues that the run printed.
    n_valence
        "given" by the folder or the user, or "assumed".
    initial : Provenance or None
        Of the run that H0 was taken from.
    extra
        Everything else, JSON-able: it is kept, but nothing depends on it.

    Raises
    ------
    ProvenanceError
        If an entry is of another type, or ``extra`` is not JSON-able.
    """

    name: str | None = None
    code: str | None = None
    version: str | None = None
    xc: str | None = None
    scf_converged: bool | None = None
    scf_steps: int | None = None
    overlap: str | None = None
    eigenvalues: str | None = None
    n_valence: str | None = None
    initial: Provenance | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, kind in _KINDS.items():
            value = getattr(self, key)
            if value is not None and type(value) is not kind:
                raise ProvenanceError(
                    f"provenance must have a {kind.__name__} as its {key}, got {value!r:.50}"
                )
        try:
            extra = json.loads(json.dumps(dict(self.extra), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ProvenanceError(f"provenance must be JSON-able: {error}") from error
        object.__setattr__(self, "extra", extra)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Provenance:
        """Read what :meth:`to_dict` returns.

        Whatever is null, of another type or under another key is kept in ``extra``, so that
        records of other versions and programs pass through unchanged.
        """
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in record.items():
            if key == "initial" and isinstance(value, Mapping):
                known[key] = cls.from_dict(value)
            else:
                believed = type(value) is _KINDS.get(key)
                (known if believed else extra)[key] = value
        return cls(**known, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """All that is known as one JSON-able object, its keys sorted."""
        known = {key: getattr(self, key) for key in _KINDS}
        known["initial"] = None if self.initial is None else self.initial.to_dict()
        record = {**self.extra, **{k: value for k, value in known.items() if value is not None}}
        return dict(sorted(record.items()))
