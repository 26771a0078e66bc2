"""What was measured of a case, kept after every step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.large.stages import Usage
from hotham_ase.files import replacing


@dataclass
class Record:
    """One case.

    Attributes
    ----------
    case, structure, model
        Their names.
    setting
        Machine, memory and model, as they were at the beginning.
    n_atoms, n_orbitals, n_pairs
        Sizes; pairs in both directions.
    n_filled
        Bands below the Fermi level.
    n_bands
        At each k-point, half of them filled.
    steps
        What every step took, by stages.
    kpoints
        ``label``, ``kpt`` and ``energies`` (eV, absolute).
    path
        Of the last run: ``kpts``, ``x`` (Å⁻¹), ``labels`` and ``fermi_level`` (eV).
    density
        ``energies``, ``weights``, ``errors``, ``sigma``, ``n_moments`` and ``n_vectors``.
    off_dense
        eV; largest deviation from dense solution, at the first k-point.
    said
        Plan, warnings and what else has to be said.
    """

    case: str
    structure: str
    model: str = ""
    setting: str = ""
    n_atoms: int = 0
    n_orbitals: int = 0
    n_pairs: int = 0
    n_filled: int = 0
    n_bands: int = 0
    steps: dict[str, dict[str, Usage]] = field(default_factory=dict)
    kpoints: list[dict[str, Any]] = field(default_factory=list)
    path: dict[str, Any] = field(default_factory=dict)
    density: dict[str, Any] = field(default_factory=dict)
    off_dense: float | None = None
    said: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Record:
        """From its file."""
        known = json.loads(path.read_text(encoding="utf-8"))
        known["steps"] = {
            step: {stage: Usage(**usage) for stage, usage in stages.items()}
            for step, stages in known["steps"].items()
        }
        return cls(**known)

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False))

    def say(self, sentence: str) -> None:
        """Keep a sentence once."""
        if sentence not in self.said:
            self.said.append(sentence)

    def taken(self, step: str) -> Usage:
        """By a whole step."""
        return sum(self.steps[step].values(), Usage())

    def of_kpoint(self, label: str) -> Usage:
        """By a k-point, without the search for its window."""
        stages = self.steps[label].items()
        return sum((usage for stage, usage in stages if stage in SOLVING), Usage())

    def is_kept(self, label: str) -> bool:
        """Whether a checkpoint had this k-point, so that it took no time."""
        return SOLVING[0] not in self.steps[label]

    @property
    def measured(self) -> list[str]:
        """Labels of k-points that took time."""
        return [k["label"] for k in self.kpoints if not self.is_kept(k["label"])]


#: Stages that every k-point has; the window is found once.
SOLVING = ("H(k), S(k)", "factorization", "eigensolution")
