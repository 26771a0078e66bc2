"""Common cells of two layers by name, such as ``match:hbn,graphene:0.1%:200atoms``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotham_ase.errors import HothamError
from hotham_ase.layer_matching import match_layers
from hotham_ase.structure_files import StructureError, StructureWarning

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.layer_matching import LayerMatch

NUMBER = r"\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}"
WORDS: Mapping[str, str] = {  # what follows a colon, and what is captured of it
    "max_strain": rf"({NUMBER})%",
    "max_atoms": r"(\d{1,6})atoms",
    "angles": rf"({NUMBER})(?:-({NUMBER}))?deg",
    "distance": rf"({NUMBER})A",
}
USAGE = "BOTTOM,TOP[:2%][:500atoms][:0-30deg][:3.4A]"


@dataclass(frozen=True)
class MatchNames:
    """Names of the smallest common cells of two layers within a strain.

    Attributes
    ----------
    layers
        What makes a layer, by its name: ``bilayer-x`` is two layers of ``x``.
    distances
        Å, between layers of one or two materials.
    """

    layers: Mapping[str, Callable[[], Atoms]] = field(repr=False)
    distances: Mapping[frozenset[str], float] = field(repr=False)

    def usage(self, name: str) -> str:
        """How it is written."""
        return f"{name}:{USAGE}"

    def build_from(self, text: str, name: str, words: Sequence[str]) -> Atoms:
        """Build what a name and the words behind it, separated by colons, stand for.

        Raises
        ------
        StructureError
            If it is misspelt, or there is no such cell.

        Warns
        -----
        StructureWarning
            Always: which cell was taken.
        """
        names = (words[0] if words else "").lower().split(",")
        unknown = [layer for layer in names if layer not in self.layers]
        if len(names) != 2 or unknown:
            what = "" if not any(unknown) else f": {unknown[0]!r} is not one of them"
            raise StructureError(
                f"the structure must be written {self.usage(name)}, BOTTOM and TOP of "
                f"{', '.join(self.layers)}, got {text!r}{what}"
            )
        given = self._settings(text, name, words[1:])
        materials = frozenset(layer.removeprefix("bilayer-") for layer in names)
        distance = given.pop("distance", self.distances[materials])
        try:
            match = match_layers(*(self.layers[layer]() for layer in names), **given)[0]
        except HothamError as error:
            raise StructureError(f"{text}: {error}") from error
        warnings.warn(f"{text} is {_said(match, names)}", StructureWarning, stacklevel=4)
        return match.build(distance)

    def _settings(self, text: str, name: str, words: Sequence[str]) -> dict[str, Any]:
        """Arguments of :func:`match_layers`, and the distance in Å."""
        given: dict[str, Any] = {}
        for word in words:
            for key, pattern in WORDS.items():
                found = re.fullmatch(pattern, word)
                if found is not None and key not in given:
                    low, *high = (float(x) for x in found.groups() if x is not None)
                    given[key] = (low, *high) if high else low
                    break
            else:
                raise StructureError(
                    f"the structure must be written {self.usage(name)}, got {text!r}: {word!r} is "
                    "not the most strain (2%), the most atoms (500atoms), the angle or a range of "
                    "it (0-30deg), or the distance of the layers in Å (3.4A), each once; "
                    ":2x2x1 behind it repeats the cell"
                )
        if "max_strain" in given:
            given["max_strain"] /= 100
        if "max_atoms" in given:
            given["max_atoms"] = int(given["max_atoms"])
        return given


def _said(match: LayerMatch, names: Sequence[str]) -> str:
    """A cell in words."""
    return (
        f"taken as the smallest common cell within these limits: {match.n_atoms} atoms, "
        f"{names[1]} turned by {match.angle:.2f}° and strained by up to {match.strain:.2%}"
    )
