"""HDF5: files of unknown origin read with care, our own written whole or not at all."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.errors import HothamError
from hotham_ase.files import replacing

if TYPE_CHECKING:
    import h5py

# HDF5 may announce any size with hardly a byte stored: more than this is not allocated for it
SMALL = 2**24  # bytes that are always allowed
LARGEST_RATIO = 200  # of announced to stored bytes; matrix elements have 1 to 5, indices below 50
TABLES = 2**18  # bytes, for what HDF5 writes besides the arrays
_KINDS = {"i": "integers", "f": "real numbers", "b": "booleans", "c": "complex numbers"}


class HDF5Error(HothamError, ValueError):
    """A file that is not HDF5, or content that is missing, damaged or of another kind."""


@contextmanager
def write_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """A new file that appears under its name if the body succeeds.

    HDF5 crashes where it cannot write what it holds back. Whoever writes calls :func:`reserve`
    before, so that a full disk is noticed while the file can still be closed.

    Raises
    ------
    OSError
        If the disk is full; it names ``path``.
    """
    import h5py

    with replacing(path) as temporary:
        try:
            # no other process knows this file, so that it needs no lock; files of version 1.10
            # have checksums on HDF5's own tables, without which damage may hang or crash it
            with h5py.File(temporary, "w", libver=("v110", "v110"), locking=False) as file:
                reserve(file, 0)
                yield file
                file.flush()
                size = file.id.get_filesize()
        except OSError as error:
            if error.filename == str(temporary):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        if temporary.stat().st_size > size:
            os.truncate(temporary, size)


def fixed_strings(texts: list[str]) -> np.ndarray:
    """Strings as HDF5 stores them within checksummed tables: of a fixed length in bytes."""
    return np.array([text.encode() for text in texts])


def reserve(file: h5py.File, n_bytes: int) -> None:
    """Take room on the disk for arrays of so many bytes, and for HDF5's tables.

    Raises
    ------
    OSError
        If there is not as much.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with open(file.filename, "r+b") as handle:
        try:
            # compressed, an array may need a little more than its size, and half-filled chunks
            os.posix_fallocate(handle.fileno(), file.id.get_filesize(), 2 * n_bytes + TABLES)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                raise OSError(error.errno, error.strerror, file.filename) from error


def open_hdf5(path: str | Path) -> h5py.File:
    """Open a file for reading, without locking it where the file system has no locks.

    Raises
    ------
    HDF5Error
        If it is not an HDF5 file, or one that is being written.
    OSError
        If the file cannot be read at all.
    """
    import h5py

    # a named OSError for what is missing or not allowed; HDF5's errors do not tell these apart
    with open(path, "rb"):
        pass
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            raise HDF5Error(f"{path} is being written by another process") from error
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise HDF5Error(f"{path} is not an HDF5 file, or is damaged: {error}") from error
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise HDF5Error(f"{path} is not an HDF5 file, or is damaged: {error}") from error


def child(parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What lies under a name (or a path of names) in the file itself.

    Raises
    ------
    HDF5Error
        If there is nothing, or a link to another place or file.
    """
    import h5py

    found = parent
    for part in name.split("/"):
        with _named(found, part):
            if not isinstance(found, h5py.Group):
                raise HDF5Error(f"{_place(found)} is not a group")
            key = part.encode()
            if not found.id.links.exists(key):
                raise HDF5Error(f"{_place(found, part)} is missing")
            # a link may lead to any file that the user can read
            if found.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                text = "is a link to another place; links are not followed"
                raise HDF5Error(f"{_place(found, part)} {text}")
            found = found[part]
    return found


def child_group(parent: h5py.Group, name: str) -> h5py.Group:
    """Group of this name, see :func:`child`."""
    import h5py

    found = child(parent, name)
    if not isinstance(found, h5py.Group):
        raise HDF5Error(f"{_place(parent, name)} is not a group")
    return found


def is_group(parent: h5py.Group, name: str) -> bool:
    """Whether a child is a group, not an array."""
    import h5py

    return isinstance(child(parent, name), h5py.Group)


def child_names(parent: h5py.Group) -> list[str]:
    """Names of everything in a group; HDF5Error if it is damaged."""
    with _named(parent):
        return [str(name) for name in parent]


def read_array(
    parent: h5py.Group, name: str, kind: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """An array of a known kind and shape.

    Parameters
    ----------
    parent, name
        Where it is, see :func:`child`.
    kind
        ``"i"``, ``"f"``, ``"b"`` or several of them: kinds of NumPy dtypes.
    shape
        None where any length will do.

    Raises
    ------
    HDF5Error
        If it is of another kind or shape, announces more than is stored, or cannot be read.
    """
    with _named(parent, name):
        return np.asarray(_checked_array(parent, name, kind, shape)[()])


def map_array(
    parent: h5py.Group, name: str, kind: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """As :func:`read_array`, but a read-only memory map where the file holds it in one piece."""
    found = _checked_array(parent, name, kind, shape)
    with _named(parent, name):
        offset = found.id.get_offset()  # None where it is in pieces or compressed
        if offset is None:
            return np.asarray(found[()])
        return np.memmap(found.file.filename, found.dtype, "r", offset, found.shape)


def _checked_array(
    parent: h5py.Group, name: str, kind: str, shape: tuple[int | None, ...]
) -> h5py.Dataset:
    import h5py

    found = child(parent, name)
    with _named(parent, name):
        if not isinstance(found, h5py.Dataset):
            raise HDF5Error(f"{_place(parent, name)} is not an array")
        dtype = found.dtype
        if dtype.kind not in kind or dtype.subdtype is not None:
            expected = " or ".join(_KINDS[k] for k in kind)
            raise HDF5Error(f"{_place(parent, name)} must hold {expected}, got {dtype}")
        if not _fits(found.shape, shape):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise HDF5Error(
                f"{_place(parent, name)} must have the shape ({wanted}), got {found.shape}"
            )
        check_size(found)
        return found


def read_strings(parent: h5py.Group, name: str, n: int) -> list[str]:
    """A list of n strings; HDF5Error as in :func:`read_array`."""
    import h5py

    found, place = child(parent, name), _place(parent, name)
    with _named(parent, name):
        if not isinstance(found, h5py.Dataset) or h5py.check_string_dtype(found.dtype) is None:
            raise HDF5Error(f"{place} must hold strings")
        if found.shape != (n,):
            raise HDF5Error(f"{place} must have {n} strings, got shape {found.shape}")
        check_size(found)
        return [bytes(text).decode() for text in found[()]]


def check_size(dataset: h5py.Dataset) -> None:
    """Refuse an array whose size was announced but not stored, or stored in another file."""
    import h5py

    settings = dataset.id.get_create_plist()
    layout = settings.get_layout()
    if layout == h5py.h5d.VIRTUAL or settings.get_external_count():
        raise HDF5Error(f"{_place(dataset)} lies in other files; links are not followed")
    chunk = math.prod(settings.get_chunk()) if layout == h5py.h5d.CHUNKED else 0
    size = max(math.prod(dataset.shape), chunk) * dataset.dtype.itemsize
    if size <= SMALL:
        return
    stored = min(dataset.id.get_storage_size(), Path(dataset.file.filename).stat().st_size)
    if size > LARGEST_RATIO * stored:
        raise HDF5Error(
            f"{_place(dataset)} announces {size} bytes, but {stored} are stored: the file is "
            "damaged"
        )


def read_attribute(parent: h5py.Group, name: str, kind: str, length: int | None = None) -> Any:
    """An attribute: a number, a tuple of ``length`` or more numbers, or (kind ``"s"``) a string.

    Parameters
    ----------
    parent, name
        Where it is.
    kind
        ``"i"``, ``"f"``, ``"if"`` or ``"s"``.
    length
        None for a single number or string; 0 for any number of them.

    Raises
    ------
    HDF5Error
        If it is missing or of another kind.
    """
    place = f"{_place(parent)} (attribute {name})"
    with _named(parent):
        if name not in parent.attrs:
            raise HDF5Error(f"{place} is missing")
        value = parent.attrs[name]
        if kind == "s":
            text = value.decode() if isinstance(value, bytes) else value
            if not isinstance(text, str):
                raise HDF5Error(f"{place} must be a string, got {type(value).__name__}")
            return text
        array = np.asarray(value)
        if array.dtype.kind not in kind or array.ndim != (0 if length is None else 1):
            raise HDF5Error(f"{place} must be of kind {kind}, got {array.dtype} {array.shape}")
        return array.item() if length is None else tuple(array.tolist())


@contextmanager
def _named(parent: h5py.Group, name: str = "") -> Iterator[None]:
    """Name the place in whatever goes wrong there."""
    try:
        yield
    except HDF5Error:
        raise
    except Exception as error:  # h5py raises almost any class for damaged content
        raise HDF5Error(f"{_place(parent, name)} cannot be read: {error}") from error


def _place(found: h5py.Group | h5py.Dataset, name: str = "") -> str:
    """Where something is, for messages: data.h5:/structures/00000003."""
    path = "/".join(part for part in (str(found.name).strip("/"), name) if part)
    return f"{found.file.filename}:/{path}"


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        w is None or n == w for n, w in zip(shape, wanted, strict=True)
    )
