"""Objects as files under one directory, each durable when its `put` returns."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from hilum.archive.blobs import CHUNK, Blob, Payload, checked_key, checked_range
from hilum.core.errors import HilumError, NotFound, OutOfSpace, Unavailable

UNFINISHED = ".part"  # ends the name of a file that is still being written
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


def storage_error(error: OSError) -> HilumError:
    """The error of a file system in our words; its own text could carry a path and is left out."""
    if error.errno in _FULL:
        return OutOfSpace()
    if error.errno in _ABSENT:
        return NotFound("There is no such object in the archive.")
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return Unavailable(f"The archive's file system refused ({name}).")


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn every OSError inside into a HilumError."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory and its parents so that their names survive a power cut."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_directory(each.parent)


class FileBlobs:
    """A directory as a store; see BlobStore for what each method promises."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """The file that holds the key, for sendfile and tools; it may not exist."""
        return self.root / checked_key(key)

    def put(self, key: str, data: Payload) -> None:
        self._put(self.path(key), data, replace=True)

    def put_if_absent(self, key: str, data: Payload) -> bool:
        path = self.path(key)
        if path.exists():
            return False
        return self._put(path, data, replace=False)

    def _put(self, path: Path, data: Payload, *, replace: bool) -> bool:
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
        with in_our_words():
            make_directory(path.parent)
            try:
                self._write(part, data)
                if replace:
                    part.replace(path)
                else:
                    os.link(part, path)
                sync_directory(path.parent)
            except FileExistsError:
                return False
            finally:
                with suppress(FileNotFoundError):
                    part.unlink()
        return True

    @staticmethod
    def _write(path: Path, data: Payload) -> None:
        with path.open("xb", buffering=0) as file:
            for piece in _pieces(data):
                view = memoryview(piece).cast("B")
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())

    def get(self, key: str) -> bytes:
        with in_our_words():
            return self.path(key).read_bytes()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        checked_range(offset, length)
        with in_our_words():
            descriptor = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = _pread(descriptor, offset, length)
            finally:
                os.close(descriptor)
        if len(data) != length:
            raise NotFound("The object ends before the asked range.")
        return data

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        size = self.head(key).size
        length = size - offset if length is None else length
        checked_range(offset, length)
        if offset + length > size:
            raise NotFound("The object ends before the asked range.")
        first = self.get_range(key, offset, min(CHUNK, length))
        return self._pieces(key, first, offset + len(first), offset + length)

    def _pieces(self, key: str, first: bytes, position: int, end: int) -> Iterator[bytes]:
        if first:
            yield first
        while position < end:
            piece = self.get_range(key, position, min(CHUNK, end - position))
            position += len(piece)
            yield piece

    def head(self, key: str) -> Blob:
        with in_our_words():
            return Blob(key, self.path(key).stat().st_size)

    def delete(self, key: str) -> None:
        path = self.path(key)
        with in_our_words(), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            sync_directory(path.parent)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        top = self.root / checked_key(prefix) if prefix else self.root
        with in_our_words():
            for directory, _, names in os.walk(top):
                for name in names:
                    path = Path(directory, name)
                    if name.endswith(UNFINISHED):
                        continue
                    with suppress(FileNotFoundError):  # deleted while we looked
                        yield Blob(path.relative_to(self.root).as_posix(), path.stat().st_size)


def _pieces(data: Payload) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(data, bytes | bytearray | memoryview):
        yield data
    elif isinstance(data, Iterator) and not hasattr(data, "read"):
        yield from data
    else:
        file = cast(BinaryIO, data)
        while piece := file.read(CHUNK):
            yield piece


def _pread(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]
    missing = length - len(data)
    while missing and (data := os.pread(descriptor, missing, offset + length - missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)
