"""Bytes by key, on a local directory or an S3 bucket, with one set of errors.

`put` returns only when the bytes survive a power cut. A local directory is written by ourselves, because obstore's
local store syncs neither the file nor its directory; S3 and its kin are reached through obstore. Keys are relative,
made of harmless characters, and can't climb out of the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

from hilum.core.errors import InvalidInput

CHUNK = 1 << 20
MAX_KEY = 900  # S3 takes 1,024 bytes; the rest is room for the bucket's prefix
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+-]*\Z")

Payload: TypeAlias = bytes | bytearray | memoryview | BinaryIO | Iterator[bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored object: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class S3Settings:
    """How an S3 server is reached; what is empty comes from the environment or the machine's role."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0
    retries: int = 4


@runtime_checkable
class BlobStore(Protocol):
    """What the archive needs of a store.

    Errors everywhere: NotFound (no such key, or a range past its end), OutOfSpace, Unavailable, InvalidInput (key).
    """

    def put(self, key: str, data: Payload) -> None:
        """Store durably, replacing what was there; readers see the old bytes or the new, never a part."""

    def put_if_absent(self, key: str, data: Payload) -> bool:
        """Store durably unless the key is taken; says whether it was stored."""

    def get(self, key: str) -> bytes:
        """All bytes of the key."""

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes in pieces of about 1 MiB; a missing key is raised here, not at the first piece."""

    def head(self, key: str) -> Blob:
        """The size of the key."""

    def delete(self, key: str) -> None:
        """Remove the key; a key that is not there is no error."""

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Every key in the folder `prefix` and below it, in no particular order."""


def checked_key(key: str) -> str:
    """The key itself, or InvalidInput when it could mean something else to a file system or a URL."""
    parts = key.split("/")
    if len(key) > MAX_KEY or not all(_PART.match(part) for part in parts):
        raise InvalidInput("The name of a stored object has a form that is not allowed.", field="key")
    return key


def checked_range(offset: int, length: int) -> None:
    """Refuse ranges no store could mean."""
    if offset < 0 or length < 0:
        raise InvalidInput("A byte range starts at 0 or later and is not negative.", field="range")


def open_store(url: str, root: Path, s3: S3Settings | None = None) -> BlobStore:
    """The store of `[archive] url`: "file" is the directory `root`, "s3://bucket/prefix" a bucket.

    Raises InvalidInput when the URL is neither.
    """
    if url == "file":
        from hilum.archive.file_blobs import FileBlobs

        return FileBlobs(root)
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", url)
    if match is None:
        raise InvalidInput('The archive URL is "file" or "s3://bucket/prefix".', field="archive.url")
    from hilum.archive.object_blobs import ObjectBlobs

    prefix = match.group(2) or ""
    return ObjectBlobs(match.group(1), checked_key(prefix) if prefix else "", s3 or S3Settings())
