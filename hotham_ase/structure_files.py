"""Structures from files that ASE reads, with what ASE overlooks refused."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from ase import Atoms

#: Å without atoms that make a direction not periodic. Lattice planes of crystals are at most 6 Å
#: apart (caesium, xenon), layers of graphite 3.35 Å; orbitals of 4 Å do not reach over 8 Å.
VACUUM_GAP = 8.0
MAX_FILE_SIZE = 1 << 30  # bytes; ASE reads text files of that size for minutes
MAX_CELLS = 1e6  # lattice vectors between atoms: positions lose more than six of their digits
SMALLEST_VOLUME = 1e-4  # of periodic cell vectors, relative to their lengths


class StructureError(HothamError, ValueError):
    """A structure's name or file cannot be understood."""


class StructureWarning(UserWarning):
    """What was asked for leaves a choice, which was made."""


def read_structure(text: str, pbc: Sequence[bool] | None = None) -> Atoms:
    """Read one structure from a file.

    Parameters
    ----------
    text
        Path of a file that ASE reads, with ASE's ``@index`` for one of many; the last otherwise.
    pbc
        Periodic directions; by default the file's own without those that have vacuum in them
        (:func:`detect_periodicity`).

    Raises
    ------
    StructureError
        If the file cannot be read, or its structure has partly occupied sites, values that are not
        finite, dependent cell vectors or atoms far beyond the cell.

    Warns
    -----
    StructureWarning
        If the file holds several structures and no index is given, or has vacuum.
    """
    # a file's own name may contain an @ as well
    atoms = _read_last(text) if Path(text).is_file() else _read_index(*text.rpartition("@")[::2])
    return _checked(text, atoms, pbc)


def read_structures(text: str, pbc: Sequence[bool] | None = None) -> list[Atoms]:
    """Read all structures of a file, or those that ASE's ``@index`` chooses, as ``@100::10``.

    Parameters, errors and warnings are those of :func:`read_structure`.
    """
    path, _, index = (text, "", ":") if Path(text).is_file() else text.rpartition("@")
    frames = list(_frames(path, index))
    if not frames:
        raise StructureError(f"{text} must hold at least one structure")
    return [_checked(text, frame, pbc) for frame in frames]


def _checked(text: str, atoms: Atoms, pbc: Sequence[bool] | None) -> Atoms:
    _check_occupancies(text, atoms)
    _check_values(text, atoms)
    if pbc is None:
        found = detect_periodicity(atoms)
        if (found != atoms.pbc).any():
            names = " and ".join("abc"[i] for i in np.flatnonzero(atoms.pbc & ~found))
            _warn(
                f"{text} has {VACUUM_GAP:g} Å or more without atoms along {names} and is taken as "
                f"not periodic there: pbc is {_letters(found)}, not the file's "
                f"{_letters(atoms.pbc)}; pbc (--pbc) says otherwise"
            )
        pbc = found.tolist()
    atoms.pbc = pbc
    _check_cell(text, atoms)
    return atoms


def detect_periodicity(atoms: Atoms, vacuum: float = VACUUM_GAP) -> np.ndarray:
    """(3,) bool: periodic directions, without those in which a slab of the cell is empty.

    CIF and POSCAR files know three-dimensional crystals only, so that layers, wires and molecules
    are stored with vacuum around them.

    Parameters
    ----------
    atoms
        Structure with its periodic directions as they are stored.
    vacuum
        Å between atoms, along the normal of the other two cell vectors, from which on a direction
        is not periodic.
    """
    pbc = np.array(atoms.pbc)
    cell = atoms.cell.complete()[:]
    if not len(atoms) or not np.isfinite(atoms.positions).all() or np.linalg.det(cell) == 0:
        return pbc
    # (1 / |column| of the inverse) is the cell's height over the plane of the other two vectors;
    # the lowest atom comes again one cell higher, as a gap may lie across the cell's boundary
    inverse = np.linalg.inv(cell)
    heights = 1 / np.linalg.norm(inverse, axis=0)
    places = np.sort((atoms.positions @ inverse) % 1, axis=0)
    gaps = np.diff(np.concatenate([places, places[:1] + 1]), axis=0).max(axis=0) * heights
    return pbc & (gaps < vacuum)


def _check_counts(path: str, size: int) -> None:
    """Refuse an xyz file of more atoms than it has bytes: ASE would count to their number."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            count = line.strip()
            if not count.isdecimal():  # another format, or what ASE refuses itself
                return
            if len(count) > len(str(size)) or int(count) > size:
                shown = count if len(count) < 20 else f"{count[:20]}…"
                raise StructureError(
                    f"{path} announces {shown} atoms, more than its {size} bytes can hold"
                )
            for _ in itertools.islice(file, int(count) + 1):
                pass


def _read_last(text: str) -> Atoms:
    last, number = None, 0
    for frame in _frames(text, ":"):  # one after another: a trajectory may exceed the memory
        last, number = frame, number + 1
    if last is None:
        raise StructureError(f"{text} must hold one structure with at least one atom")
    if number > 1:
        _warn(f"{text} holds {number} structures and the last is taken: {text}@0 is the first")
    return last


def _read_index(path: str, index: str) -> Atoms:
    frames = list(_frames(path, index))
    if len(frames) != 1:
        raise StructureError(
            f"{path}@{index} must hold one structure with at least one atom, got {len(frames)}"
        )
    return frames[0]


def _frames(path: str, index: str) -> Iterator[Atoms]:
    """Structures of a file whose name may contain an @."""
    from ase import Atoms
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    size = Path(path).stat().st_size
    if size > MAX_FILE_SIZE:
        raise StructureError(
            f"{path} has {size / 2**30:.1f} GiB, and structure files are read up to "
            f"{MAX_FILE_SIZE / 2**30:g} GiB: store the structure alone in a file"
        )
    _check_counts(path, size)
    try:
        for frame in iread(path, index, do_not_split_by_at_sign=True):
            if not isinstance(frame, Atoms) or len(frame) == 0:
                raise StructureError(f"{path} must hold structures with at least one atom")
            yield frame
    except StructureError:
        raise
    except UnknownFileTypeError:
        raise StructureError(f"{path} is not of a structure format that ASE knows") from None
    except Exception as error:  # ASE's many readers raise whatever their parsing stumbles on
        label = _label_at_fault(path, error)
        reason = str(error) or type(error).__name__
        if label is not None:
            reason = f"its label {label!r} is no chemical symbol{_suggestion(label)}"
        raise StructureError(
            f"{path} is not a structure file that ASE can read: {reason}"
        ) from error


def _label_at_fault(path: str, error: Exception) -> str | None:
    """The atom's label that ASE did not understand, if it was one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    function = "" if trace is None else trace.tb_frame.f_code.co_name
    if function == "symbols2numbers" and isinstance(error, KeyError):
        return str(error.args[0])
    if function == "_get_symbols_with_deuterium":
        from ase.io.cif import parse_cif

        for block in parse_cif(path):
            labels = block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or []
            for label in labels:
                if not re.search(r"[A-Z][a-z]?", str(label)):
                    return str(label)
    return None


def _suggestion(label: str) -> str:
    """What to write instead of a label, where that is clear."""
    from ase.data import atomic_numbers, chemical_symbols

    letters = re.match(r"[A-Za-z]*", label)
    symbol = letters.group().capitalize() if letters else ""
    if label.isdigit() and 0 < int(label) < len(chemical_symbols):
        symbol = chemical_symbols[int(label)]
    symbol = {"D": "H", "T": "H"}.get(symbol, symbol)  # isotopes have the same electrons
    return f": write {symbol}" if atomic_numbers.get(symbol) else ""


def _check_occupancies(text: str, atoms: Atoms) -> None:
    """Refuse disorder: a site that is partly empty or shared is not an atom."""
    for site, kinds in atoms.info.get("occupancy", {}).items():
        # CIF's ? and . stand for its default, one
        shares = {k: 1.0 if v in ("?", ".") else float(v) for k, v in kinds.items()}
        if len(shares) != 1 or any(abs(share - 1) > 1e-3 for share in shares.values()):
            words = ", ".join(f"{share:g} {kind}" for kind, share in shares.items())
            raise StructureError(
                f"{text} is disordered: its site {site} has {words}; give an ordered structure, "
                "each site one whole atom"
            )
    column = atoms.arrays.get("occupancy")
    if column is not None and (np.abs(np.asarray(column, dtype=float) - 1) > 1e-3).any():
        raise StructureError(f"{text} is disordered: it has atoms of an occupancy other than 1")


def _check_values(text: str, atoms: Atoms) -> None:
    if not np.isfinite(atoms.cell[:]).all():
        raise StructureError(f"the cell of {text} is not finite")
    wrong = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(wrong):
        raise StructureError(f"the positions of atoms {wrong[:5].tolist()} are not finite")


def _check_cell(text: str, atoms: Atoms) -> None:
    vectors = atoms.cell[:][atoms.pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    volume = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0)) if len(vectors) else 1.0
    if volume <= SMALLEST_VOLUME * np.prod(lengths):
        raise StructureError(
            f"the periodic cell vectors of {text} are zero or nearly dependent on one another: "
            f"{vectors.round(6).tolist()}"
        )
    cell = atoms.cell.uncomplete(atoms.pbc).complete()[:]
    far = np.abs(np.linalg.solve(cell.T, atoms.positions.T).T).max(axis=1) > MAX_CELLS
    if far.any():
        raise StructureError(
            f"atom {np.flatnonzero(far)[0]} of {text} is more than {MAX_CELLS:.0e} cells (Å where "
            "not periodic) from the origin, where positions have lost their digits: wrap it"
        )


def _letters(pbc: np.ndarray) -> str:
    return " ".join("FT"[int(periodic)] for periodic in pbc)


def _warn(message: str) -> None:
    warnings.warn(message, StructureWarning, stacklevel=4)
