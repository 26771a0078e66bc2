"""Files that are whole or not there at all, and folders that one process has for itself."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

from hotham_ase.errors import HothamError

LOCK = ".lock"


class InUseError(HothamError, OSError):
    """A folder that another process is working in."""


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written where it is to be.

    Raises
    ------
    OSError
        If the folder does not exist or takes no files, or if the path is something else already.
    """
    if not path.parent.is_dir():
        text = "this folder does not exist, make it first"
        raise FileNotFoundError(errno.ENOENT, text, str(path.parent))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot be written: it is not a file", str(path))
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


def check_new(path: Path) -> None:
    """Refuse a folder that is there already, by a FileExistsError."""
    if path.exists():
        text = "exists already, give another name or remove it first"
        raise FileExistsError(errno.EEXIST, text, str(path))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place if the body succeeds.

    Its name tells the process that writes it. A process that is killed leaves it behind; the next
    one that writes ``path`` on the same machine removes it.

    Parameters
    ----------
    path
        The file to write; one that exists stays as it is until the end.

    Yields
    ------
    Path of the temporary file, with the same suffix.

    Raises
    ------
    OSError
        As of :func:`check_writable`.
    """
    path = Path(path)
    check_writable(path)
    _remove_leftovers(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _open_to_others(temporary, 0o666)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that gets its name if the body succeeds.

    What a killed process leaves is removed as by :func:`replacing`.

    Parameters
    ----------
    path
        Must not exist yet; folders above it are made.

    Yields
    ------
    Path of the temporary folder.

    Raises
    ------
    FileExistsError
        If there is something of this name.
    OSError
        If it cannot be made there.
    """
    path = Path(path)
    check_new(path)
    _remove_leftovers(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
    except OSError as error:
        raise OSError(error.errno, f"cannot be made: {error.strerror}", str(path)) from error
    temporary = Path(name)
    try:
        yield temporary
        _open_to_others(temporary, 0o777)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _prefix(path: Path) -> str:
    return f".{path.stem}.{_machine()}-{os.getpid()}-"


def _open_to_others(path: Path, mode: int) -> None:
    """Rights that a file or folder gets by default; temporary ones are private."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def _machine() -> str:
    """Eight letters for the place where a process number means one process: host and container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not on Linux
        namespace = ""
    return sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders of ``path`` whose processes are dead."""
    prefix = f".{path.stem}.{_machine()}-"
    try:
        names = os.listdir(path.parent)
    except OSError:  # what is wrong with the folder is said by who writes into it
        return
    for name in names:
        if name.startswith(prefix) and name.endswith(path.suffix):
            number = name[len(prefix) :].partition("-")[0]
            if number.isdecimal() and not _is_alive(int(number)):
                left = path.with_name(name)
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Keep a folder for this process while the body runs.

    The lock is the kernel's: it ends with the process, however that ends. Where the file system
    has no locks a warning says so, and the body runs.

    Parameters
    ----------
    folder
        A folder that exists; it gets the file ``.lock`` meanwhile.
    what
        What goes on in it, for the message: "training".

    Raises
    ------
    InUseError
        If another process, or another part of this one, has the folder.
    """
    file = _open_lock(Path(folder) / LOCK, what)
    with file:
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            # removed while it is held, so that no other process can have this file locked
            (Path(folder) / LOCK).unlink(missing_ok=True)


def _open_lock(path: Path, what: str) -> IO[str]:
    """The lock file, opened and locked."""
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its last holder may have removed it between opening and locking
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read(200).strip()
            by = f" (process {holder})" if holder else ""
            raise InUseError(
                f"{path.parent} is in use by another {what}{by}: wait until it has ended, or "
                "choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                file.close()
                raise
            warnings.warn(
                f"the file system of {path.parent} has no locks: see to it yourself that no other "
                f"{what} uses this folder",
                stacklevel=4,
            )
            return file
        file.close()
