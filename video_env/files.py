"""The one way in which this project writes files, takes things for itself, and trusts names.

A file is written under a temporary name beside its own, ``.NAME.<16 hex digits>.partial``, which is made
exclusively and cannot be guessed; it is synced, renamed, and its folder is synced. After a kill at any
moment the old file or the new one is there, whole. A set of files is made whole by writing last the one
that names the others.

Whoever writes a thing (a file, or a folder as a whole) holds it ``alone``. Its lock is a file beside it,
``.NAME.lock``, which is no part of the thing, and stays when the thing is free.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import platform
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from video_env.errors import InputError

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.partial", re.DOTALL)


class PartialFile(io.BufferedRandom):
    """A file that is being written: read, write and seek as in any other. ``sha256`` (hexadecimal) is that
    of its whole content, known once ``writing`` has ended."""

    sha256: str = ""
    failure: OSError | None = None  # torch turns it into a RuntimeError that tells nothing

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def writing(path: Path) -> Iterator[PartialFile]:
    """A file to fill (by ``torch.save``, ``zipfile``, ``np.save``, ...) that replaces ``path``, whole, when
    the block ends; if it raises, ``path`` stays as it was. Folders are made as needed.

    Raises:
        InputError: the file cannot be written (full disk, no permission, ...).
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = PartialFile(io.FileIO(os.open(partial, flags, 0o666), "r+b"))
    try:
        try:
            yield file
        except Exception as error:
            if file.failure is not None and error is not file.failure:
                raise file.failure from error
            raise
        file.flush()
        file.seek(0)
        file.sha256 = _digest(file)
        os.fsync(file.fileno())
        file.close()
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        # An error of reading something else, inside the block, names its own file.
        if isinstance(error, OSError) and error.filename in (None, str(partial), partial):
            raise _cannot_write(path, error) from error
        raise


def write_bytes(path: Path, data: bytes) -> str:
    """Write a file by ``writing``; returns its SHA-256."""
    with writing(path) as file:
        file.write(data)
    return file.sha256


def write_array(path: Path, values: np.ndarray) -> str:
    """``write_bytes`` for an array as .npy."""
    with writing(path) as file:
        np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.sha256


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to a file where the file system has them, else a copy.

    Raises:
        InputError: it cannot be written.
    """
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
        try:
            os.link(source, partial)
            partial.replace(target)
            partial.unlink(missing_ok=True)  # renaming onto another name of the same file does nothing
        except OSError:  # another file system, or one without links
            partial.unlink(missing_ok=True)
            with source.open("rb") as original, writing(target) as copy:
                shutil.copyfileobj(original, copy)


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return _digest(file)


def delete(path: Path) -> None:
    """Delete a file, a link (not what it points to) or a folder with all that is in it, if it is there.

    Raises:
        InputError: it cannot be deleted.
    """
    with _naming(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make what was renamed and deleted in a folder last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, *companions: Path) -> Iterator[None]:
    """Hold a file or a folder that is to be written; again inside itself as often as you like.

    Whoever else wants it waits, says at once for whom, and goes on when it is free: what it knew of the
    thing may be old by then, so it must be read after this. Temporary files that a killed writer of the
    thing left are deleted.

    Args:
        path: the file or folder, which need not exist. Two paths of one thing, by links, are one.
        companions: further files that are written only by those who hold ``path``.

    Raises:
        InputError: the lock cannot be made where it belongs.
    """
    path, lock_file = _place_of_lock(path)
    lock = FileLock(lock_file, is_singleton=True, on_acquired=_sign)
    first = not lock.is_locked
    with _naming(lock_file):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"waiting for {path}, which {_holder(lock_file)} is writing", file=sys.stderr, flush=True)
            lock.acquire()
    try:
        if first:
            _clear_leftovers(path, *companions)
        yield
    finally:
        lock.release()


def clear_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in a folder; to be called by who holds it. Those
    of files with a lock of their own are not touched, nor are links followed."""
    if not folder.is_dir() or folder.is_symlink():
        return
    with _naming(folder):
        for entry in list(os.scandir(folder)):
            match = _LEFTOVER.fullmatch(entry.name)
            if match and not os.path.lexists(folder / f".{match['name']}.lock"):
                (folder / entry.name).unlink(missing_ok=True)


def plain_name(name: Any, file: Path, key: str) -> str:
    """A name that a file gives for another, if it is that of a file in one folder and nothing else.

    Raises:
        InputError: it has more than one part, is hidden, or is no text; the message names file and key.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name.encode(errors="replace")) <= 200
        or name.startswith(".")
        or not name.isprintable()
        or set(name) & set("/\\")
    ):
        found = repr(name)
        raise InputError(
            f"{file}: {key}: found {found if len(found) <= 100 else found[:100] + '…'}, expected a plain "
            "name (no folder, not hidden)"
        )
    return name


def inside(folder: Path, *names: str) -> Path:
    """The path of a file below a folder that is about to be written or deleted.

    The folder itself may be a link or lie behind one: whoever gave it meant it so.

    Raises:
        InputError: a folder on the way, below ``folder``, is a link, which may lead anywhere.
    """
    path = folder
    for name in names[:-1]:
        path = path / name
        if path.is_symlink():
            raise InputError(f"{path}: is a link, and nothing is written through it; delete it")
    return path / names[-1]


def _place_of_lock(path: Path) -> tuple[Path, Path]:
    """A thing's real path and that of its lock: beside it, or inside a folder whose own folder is not ours
    (as where a container shows us that folder alone)."""
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    beside = path.with_name(f".{path.name}.lock")
    if path.is_dir() and not beside.exists() and not os.access(path.parent, os.W_OK):
        return path, path / ".lock"
    return path, beside


def _sign(descriptor: int) -> None:
    """Write into a lock who holds it."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:300]
    text = f"process {os.getpid()} on {platform.node()} ({command})"
    # Only for people to read: without it, say on a full disk, the lock holds as well.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(errors="replace"), 0)


def _holder(lock_file: Path) -> str:
    with suppress(OSError):
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            text = os.read(descriptor, 1000).decode(errors="replace")
        finally:
            os.close(descriptor)
        if text.startswith("process "):
            return "".join(letter if letter.isprintable() else "?" for letter in text)
    return "another process"


def _clear_leftovers(*things: Path) -> None:
    for path in things:
        if path.is_dir():
            clear_leftovers(path)
        elif path.parent.is_dir():
            with _naming(path):
                for entry in list(os.scandir(path.parent)):
                    match = _LEFTOVER.fullmatch(entry.name)
                    if match and match["name"] == path.name:
                        Path(entry.path).unlink(missing_ok=True)


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written: {error.strerror or error}")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: is a link, and nothing is written through it; delete it") from error
        raise _cannot_write(path, error) from error
