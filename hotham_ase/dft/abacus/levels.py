"""The eigenvalues that an ABACUS run printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase.units import Rydberg

from hotham_ase.dft.abacus.input import read_input
from hotham_ase.dft.abacus.log import ABACUS_RYDBERG
from hotham_ase.dft.abacus.stru import read_stru
from hotham_ase.dft.plausibility import Eigenvalues
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import find_one, read_text

FILES = ("istate.info", "eig.txt", "eig_occ.txt")  # until 3.9.0.9, and the later ones
_MOST = 2**30  # bytes
_LARGEST = 1e6  # eV, and bands
_NUMBER = r"([-+.\deE]+)"
_OLDER = re.compile(r"^\s*BAND[^\n]*\(([^()\n]*)\)[ \t]*$", re.M)
_NEWER = re.compile(
    rf"^\s*spin=(\d+)\s+k-point=\S+\s+Cartesian=\s*{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}[^\n]*$", re.M
)


def read_eigenvalues(folder: str | Path) -> Eigenvalues:
    """Read the eigenvalues of an unpolarised ABACUS run.

    They are in ``istate.info`` or, of later releases, in ``eig.txt`` or ``eig_occ.txt``, whose
    Cartesian k-points have seven decimals.

    Raises
    ------
    DFTReadError
        If the file is missing or not of this form.
    """
    settings = read_input(folder)
    path = find_one(settings.out, FILES)
    if path is None:
        raise DFTReadError(f"{settings.out} has no {FILES[0]}, {FILES[1]} or {FILES[2]}")
    text = read_text(path, _MOST)
    newer = _NEWER.search(text) is not None
    heads = list((_NEWER if newer else _OLDER).finditer(text))
    if newer and {head.group(1) for head in heads} != {"1"}:
        raise UnsupportedRunError(f"{path} has both spins: not supported yet")
    bands: list[np.ndarray] = []
    try:
        kpts = np.array(
            [head.groups()[1:] if newer else head.group(1).split() for head in heads], dtype=float
        ).reshape(-1, 3)
        for k, head in enumerate(heads):
            end = heads[k + 1].start() if k + 1 < len(heads) else len(text)
            words = text[head.end() : end].split()
            bands.append(np.array(words, dtype=float).reshape(-1, 3))
        table = np.array(bands).reshape(len(heads), -1, 3)  # number, energy, occupation
    except ValueError as error:
        raise DFTReadError(f"{path} is damaged or cut short: {error}") from error
    if table.size == 0 or not (np.abs(table) < _LARGEST).all() or not (np.abs(kpts) < 1e3).all():
        raise DFTReadError(
            f"{path} must list the same bands at every k-point, and numbers that can be"
        )
    if newer:
        structure = read_stru(settings.structure, settings.get("latname", "none"))
        kpts = kpts @ structure.atoms.cell[:].T / structure.constant  # from 2π/constant
    return Eigenvalues(kpts, table[:, :, 1] * (Rydberg / ABACUS_RYDBERG), table[:, :, 2])
