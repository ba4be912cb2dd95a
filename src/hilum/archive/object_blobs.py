"""Objects in a bucket of S3 or one of its kin; the server's answer to a PUT is the durability."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from hilum.archive.blobs import CHUNK, Blob, Payload, S3Settings, checked_key, checked_range
from hilum.core.errors import HilumError, NotFound, OutOfSpace, Unavailable

if TYPE_CHECKING:
    from obstore import GetOptions

MULTIPART_BYTES = 16 << 20  # larger values go up in parts of this size, so memory stays bounded
_FULL = re.compile(r"status: 507|InsufficientStorage|XMinioStorageFull|QuotaExceeded|no space left", re.IGNORECASE)


def store_error(error: Exception) -> HilumError:
    """The error of an object store in our words; its own text carries keys and URLs and is left out."""
    if isinstance(error, NotFoundError | FileNotFoundError):
        return NotFound("There is no such object in the archive.")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return Unavailable("The object store does not accept the archive's credentials.")
    if _FULL.search(str(error)):
        return OutOfSpace()
    return Unavailable("The object store does not answer as it should.")


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn every error of obstore inside into a HilumError."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise store_error(error) from error


def _connect(bucket: str, prefix: str, settings: S3Settings) -> S3Store:
    config = {
        "endpoint": settings.endpoint,
        "region": settings.region or ("us-east-1" if settings.endpoint else None),
        "access_key_id": settings.access_key,
        "secret_access_key": settings.secret_key,
        "session_token": settings.session_token,
    }
    timeout = timedelta(seconds=settings.timeout_seconds)
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={key: value for key, value in config.items() if value is not None},  # type: ignore[arg-type]
        client_options={
            "allow_http": (settings.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=min(5.0, settings.timeout_seconds)),
            "read_timeout": timeout,
            "timeout": timeout * 4,
        },
        retry_config={"max_retries": settings.retries, "retry_timeout": timeout},
    )


class ObjectBlobs:
    """A bucket, or a folder in one, as a store; see BlobStore for what each method promises."""

    def __init__(self, bucket: str, prefix: str, settings: S3Settings) -> None:
        with in_our_words():
            self._store = _connect(bucket, prefix, settings)

    def put(self, key: str, data: Payload) -> None:
        with in_our_words():
            obstore.put(self._store, checked_key(key), data, chunk_size=MULTIPART_BYTES)

    def put_if_absent(self, key: str, data: Payload) -> bool:
        with in_our_words():
            try:
                obstore.put(self._store, checked_key(key), data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def get(self, key: str) -> bytes:
        with in_our_words():
            return obstore.get(self._store, checked_key(key)).bytes().to_bytes()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        checked_range(offset, length)
        if length == 0:
            self.head(key)
            return b""
        with in_our_words():
            try:
                data = obstore.get_range(self._store, checked_key(key), start=offset, length=length).to_bytes()
            except NotFoundError:
                raise
            except BaseError as error:
                if "416" in str(error) or "InvalidRange" in str(error):
                    raise NotFound("The object ends before the asked range.") from error
                raise
        if len(data) != length:
            raise NotFound("The object ends before the asked range.")
        return data

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        size = self.head(key).size
        length = size - offset if length is None else length
        checked_range(offset, length)
        if offset + length > size:
            raise NotFound("The object ends before the asked range.")
        if length == 0:
            return iter(())
        options: GetOptions = {"range": (offset, offset + length)}
        with in_our_words():
            pieces = iter(obstore.get(self._store, key, options=options).stream(min_chunk_size=CHUNK))
        return self._pieces(next(pieces), pieces)

    @staticmethod
    def _pieces(first: object, rest: Iterator[object]) -> Iterator[bytes]:
        with in_our_words():
            yield bytes(first)  # type: ignore[call-overload]
            for piece in rest:
                yield bytes(piece)  # type: ignore[call-overload]

    def head(self, key: str) -> Blob:
        with in_our_words():
            return Blob(key, obstore.head(self._store, checked_key(key))["size"])

    def delete(self, key: str) -> None:
        with in_our_words():
            try:
                obstore.delete(self._store, checked_key(key))
            except (NotFoundError, FileNotFoundError):
                return

    def list(self, prefix: str = "") -> Iterator[Blob]:
        with in_our_words():
            for batch in obstore.list(self._store, checked_key(prefix) if prefix else None):
                for entry in batch:
                    yield Blob(entry["path"], entry["size"])
