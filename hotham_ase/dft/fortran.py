"""Records of Fortran's unformatted files: each between two copies of its length in bytes."""

from __future__ import annotations

from typing import Literal

import numpy as np

_MARK = 4  # bytes


class Records:
    """The records of a file, one after another.

    Parameters
    ----------
    data
        The file's content; its first mark tells the byte order.

    Raises
    ------
    ValueError
        By every method, if the file is cut short or a record is not what it has to be.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        small = len(data) >= _MARK and int.from_bytes(data[:_MARK], "little") <= len(data)
        self.order: Literal["<", ">"] = "<" if small else ">"

    @property
    def at_end(self) -> bool:
        """Whether no record is left."""
        return self.at >= len(self.data)

    def next_size(self) -> int:
        """Bytes of the next record."""
        size = self._mark(self.at)
        if size < 0 or self._mark(self.at + _MARK + size) != size:
            raise ValueError(f"the record at byte {self.at} is not whole")
        return size

    def raw(self) -> bytes:
        """The next record as it is."""
        size = self.next_size()
        begin = self.at + _MARK
        self.at = begin + size + _MARK
        return self.data[begin : begin + size]

    def skip(self, count: int = 1) -> None:
        """Pass some records."""
        for _ in range(count):
            self.at += self.next_size() + 2 * _MARK

    def take(self, kind: str, *shape: int) -> np.ndarray:
        """The next record as an array of this kind and shape."""
        return self.parts((kind, *shape))[0]

    def parts(self, *wanted: tuple[str | int, ...]) -> list[np.ndarray]:
        """Several arrays that are one record: each (kind, length, …)."""
        raw, at, found = self.raw(), 0, []
        for kind, *shape in wanted:
            dtype = np.dtype(str(kind)).newbyteorder(self.order)
            count = int(np.prod([int(n) for n in shape], dtype=np.int64))
            if count < 0 or at + count * dtype.itemsize > len(raw):
                raise ValueError(f"a record of {len(raw)} bytes ends before its numbers")
            array = np.frombuffer(raw, dtype, count, at)
            at += array.nbytes
            found.append(array.astype(dtype.newbyteorder("=")).reshape([int(n) for n in shape]))
        if at != len(raw):
            raise ValueError(f"a record has {len(raw)} bytes where {at} are expected")
        return found

    def _mark(self, at: int) -> int:
        if at + _MARK > len(self.data):
            raise ValueError(f"it ends within the record at byte {self.at}")
        return int(np.frombuffer(self.data, f"{self.order}i4", 1, at)[0])
