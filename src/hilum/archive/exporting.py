"""A File-set of exported instances (PS3.10 8, file IDs by PS3.10 8.5), as a folder or a zip file that streams.

Names of files and folders are counted letters and digits: nothing of a patient stands in them.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from hilum.archive.dicomdir import Directory, Listed
from hilum.archive.file_blobs import in_our_words, sync_directory
from hilum.archive.metadata import text
from hilum.archive.walk import Attributes
from hilum.core.errors import Conflict

CHUNK = 1 << 20
# Not before 1980 may a zip file's members be; when they were exported is nobody's business.
_MOMENT = (1980, 1, 1, 0, 0, 0)
README = """\
DICOM images, as a File-set of DICOM PS3.10.

Open DICOMDIR, or the folder DICOM, with any program that reads DICOM media.
Every file under DICOM is an image or another DICOM instance.
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """An instance on its way out: its header as it goes (DICOM JSON model), and its Part 10 file in pieces."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attributes: Attributes
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the File-set."""

    name: str
    pieces: Callable[[], Iterable[bytes]]


def file_set(instances: Iterable[Exported], sop_instance_uid: str, *, with_directory: bool = True) -> Iterator[Member]:
    """Return the files of a File-set in order: instances, the DICOMDIR of this UID, a word to who finds it."""
    directory, numbers = Directory(), _Numbers()
    for instance in instances:
        file_id = numbers.file_id(instance.attributes)
        if with_directory:
            listed = Listed(
                file_id,
                instance.sop_class_uid,
                instance.sop_instance_uid,
                instance.transfer_syntax_uid,
                instance.attributes,
            )
            directory.add(listed)
        yield Member("/".join(file_id), instance.pieces)
    if with_directory:
        content = directory.written(sop_instance_uid)
        yield Member("DICOMDIR", lambda: [content])
    yield Member("README.TXT", lambda: [README.replace("\n", "\r\n").encode("ascii")])


class _Numbers:
    """Gives patients, studies and series a folder each, and instances a file, by counting."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], dict[str, str]] = {}

    def file_id(self, attributes: Attributes) -> tuple[str, ...]:
        patient = self._name((), "P", text(attributes, "00100020") + "\n" + text(attributes, "00100021"))
        study = self._name((patient,), "S", text(attributes, "0020000D"))
        series = self._name((patient, study), "E", text(attributes, "0020000E"))
        instance = self._name((patient, study, series), "I", text(attributes, "00080018"))
        return ("DICOM", patient, study, series, instance)

    def _name(self, folder: tuple[str, ...], letter: str, key: str) -> str:
        known = self._counts.setdefault(folder, {})
        return known.setdefault(key, f"{letter}{len(known) + 1:07}")


def write_folder(members: Iterable[Member], target: Path) -> int:
    """Write a File-set as a folder that must not exist, and return the number of its files.

    Until all of it is there and synced the folder is called `….part`; it is removed where something goes wrong. Raises
    Conflict, OutOfSpace, Unavailable.
    """
    part, count = target.with_name(target.name + ".part"), 0
    with in_our_words():
        if target.exists() or part.exists():
            raise Conflict("There is something of this name already.")
        try:
            part.mkdir(parents=True)
            for member in members:
                path = part / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    file.writelines(member.pieces())
                    file.flush()
                    os.fsync(file.fileno())
                count += 1
            part.rename(target)
            sync_directory(target.parent)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return count


def write_zip(members: Iterable[Member], target: Path) -> int:
    """Write a File-set as a zip file that must not exist, and return the number of its files. As `write_folder`."""
    part, counted = target.with_name(target.name + ".part"), _Counted(members)
    with in_our_words():
        if target.exists() or part.exists():
            raise Conflict("There is something of this name already.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                file.writelines(zip_pieces(counted))
                file.flush()
                os.fsync(file.fileno())
            part.rename(target)
            sync_directory(target.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return counted.count


class _Counted:
    def __init__(self, members: Iterable[Member]) -> None:
        self._members, self.count = members, 0

    def __iter__(self) -> Iterator[Member]:
        for member in self._members:
            self.count += 1
            yield member


class _Sink:
    """A file to zipfile, whose bytes are taken as they come: it can't be sought, so nothing is corrected later."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def taken(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return found


def zip_pieces(members: Iterable[Member]) -> Iterator[bytes]:
    """Return a zip file in pieces of about 1 MiB. Members are not compressed, but framed so that any reader streams."""
    sink = _Sink()
    # Deflate at level 0: what is only stored and whose size comes after it, many readers can't read as a stream.
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=0) as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name, _MOMENT)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            info._compresslevel = 0  # type: ignore[attr-defined]
            with archive.open(info, "w", force_zip64=True) as out:
                for piece in member.pieces():
                    out.write(piece)
                    if sink.size >= CHUNK:
                        yield sink.taken()
    yield sink.taken()
