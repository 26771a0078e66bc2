"""What an ABACUS run printed: its running log and its eigenvalues."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.units import Rydberg

from hotham_ase.dft.abacus.input import read_input
from hotham_ase.dft.abacus.stru import read_stru
from hotham_ase.dft.plausibility import Eigenvalues
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import LARGE, find_one, read_text

ABACUS_RYDBERG = 13.605698066  # eV as ABACUS converts what it prints
_MOST = 256 * 2**20  # bytes of a log
_NUMBER = r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"
_THREE = rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}"
_CONVERGED = "charge density convergence is achieved|#SCF IS CONVERGED#"
_NOT_CONVERGED = "convergence has not been achieved|SCF IS NOT CONVERGED"

LEVEL_FILES = ("istate.info", "eig.txt", "eig_occ.txt")  # until 3.9.0.9, and the later ones
_LARGEST = 1e6  # eV, and bands
_WORD = r"([-+.\deE]+)"
_OLDER = re.compile(r"^\s*BAND[^\n]*\(([^()\n]*)\)[ \t]*$", re.M)
_NEWER = re.compile(
    rf"^\s*spin=(\d+)\s+k-point=\S+\s+Cartesian=\s*{_WORD}\s+{_WORD}\s+{_WORD}[^\n]*$", re.M
)


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
    provenance : Provenance
        Version, functional, energy, convergence; null where the log does not tell.
    """

    n_valence: dict[str, float]
    n_electrons: float | None
    fermi_level: float | None
    scaled_positions: np.ndarray | None = field(repr=False)
    vectors: np.ndarray | None = field(repr=False)
    provenance: Provenance = field(repr=False)


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

    # every iteration prints again: the last one is that of the matrices
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
    record = {
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
        provenance=Provenance.from_dict(record),
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


# -------------------------------------------------------------------- eigenvalues


def read_eigenvalues(folder: str | Path) -> Eigenvalues:
    """Read the eigenvalues of an ABACUS run.

    They are in ``istate.info`` or, of later releases, in ``eig.txt`` or ``eig_occ.txt``, whose
    Cartesian k-points have seven decimals.

    Raises
    ------
    DFTReadError
        If the file is missing or not of this form.
    """
    settings = read_input(folder)
    path = find_one(settings.out, LEVEL_FILES)
    if path is None:
        raise DFTReadError(
            f"{settings.out} has no {LEVEL_FILES[0]}, {LEVEL_FILES[1]} or {LEVEL_FILES[2]}"
        )
    text = read_text(path, LARGE)
    newer = _NEWER.search(text) is not None
    heads = list((_NEWER if newer else _OLDER).finditer(text))
    # older releases write both spins side by side, later ones one after the other
    n_spins = settings.spin.n_spins
    n_columns = 3 if newer or n_spins == 1 else 5
    bands: list[np.ndarray] = []
    try:
        kpts = np.array(
            [head.groups()[1:] if newer else head.group(1).split() for head in heads], dtype=float
        ).reshape(-1, 3)
        for k, head in enumerate(heads):
            end = heads[k + 1].start() if k + 1 < len(heads) else len(text)
            words = text[head.end() : end].split()
            bands.append(np.array(words, dtype=float).reshape(-1, n_columns)[:, 1:])
        table = np.array(bands)  # energy and occupation of a spin, or of both
        if newer:
            spins = np.array([int(head.group(1)) for head in heads])
            by_spin = [np.flatnonzero(spins == spin + 1) for spin in range(n_spins)]
            kpts = kpts[by_spin[0]]
            table = np.array([table[of_spin] for of_spin in by_spin])
        else:
            table = table.reshape(len(heads), -1, n_spins, 2).transpose(2, 0, 1, 3)
    except ValueError as error:
        raise DFTReadError(f"{path} is damaged or cut short: {error}") from error
    if table.size == 0 or not (np.abs(table) < _LARGEST).all() or not (np.abs(kpts) < 1e3).all():
        raise DFTReadError(
            f"{path} must list the same bands at every k-point, and numbers that can be"
        )
    if newer:
        structure = read_stru(settings.structure, settings.get("latname", "none"))
        kpts = kpts @ structure.atoms.cell[:].T / structure.constant  # from 2π/constant
    return Eigenvalues(kpts, table[..., 0] * (Rydberg / ABACUS_RYDBERG), table[..., 1])
