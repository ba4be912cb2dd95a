"""Import of folders, zip files and media: every file is tried, several at a time, and each is told what became of it.

What is stored goes the way of any received image: durable, matched, once. A file that can't be taken is named with its
reason and copied nowhere. An import that was cut short goes on where it was; one that has ended may be run again and
stores nothing twice.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from hilum.archive.import_sources import Candidate, Found, NotDicom, Unusable, candidates
from hilum.archive.ingest import Ingest
from hilum.archive.part10 import split
from hilum.core.actor import Actor
from hilum.core.errors import HilumError, InvalidInput, Unavailable
from hilum.security.policy import Action, require
from hilum.workflow.images import Recorded
from hilum.workflow.source import Source

SOURCE = Source("DICOM import", "import")
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
WORKERS = 4
AHEAD = 4 * WORKERS
_KEY_BYTES = 16


class Became(StrEnum):
    """What became of a file."""

    STORED = "stored"
    KNOWN = "known"  # the archive has exactly these bytes
    BESIDE = "beside"  # it has other bytes under this UID: kept beside them, and listed
    DONE_BEFORE = "done before"  # by the import that was cut short
    NOT_DICOM = "not DICOM"
    REFUSED = "refused"


BECAME = {Recorded.STORED: Became.STORED, Recorded.KNOWN: Became.KNOWN, Recorded.BESIDE: Became.BESIDE}


@dataclass(frozen=True, slots=True)
class Imported:
    """A file and what became of it; `reason` is of what was not taken."""

    place: str
    size: int
    became: Became
    reason: str = ""


class Ledger:
    """Which files of an import that has not ended are done already; forgotten when it ends.

    A line that a power cut took costs reading the file again, nothing else.
    """

    def __init__(self, folder: Path, paths: Iterable[Path]) -> None:
        """Open the ledger of an import of these paths. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        named = "\0".join(sorted(str(path.resolve()) for path in paths))
        self._path = folder / f"{hashlib.sha256(named.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.done"
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = len(content) - len(content) % _KEY_BYTES
        self._done = {content[at : at + _KEY_BYTES] for at in range(0, whole, _KEY_BYTES)}
        self._file: BinaryIO = self._path.open("r+b" if content else "wb")
        self._file.seek(whole)
        self._file.truncate()

    def __contains__(self, found: Candidate) -> bool:
        return _key(found) in self._done

    def add(self, found: Candidate) -> None:
        """Note that a file is done."""
        self._file.write(_key(found))

    def flush(self) -> None:
        """Hand what was noted to the operating system."""
        self._file.flush()

    def close(self, *, ended: bool) -> None:
        """Forget it all where the import has ended, keep it where it has not."""
        self._file.close()
        if ended:
            self._path.unlink(missing_ok=True)


def _key(found: Candidate) -> bytes:
    text = f"{found.place}\0{found.stamp}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).digest()[:_KEY_BYTES]


def import_paths(
    ingest: Ingest, paths: Iterable[Path], actor: Actor, ledger: Ledger, *, largest: int, issuer: str = ""
) -> Iterator[Imported]:
    """Import what lies at the paths, and tell of each file as it is done; not in the order of the files.

    `largest` is how many bytes an instance may have, `issuer` of patient IDs that come without one. Raises Forbidden;
    Unavailable or OutOfSpace when database or archive do not answer: what was told of is stored, and the import may be
    resumed.
    """
    require(actor, Action.STORE_IMAGES)
    found = (each for path in paths for each in candidates(path, largest))
    waiting: deque[tuple[Found, Future[Imported]]] = deque()
    with ThreadPoolExecutor(WORKERS, "import") as pool:
        try:
            for each in found:
                waiting.append((each, pool.submit(_import, ingest, each, actor, ledger, issuer)))
                if len(waiting) >= AHEAD:
                    yield _ended(*waiting.popleft(), ledger)
            while waiting:
                yield _ended(*waiting.popleft(), ledger)
        finally:
            for _, future in waiting:
                future.cancel()


def _ended(found: Found, future: Future[Imported], ledger: Ledger) -> Imported:
    imported = future.result()
    if isinstance(found, Candidate) and imported.became in (Became.STORED, Became.KNOWN, Became.BESIDE):
        ledger.add(found)
    return imported


def _import(ingest: Ingest, found: Found, actor: Actor, ledger: Ledger, issuer: str) -> Imported:
    if isinstance(found, Unusable):
        return Imported(found.place, 0, Became.REFUSED, found.reason)
    if found in ledger:
        return Imported(found.place, found.size, Became.DONE_BEFORE)
    try:
        with found.open() as content:
            became, reason = _store(ingest, content, actor, issuer)
    except NotDicom as error:
        return Imported(found.place, found.size, Became.NOT_DICOM, error.message)
    except OSError:
        return Imported(found.place, found.size, Became.REFUSED, "The file can't be read.")
    except Unavailable:
        raise
    except HilumError as error:
        return Imported(found.place, found.size, Became.REFUSED, _words(error))
    return Imported(found.place, found.size, became, reason)


def _store(ingest: Ingest, content: bytes | object, actor: Actor, issuer: str) -> tuple[Became, str]:
    try:
        meta = split(content)
    except InvalidInput as error:
        return Became.NOT_DICOM, _words(error)
    if meta.sop_class_uid == MEDIA_DIRECTORY:
        return Became.NOT_DICOM, "This is the directory of a medium."
    is_marked = meta.sop_class_uid is not None
    try:
        ingested = ingest.store_file(content, source=SOURCE, actor=actor, issuer=issuer)  # type: ignore[arg-type]
    except Unavailable:
        raise
    except HilumError as error:
        return (Became.REFUSED if is_marked else Became.NOT_DICOM), _words(error)
    return BECAME[ingested.recorded], ""


def _words(error: HilumError) -> str:
    return f"{error.field}: {error.message}" if error.field else error.message
