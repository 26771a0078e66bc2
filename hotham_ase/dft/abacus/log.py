"""What ABACUS's running log says of a calculation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Rydberg

from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import find_one, read_text

ABACUS_RYDBERG = 13.605698066  # eV as ABACUS converts what it prints
_MOST = 256 * 2**20  # bytes of a log
_NUMBER = r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"
_THREE = rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}"
_CONVERGED = "charge density convergence is achieved|#SCF IS CONVERGED#"
_NOT_CONVERGED = "convergence has not been achieved|SCF IS NOT CONVERGED"


@dataclass(frozen=True)
class Log:
    """What a reader needs of running_scf.log.

    Attributes
    ----------
    n_valence
        Valence electrons by the label of the atom type.
    n_electrons : float or None
        Electrons that the run used; None if the log counts none, as with ``nelec`` in INPUT.
    fermi_level : float or None
        eV on the scale of the matrices.
    scaled_positions : (n_atoms, 3) or None
        Fractional coordinates that the run started from, where they are printed.
    vectors : (3, 3) or None
        Lattice vectors in units of the lattice constant, with six digits.
    provenance
        Version, functional, energy, convergence.
    """

    n_valence: dict[str, float]
    n_electrons: float | None
    fermi_level: float | None
    scaled_positions: np.ndarray | None = field(repr=False)
    vectors: np.ndarray | None = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)


def read_log(out: Path, labels: Sequence[str]) -> Log:
    """Read running_scf.log.

    Parameters
    ----------
    out
        The folder OUT.suffix.
    labels
        Atom types in the structure file's order.

    Raises
    ------
    DFTReadError
        If the log is missing, or ends before it says whether the calculation converged.
    """
    path = find_one(out, ("running_scf.log",))
    if path is None:
        raise DFTReadError(f"{out} has no running_scf.log, which gives the valence electrons")
    text = read_text(path, _MOST)

    def last(pattern: str) -> str | None:
        found = re.findall(pattern, text, flags=re.IGNORECASE | re.MULTILINE)
        return found[-1] if found else None

    if re.search(_CONVERGED, text):
        converged = True
    elif re.search(_NOT_CONVERGED, text, re.I):
        converged = False
    else:
        raise DFTReadError(
            f"{path} does not say whether the calculation converged: it is cut short, or the run "
            "was stopped"
        )
    electrons = last(rf"nelec now:?\s*=\s*{_NUMBER}")
    electrons = electrons or last(rf"number of electrons:?\s*=\s*{_NUMBER}")
    energy = last(rf"FINAL_ETOT_IS\s+{_NUMBER}")
    steps = re.findall(r"ELEC\s*=\s*(\d{1,9})\b", text)
    provenance = {
        "version": last(r"ABACUS v(\S+)"),
        "xc": last(r"exchange-correlation functional\s*=\s*(\S+)"),
        "energy": None if energy is None else float(energy) * (Rydberg / ABACUS_RYDBERG),
        "scf_converged": converged,
        "scf_steps": int(steps[-1]) if steps else None,
    }
    return Log(
        n_valence=_n_valence(text, labels),
        n_electrons=None if electrons is None else float(electrons),
        fermi_level=_fermi_level(last, path),
        scaled_positions=_rows(rf"^\s*taud_\S+\s+{_THREE}", text),
        vectors=_lattice_vectors(text),
        provenance=provenance,
    )


def _n_valence(text: str, labels: Sequence[str]) -> dict[str, float]:
    """Valence electrons by label; with ``nelec`` in INPUT only the pseudopotentials tell."""
    counted = re.findall(
        rf"^\s*electron number of element (\S+)\s*=\s*{_NUMBER}", text, re.I | re.M
    )
    if counted:
        return {label: float(n) for label, n in counted}
    # the pseudopotentials are listed in the order of the types
    read = re.findall(rf"^\s*valence electrons\s*=\s*{_NUMBER}", text, re.I | re.M)
    if len(read) != len(labels):
        return {}
    return {label: float(n) for label, n in zip(labels, read, strict=True)}


def _fermi_level(last: Callable[[str], str | None], path: Path) -> float | None:
    """eV; from the Rydberg column of the energy table where there is one."""
    rydberg = last(rf"^\s*E_Fermi\s+{_NUMBER}")
    printed = last(rf"EFERMI\s*=\s*{_NUMBER}\s*eV")
    ev = None if printed is None else float(printed) * (Rydberg / ABACUS_RYDBERG)
    if rydberg is None:
        return ev
    fermi_level = float(rydberg) * Rydberg
    if ev is not None and abs(ev - fermi_level) > 1e-3:
        raise DFTReadError(
            f"{path} gives the Fermi level as {fermi_level:.4f} eV in its last table and as "
            f"{ev:.4f} eV after it: it is damaged"
        )
    return fermi_level


def _lattice_vectors(text: str) -> np.ndarray | None:
    """What was printed first; later ones would be of a relaxation."""
    at = re.search(r"Lattice vectors: \(Cartesian coordinate: in unit of a_0\)\s*\n", text)
    found = None if at is None else _rows(rf"^\s*{_THREE}\s*$", text[at.end() : at.end() + 400])
    return None if found is None or len(found) < 3 else found[:3]


def _rows(pattern: str, text: str) -> np.ndarray | None:
    rows = re.findall(pattern, text, re.M)
    return np.array(rows, dtype=float) if rows else None
