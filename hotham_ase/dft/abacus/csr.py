"""ABACUS's sparse matrices: one CSR matrix per lattice vector R, as text or binary.

The content says which layout a file has; its name does not. Older text begins with ``STEP: 0`` and
the two counts "Matrix Dimension" and "Matrix number"; a record is the line ``Rx Ry Rz n`` followed
by values, column indices and row pointers, all missing where n = 0. Newer text begins with
``--- Ionic Step 1 ---``, gives the counts before ``# number of localized basis`` and
``# number of Bravais lattice vector R``, repeats the structure, and puts a ``#`` comment before
every array. Arrays may be wrapped: they are read by their number of elements, not by lines. Newer
files may leave out empty matrices that they counted. Binary files have no header but three
integers.

Runs with nspin 4 write complex numbers as ``(re,im)``, in matrices with two rows for each orbital,
spin up and down one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError, damage_refused
from hotham_ase.dft.triplets import joined_spins
from hotham_ase.matrices.spin import Spin

_STEPS = (b"STEP:", b"IONIC_STEP ", b"--- Ionic Step")
_DIMENSION = re.compile(rb"Matrix Dimension of \S+\s+(\d+)|(\d+)\s*# number of localized basis")
_N_VECTORS = re.compile(rb"Matrix number of \S+\s+(\d+)|(\d+)\s*# number of Bravais lattice vec")
_SPINS = re.compile(rb"(\d+)\s*# number of spin directions")
_BANNER = re.compile(rb"#[^\n]*CSR [Ff]ormat[^\n]*\n(?:[ \t]*#[^\n]*\n)*")
_FARTHEST = 1000  # lattice vectors; farther ones are damage
_LARGEST = 1e6  # Ry
_HEADER = 64 * 1024  # bytes in which the counts must be found
# bytes that one element, one row pointer and one record take at most
_ELEMENT, _POINTER, _RECORD = 72, 12, 256
_COUPLED = 1e-6  # elements of S between spins, or imaginary; they are rounding
_PUNCTUATION = bytes.maketrans(b"(,)", b"   ")

Record = tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Header:
    """The structure that the newer layout repeats, with six digits.

    Attributes
    ----------
    cell : (3, 3) Å
    scaled_positions : (n_atoms, 3)
        Fractional coordinates.
    """

    cell: np.ndarray
    scaled_positions: np.ndarray


@dataclass(frozen=True)
class SparseMatrix:
    """Elements of a real-space matrix in ABACUS's order, sign and unit.

    Attributes
    ----------
    rows, columns : (n,) int
        Orbital in cell 0 and orbital in cell R.
    shifts : (n, 3) int
        R.
    values : (n_components, n) float or complex
        Components of the spin kind that was asked for.
    n_missing
        Lattice vectors that were counted but left out because their matrices are empty.
    rounding
        Relative error of the values as they are printed.
    header : Header or None
        The structure, where the file repeats it.
    """

    rows: np.ndarray = field(repr=False)
    columns: np.ndarray = field(repr=False)
    shifts: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    n_missing: int = 0
    rounding: float = 0.0
    header: Header | None = None

    def of_both_spins(self, name: str) -> SparseMatrix:
        """An overlap of spinors as what it is for either spin.

        Raises
        ------
        DFTReadError
            If it couples spins, or is not real.
        """
        same, *others = self.values
        error = max(float(np.abs(rest).max()) for rest in (same.imag, *others))
        if error > _COUPLED:
            raise DFTReadError(
                f"{name} must be real and the same for both spins, but differs from that by "
                f"{error:.3g}"
            )
        return replace(self, values=same.real[None])


def joined(up: SparseMatrix, down: SparseMatrix) -> SparseMatrix:
    """Both spins of a polarized run as one matrix."""
    rows, columns, shifts, values = joined_spins(
        [(one.rows, one.columns, one.shifts, one.values[0]) for one in (up, down)]
    )
    n_missing = up.n_missing + down.n_missing
    return replace(
        up, rows=rows, columns=columns, shifts=shifts, values=values, n_missing=n_missing
    )


def largest_size(n_basis: int, n_vectors: int) -> int:
    """Bytes that a text file of so many orbitals and lattice vectors can have."""
    per_vector = _ELEMENT * n_basis**2 + _POINTER * (n_basis + 1) + _RECORD
    return n_vectors * per_vector + _HEADER + 256 * n_basis


def read_counts(data: bytes, n_basis: int, name: str = "matrix") -> int:
    """Number of lattice vectors that the beginning of a text file announces.

    Parameters
    ----------
    data
        The file's content, or its first 64 KiB.
    n_basis
        Orbitals that the structure and its basis have.
    name
        For messages.

    Raises
    ------
    DFTReadError
        If the text is of neither layout, or has another number of orbitals.
    """
    counts = []
    for pattern in (_DIMENSION, _N_VECTORS):
        found = pattern.search(data[:_HEADER])
        if found is None or len(found.group()) > 200:
            raise DFTReadError(f"{name} is not a sparse matrix of ABACUS: its header is not known")
        counts.append(int(found.group(1) or found.group(2)))
    # a damaged count would have memory allocated for it
    if counts[0] != n_basis:
        raise DFTReadError(
            f"{name} has {counts[0]} orbitals, but the structure and its orbital files {n_basis}"
        )
    return counts[1]


def read_csr(
    data: bytes, n_basis: int, name: str = "matrix", spin: Spin = Spin.UNPOLARIZED
) -> SparseMatrix:
    """Elements of a sparse real-space matrix written as text.

    Parameters
    ----------
    data
        The file's content.
    n_basis
        Orbitals that the structure and its basis have.
    name
        For messages.
    spin
        Of the run.

    Raises
    ------
    DFTReadError
        If the text is not of either layout, is cut short, contradicts itself, or has another
        number of orbitals.
    UnsupportedRunError
        If it has several ionic steps or is folded into one lattice vector, or has complex values
        without being of spinors.
    """
    n_rows = spin.n_rows(n_basis)
    n_vectors = read_counts(data, n_rows, name)
    _check_supported(data, name, spin)
    # only the newer layout announces every array, and only it may leave out empty matrices
    newer = b"# CSR values" in data
    with damage_refused(name):
        head, start = _split(data, newer)
        records = list(_records(data[start:], n_rows))
        matrix = _components(*_collect(records, n_rows), spin, name)
        header = _structure(head) if newer else None
    if len(records) > n_vectors or (len(records) < n_vectors and not newer):
        raise DFTReadError(
            f"{name} is cut short: {len(records)} of {n_vectors} lattice vectors are there"
        )
    return SparseMatrix(
        *matrix,
        n_missing=n_vectors - len(records),
        rounding=_rounding(data[start : start + _HEADER]),
        header=header,
    )


def _check_supported(data: bytes, name: str, spin: Spin) -> None:
    if max(data.count(step) for step in _STEPS) > 1:
        raise UnsupportedRunError(
            f"{name} has several ionic steps: only single points are read; make a single-point "
            "run of each structure"
        )
    if re.search(rb"# representation:[^\n]*(gamma|fold)", data[:_HEADER], re.IGNORECASE):
        raise UnsupportedRunError(
            f"{name} is folded into one lattice vector (gamma_only): run with gamma_only 0"
        )
    spins = _SPINS.search(data[:_HEADER])
    if spins is not None and int(spins.group(1)[:9]) not in (1, spin.n_spins):
        raise DFTReadError(
            f"{name} is of {spins.group(1).decode()[:9]} spin directions, the run is {spin.value}"
        )


def read_binary(
    data: bytes, n_basis: int, name: str = "matrix", spin: Spin = Spin.UNPOLARIZED
) -> SparseMatrix:
    """Elements of a sparse real-space matrix in ABACUS's native binary form.

    Per file three int32: step, orbitals, lattice vectors; per R four int32: R and the number of
    elements, then float64 values (complex ones of spinors as pairs), int32 columns, and row
    pointers of int64 (int32 in old files).

    Parameters
    ----------
    data, n_basis, name, spin
        As for :func:`read_csr`.

    Raises
    ------
    DFTReadError
        If the file is cut short, contradicts itself, or has another number of orbitals.
    """
    problems = []
    n_rows, value_type = spin.n_rows(n_basis), "<c16" if spin.is_spinor else "<f8"
    # no file tells how wide its row pointers are, but only one width accounts for all its bytes
    for pointer_type in ("<i8", "<i4"):
        try:
            records = list(_binary_records(data, n_rows, value_type, pointer_type))
            return SparseMatrix(*_components(*_collect(records, n_rows), spin, name))
        except (ValueError, IndexError, OverflowError) as error:
            problems.append(str(error))
    raise DFTReadError(
        f"{name} is damaged, of several ionic steps, or complex: {problems[0]}; with row pointers "
        f"of 32 bits: {problems[1]}"
    )


# ----------------------------------------------------------------------- records


def _collect(
    records: list[Record], n_basis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns, lattice vectors and values of all records, checked."""
    if not sum(len(record[1]) for record in records):
        raise ValueError("it has no elements")
    vectors, values, columns, _ = zip(*records, strict=True)
    if len(set(vectors)) != len(vectors):
        raise ValueError("a lattice vector comes twice")
    if np.abs(vectors).max() > _FARTHEST:
        raise ValueError(f"a lattice vector is farther than {_FARTHEST} cells")
    rows: list[np.ndarray] = []
    for vector, value, column, pointer in records:
        steps = np.diff(pointer)  # elements of each row
        if pointer[0] != 0 or (steps < 0).any() or not len(value) == len(column) == pointer[-1]:
            raise ValueError(f"the arrays of R = {vector} do not go together")
        if len(column) and not (column.min() >= 0 and column.max() < n_basis):
            raise ValueError(f"column indices of R = {vector} are outside 0 … {n_basis - 1}")
        if not (np.abs(value) < _LARGEST).all():
            raise ValueError(f"R = {vector} has values that cannot be")
        rows.append(np.repeat(np.arange(n_basis), steps))
    shifts = np.repeat(np.array(vectors), [len(value) for value in values], axis=0)
    return np.concatenate(rows), np.concatenate(columns), shifts, np.concatenate(values)[None]


def _components(
    rows: np.ndarray,
    columns: np.ndarray,
    shifts: np.ndarray,
    values: np.ndarray,
    spin: Spin,
    name: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same, of spinors with components for each pair of orbitals instead of four elements."""
    if not spin.is_spinor:
        if np.iscomplexobj(values):
            raise UnsupportedRunError(
                f"{name} has complex values, as of nspin 4, where the run is {spin.value}"
            )
        return rows, columns, shifts, values
    low, n_basis = shifts.min(axis=0), int(max(rows.max(), columns.max())) // 2 + 1
    size = (n_basis, n_basis, *(shifts.max(axis=0) - low + 1))
    key = np.ravel_multi_index((rows // 2, columns // 2, *(shifts - low).T), size)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    blocks = np.zeros((2, 2, len(first)), dtype=complex)
    place = (rows % 2, columns % 2, which.ravel())
    if np.bincount(np.ravel_multi_index(place, blocks.shape)).max() > 1:
        raise DFTReadError(f"{name} gives elements twice")
    blocks[place] = values[0]
    return rows[first] // 2, columns[first] // 2, shifts[first], spin.components_of(blocks)


def _records(text: bytes, n_basis: int) -> Iterator[Record]:
    """Lattice vector, values, column indices and row pointers of every record."""
    words = _Words(text)
    while not words.at_end:
        line = words.lines[words.at]
        *vector, n_values = (int(word) for word in line.split())
        if len(vector) != 3 or not 0 <= n_values <= n_basis**2:
            raise ValueError(f"line {line[:60]!r} is not 'Rx Ry Rz n'")
        words.at += 1
        if n_values == 0:  # the older layout ends the record here, some releases do not
            words.skip_zeros(n_basis + 1)
            yield tuple(vector), np.zeros(0), np.zeros(0, int), np.zeros(n_basis + 1, int)
            continue
        yield (
            tuple(vector),
            _numbers(words.take(n_values)),
            np.array(words.take(n_values), dtype=np.int64),
            np.array(words.take(n_basis + 1), dtype=np.int64),
        )


def _numbers(words: list[bytes]) -> np.ndarray:
    """Real or complex numbers; these are written as (re,im)."""
    if not words[0].startswith(b"("):
        return np.array(words, dtype=float)
    parts = b" ".join(words).translate(_PUNCTUATION).split()
    if len(parts) != 2 * len(words):
        raise ValueError(f"{words[0][:60]!r} and what follows are not complex numbers (re,im)")
    return np.array(parts, dtype=float).view(complex)


class _Words:
    """Words of a text without its comments; arrays end at the ends of lines."""

    def __init__(self, text: bytes) -> None:
        self.lines = [
            line for line in text.split(b"\n") if line.strip() and line.lstrip()[:1] != b"#"
        ]
        self.at = 0

    @property
    def at_end(self) -> bool:
        return self.at >= len(self.lines)

    def take(self, count: int) -> list[bytes]:
        """The next ``count`` words, on however many lines they are."""
        words: list[bytes] = []
        while len(words) < count:
            if self.at_end:
                raise ValueError(f"an array has {len(words)} of {count} elements")
            first = self.lines[self.at].split()
            # lines of a wrapped array are equally long: split all that are needed at once
            n_more = max((count - len(words)) // len(first) - 1, 0)
            words += first
            words += b" ".join(self.lines[self.at + 1 : self.at + 1 + n_more]).split()
            self.at += 1 + n_more
        if len(words) != count:
            raise ValueError(f"an array has {len(words)} elements instead of {count}")
        return words

    def skip_zeros(self, count: int) -> None:
        """Pass the row pointers of an empty matrix, which may be there or not."""
        before = self.at
        try:
            found = set(self.take(count)) == {b"0"}
        except ValueError:
            found = False
        if not found:
            self.at = before


def _binary_records(
    data: bytes, n_basis: int, value_type: str, pointer_type: str
) -> Iterator[Record]:
    at = 0

    def take(dtype: str, count: int) -> np.ndarray:
        nonlocal at
        if count < 0 or at + count * np.dtype(dtype).itemsize > len(data):
            raise ValueError(f"it ends before {count} numbers at byte {at}")
        array = np.frombuffer(data, dtype, count, at)
        at += array.nbytes
        return array

    _, dimension, n_vectors = take("<i4", 3).tolist()  # the first is the ionic step
    if dimension != n_basis:
        raise ValueError(
            f"it has {dimension} orbitals, but the structure and its orbital files {n_basis}"
        )
    for _ in range(n_vectors):
        *vector, n_values = take("<i4", 4).tolist()
        yield (
            tuple(vector),
            take(value_type, n_values).copy(),
            take("<i4", n_values).astype(np.int64),
            take(pointer_type, n_basis + 1).astype(np.int64),
        )
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")


# ------------------------------------------------------------------------ header


def _split(data: bytes, newer: bool) -> tuple[bytes, int]:
    """What lies between the counts and the first record, and where that begins."""
    counts = _N_VECTORS.search(data)
    at = len(data) if counts is None else data.index(b"\n", counts.start())
    if not newer:
        return b"", at
    banner = _BANNER.search(data, at)
    first = data.index(b"# CSR values")
    if banner is not None and banner.end() <= first:
        return data[at : banner.start()], banner.end()
    # no banner: the line before the first array is its lattice vector
    start = data.rindex(b"\n", 0, data.rindex(b"\n", 0, first))
    return data[at:start], start


def _structure(head: bytes) -> Header | None:
    """The structure between the counts and the records; None if it is written another way."""
    lines = [line.split() for line in head.split(b"\n")]
    lines = [words for words in lines if words and not words[0].startswith(b"#")]
    kinds = [k for k, words in enumerate(lines) if words[0].lower() == b"direct"]
    if len(kinds) != 1 or kinds[0] != 7:  # name, constant, vectors, symbols and counts before it
        return None
    cell = float(lines[1][0]) * np.array([row[:3] for row in lines[2:5]], dtype=float)
    positions = np.array([row[:3] for row in lines[8:]], dtype=float).reshape(-1, 3)
    return Header(cell, positions)


def _rounding(text: bytes) -> float:
    """Half a unit of the last printed digit."""
    digits = [len(word) for word in re.findall(rb"\d\.(\d+)[eE]", text)]
    return 0.5 * 10.0 ** -max(digits) if digits else 0.0
