"""ABACUS's layouts of sparse matrices, written from their description, not by the package.

Releases until 3.8 (``1``) and 3.9.0 (``2``) have one line per array. From 3.9.0.25 on (``3``) the
structure is repeated and arrays are wrapped; there empty matrices are counted but skipped. 3.11
(``4``) writes their row pointers.
"""

from __future__ import annotations

import struct
from itertools import groupby

import numpy as np
from ase import Atoms

Matrices = dict[tuple[int, ...], np.ndarray]
NAMES = {  # of H and S
    1: ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"),
    2: ("hrs1_nao.csr", "srs1_nao.csr"),
    3: ("hrs1_nao.csr", "srs1_nao.csr"),
    4: ("hrs1_nao.csr", "sr_nao.csr"),
}
SMALLEST = 1e-10  # smaller elements are not written
BANNER = """
 #----------------------------------------------------------------------#
 #                               CSR Format                             #
 # (Rx, Ry, Rz), followed by the number of non-zero elements.           #
 #----------------------------------------------------------------------#
"""


def parse_first_layout(text: str) -> Matrices:
    """Dense matrices of a file with one line per array."""
    lines = text.splitlines()
    n_basis = int(lines[1].split()[-1])
    matrices, at = {}, 3
    while at < len(lines):
        *shift, n_values = (int(word) for word in lines[at].split())
        dense = np.zeros((n_basis, n_basis))
        at += 1
        if n_values:
            values, columns, pointers = (np.fromstring(x, sep=" ") for x in lines[at : at + 3])
            rows = np.repeat(np.arange(n_basis), np.diff(pointers).astype(int))
            dense[rows, columns.astype(int)] = values
            at += 3
        matrices[tuple(shift)] = dense
    return matrices


def to_csr(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, column indices and row pointers."""
    rows, columns = np.nonzero(np.abs(dense) > SMALLEST)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    return dense[rows, columns], columns, pointers


def csr_text(
    matrices: Matrices, label: str, generation: int, atoms: Atoms, digits: int = 12, note: str = ""
) -> str:
    """The text of a matrix file."""
    n_basis = len(next(iter(matrices.values())))
    if generation <= 2:
        return _one_line_each(matrices, label, n_basis, digits)
    text = f""" --- Ionic Step 1 ---
 # print {label} matrix in real space {label}(R)
 1 # number of spin directions
 1 # spin index
 {n_basis} # number of localized basis
 {len(matrices)} # number of Bravais lattice vector R
{note}
 user_defined_lattice
 {1.7 * 0.9:.6g}
"""
    text += "".join(" " + " ".join(f"{x:.6g}" for x in row / 1.53) + "\n" for row in atoms.cell)
    kinds = [(symbol, len(list(group))) for symbol, group in groupby(atoms.symbols)]
    text += f" {' '.join(s for s, _ in kinds)}\n {' '.join(str(n) for _, n in kinds)}\n Direct\n"
    for row in atoms.get_scaled_positions():  # folded into the cell
        text += " " + " ".join(f"{x:.6g}" for x in row) + "\n"
    text += BANNER + "\n"
    for shift, dense in matrices.items():
        values, columns, pointers = to_csr(dense)
        if len(values) == 0 and generation == 3:
            continue
        text += f" {' '.join(str(n) for n in shift)} {len(values)}\n # CSR values\n"
        text += _wrapped([f"{v:.{digits}e}" for v in values], 6) + " # CSR column indices\n"
        text += _wrapped([str(c) for c in columns], 16) + " # CSR row pointers\n"
        text += _wrapped([str(p) for p in pointers], 16) + "\n"
    return text


def _one_line_each(matrices: Matrices, label: str, n_basis: int, digits: int) -> str:
    lines = [
        "STEP: 0",
        f"Matrix Dimension of {label}(R): {n_basis}",
        f"Matrix number of {label}(R): {len(matrices)}",
    ]
    for shift, dense in matrices.items():
        values, columns, pointers = to_csr(dense)
        lines.append(" ".join(str(n) for n in (*shift, len(values))))
        if len(values):
            lines.append(" " + " ".join(f"{v:.{digits}e}" for v in values))
            lines += [" " + " ".join(str(n) for n in array) for array in (columns, pointers)]
    return "\n".join(lines) + "\n"


def _wrapped(words: list[str], width: int) -> str:
    """Lines of so many words; none gives an empty line."""
    rows = [words[k : k + width] for k in range(0, max(len(words), 1), width)]
    return "".join(" " + " ".join(row) + "\n" for row in rows)


def csr_binary(matrices: Matrices, pointer: str = "q") -> bytes:
    """The native binary form; ``pointer`` is struct's letter of the row pointers' type."""
    n_basis = len(next(iter(matrices.values())))
    data = struct.pack("<3i", 0, n_basis, len(matrices))
    for shift, dense in matrices.items():
        values, columns, pointers = to_csr(dense)
        data += struct.pack("<4i", *shift, len(values)) + values.astype("<f8").tobytes()
        data += columns.astype("<i4").tobytes()
        data += struct.pack(f"<{len(pointers)}{pointer}", *pointers.tolist())
    return data


def levels_text(kpts: np.ndarray, levels: np.ndarray, occupations: np.ndarray) -> str:
    """``istate.info`` of levels in ABACUS's electronvolts."""
    text = ""
    for k, (kpt, energies) in enumerate(zip(kpts, levels, strict=True)):
        place = " ".join(f"{x:.16g}" for x in kpt)
        text += "BAND               Energy(ev)               Occupation                "
        text += f"Kpoint = {k + 1}                        ({place})\n"
        for n, (energy, filled) in enumerate(zip(energies, occupations[k], strict=True)):
            text += f"{n + 1:6d} {energy:24.16g} {filled:24.16g}\n"
        text += "\n\n"
    return text


def newer_levels_text(
    kpts: np.ndarray, levels: np.ndarray, occupations: np.ndarray, atoms: Atoms, constant: float
) -> str:
    """``eig_occ.txt``: Cartesian k-points in units of 2π over the lattice constant (Å)."""
    text = "1     # ionic step\n Electronic state energy (eV) and occupations\n Spin number 1\n"
    reciprocal = np.linalg.inv(atoms.cell[:]).T * constant
    for k, kpt in enumerate(kpts @ reciprocal):
        place = " ".join(f"{x:.7f}" for x in kpt)
        text += f" spin=1 k-point={k + 1}/{len(kpts)} Cartesian={place} (299 plane wave)\n"
        for n in range(levels.shape[1]):
            text += f"{n + 1:9d} {levels[k, n]:.15f} {occupations[k, n]:.15f}\n"
        text += "\n"
    return text
