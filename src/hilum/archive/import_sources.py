"""Files that may be instances: in folders, in zip files and on media with a DICOMDIR (PS3.10 8), each opened bounded.

Links are followed only to files below the folder that was named. A zip file is read member by member; what does not
begin as DICOM is not inflated further, and no zip file gives more than a multiple of its own size.
"""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import pydicom

from hilum.archive.part10 import split
from hilum.core.errors import HilumError, InvalidInput, TooLarge

ZIP, DICOMDIR = ".zip", "DICOMDIR"
HEAD = 1 << 20
IN_MEMORY = 16 << 20
MAX_MEMBERS = 1_000_000
MAX_DICOMDIR = 256 << 20
# Blank images shrink to a thousandth, whole studies of them never.
MOST_EXPANSION, EXPANSION_GRACE = 200, 1 << 30
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)

Content: TypeAlias = bytes | mmap.mmap


class NotDicom(InvalidInput):
    """The file is not DICOM."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an instance. `place` says where it lies; `stamp` is another when it has changed."""

    place: str
    size: int
    stamp: str
    open: Callable[[], AbstractContextManager[Content]]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A place that can't be read, and why."""

    place: str
    reason: str


Found: TypeAlias = Candidate | Unusable


def candidates(path: Path, largest: int) -> Iterator[Found]:
    """Return what lies at a path: a folder with all below it, a zip file, a DICOMDIR with what it names, or a file.

    `largest` is how many bytes an instance may have. Nothing is opened before its `open` is entered, which raises
    InvalidInput, TooLarge or OSError.
    """
    if path.is_dir():
        yield from _folder(path, largest)
    elif not path.exists():
        yield Unusable(str(path), "There is no such file.")
    elif path.name.upper() == DICOMDIR:
        yield from _medium(path, largest)
    else:
        yield from _file(path, path.resolve().parent, largest)


def _folder(folder: Path, largest: int) -> Iterator[Found]:
    root, unreadable = folder.resolve(), list[Unusable]()

    def complain(error: OSError) -> None:
        unreadable.append(Unusable(str(error.filename), "The folder can't be read."))

    for parent, folders, names in os.walk(folder, onerror=complain):
        folders.sort()
        for name in folders:
            if Path(parent, name).is_symlink():
                yield Unusable(str(Path(parent, name)), "Links to folders are not followed.")
        for name in sorted(names):
            path = Path(parent, name)
            if name.upper() == DICOMDIR:
                yield from (named for named in _named_by(path, largest) if isinstance(named, Unusable))
            else:
                yield from _file(path, root, largest)
    yield from unreadable


def _medium(directory: Path, largest: int) -> Iterator[Found]:
    """What a DICOMDIR names, and nothing else of the medium."""
    root = directory.resolve().parent
    for named in _named_by(directory, largest):
        if isinstance(named, Unusable):
            yield named
        else:
            yield from _file(named, root, largest)


def _named_by(directory: Path, largest: int) -> Iterator[Path | Unusable]:
    """The files that a DICOMDIR names. A medium may hold them in small letters or with a version (ISO 9660)."""
    try:
        if directory.stat().st_size > min(MAX_DICOMDIR, largest):
            raise TooLarge("The DICOMDIR is larger than is read here.")
        names = [record.get("ReferencedFileID") for record in pydicom.dcmread(directory).DirectoryRecordSequence]
    except Exception as error:  # noqa: BLE001 what pydicom raises for a damaged file is not listed anywhere
        yield Unusable(str(directory), error.message if isinstance(error, HilumError) else "The DICOMDIR is damaged.")
        return
    for name in names:
        parts = [name] if isinstance(name, str) else [str(part) for part in name or []]
        if parts:
            path = _on_medium(directory.parent, parts)
            yield path or Unusable(
                str(directory.parent.joinpath(*parts)), "The DICOMDIR names it, but it is not there."
            )


def _on_medium(folder: Path, parts: list[str]) -> Path | None:
    for part in parts:
        if part in ("", ".", "..") or "/" in part:
            return None
        spellings = (part, part.lower(), f"{part};1", f"{part.lower()};1")
        found = next((folder / spelling for spelling in spellings if (folder / spelling).exists()), None)
        if found is None:
            return None
        folder = found
    return folder


def _file(path: Path, root: Path, largest: int) -> Iterator[Found]:
    """A regular file, opened as a zip file where its name says so; a link only where it stays below the root."""
    try:
        actual = path.resolve(strict=True)
        if path.is_symlink() and not actual.is_relative_to(root):
            yield Unusable(str(path), "The link leads outside.")
            return
        status = actual.stat()
    except (OSError, RuntimeError):
        yield Unusable(str(path), "The file can't be read.")
        return
    if not stat.S_ISREG(status.st_mode):
        yield Unusable(str(path), "This is no regular file.")
    elif path.suffix.lower() == ZIP:
        yield from _zip(actual, str(path), largest)
    else:
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        yield Candidate(str(path), status.st_size, stamp, partial(_mapped_file, actual, largest))


@contextmanager
def _mapped_file(path: Path, largest: int) -> Iterator[Content]:
    # Between look and open it may have become a link or a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        _check_size(size, largest)
        with _mapping(file, size) as content:
            yield content


@contextmanager
def _mapping(file: IO[bytes], size: int) -> Iterator[Content]:
    if not size:
        yield b""
        return
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def _zip(path: Path, place: str, largest: int) -> Iterator[Found]:
    """The members of a zip file, which stays open until the last of them was handed on and read."""
    try:
        archive = zipfile.ZipFile(path)
    except (*_BROKEN, OSError):
        yield Unusable(place, "The zip file is damaged.")
        return
    members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) > MAX_MEMBERS:
        yield Unusable(place, "The zip file has too many members.")
        return
    budget = _Budget(path.stat().st_size * MOST_EXPANSION + EXPANSION_GRACE)
    for info in members:
        name = f"{place}!{info.filename}"
        if info.filename.rpartition("/")[2].upper() == DICOMDIR:
            continue
        if info.flag_bits & 1:
            yield Unusable(name, "The member of the zip file is encrypted.")
            continue
        stamp = f"{info.file_size} {info.CRC} {info.header_offset}"
        yield Candidate(name, info.file_size, stamp, partial(_member, archive, info, budget, largest))


class _Budget:
    """How many bytes a zip file may still give."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises TooLarge when it is used up."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise TooLarge("The zip file inflates to more than any images would.")


@contextmanager
def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget, largest: int) -> Iterator[Content]:
    _check_size(info.file_size, largest)
    try:
        with archive.open(info) as member:
            head = member.read(HEAD)
            budget.take(len(head))
            _check_dicom(head)
            budget.take(info.file_size - len(head))
            if info.file_size <= IN_MEMORY:
                content = head + member.read(info.file_size - len(head))
                spilled = None
            else:
                spilled = _spill(head, member, info.file_size)
    except _BROKEN as error:
        raise InvalidInput("The member of the zip file is damaged.") from error
    if spilled is None:
        yield content
        return
    with spilled, _mapping(spilled, info.file_size) as mapped:
        yield mapped


def _spill(head: bytes, member: IO[bytes], size: int) -> IO[bytes]:
    """A large member goes through an unlinked file; it never has more bytes than its entry says."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 the caller closes it
    file.write(head)
    left = size - len(head)
    while left and (piece := member.read(min(HEAD, left))):
        file.write(piece)
        left -= len(piece)
    file.flush()
    if left:
        file.close()
        raise EOFError
    return file


def _check_dicom(head: bytes) -> None:
    try:
        split(head)
    except InvalidInput as error:
        raise NotDicom(error.message) from None


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise TooLarge("The file is larger than an instance may be.")
