"""The keys of one home: token signing, audit and session, each a JWK file in `<home>/keys/`.

Files are made 0600 in a 0700 directory when they are missing, and appear whole or not at all, so processes that
start together end with the same keys. A retired key stays beside the current one, and is still good for checking.
Refused: a key file that others may read, or one that is not a key of its kind. Nothing here is ever logged.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from hilum.core.errors import InvalidInput

SECRET_BYTES = 32
KEY_FILE_LIMIT = 16 * 1024
RotatedKey = Literal["token-signing", "audit"]


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A secret that authenticates audit rows and seals, with the name by which they refer to it."""

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The keys of one home as they were on disk when it was opened."""

    signing: ECKey
    verification: Mapping[str, ECKey]
    audit: AuditKey
    audit_keys: Mapping[str, AuditKey]
    session_secret: bytes

    @classmethod
    def open(cls, home: Path) -> Keyring:
        """Read the keys of a home, making those that are missing; InvalidInput names the file that cannot be used."""
        directory = home / "keys"
        _make_directory(directory)
        signing = _signing_key(_current(directory, "token-signing"))
        audit = _audit_key(_current(directory, "audit"))
        session = _audit_key(_current(directory, "session"))
        retired_signing = [_signing_key(path) for path in _retired(directory, "token-signing")]
        retired_audit = [_audit_key(path) for path in _retired(directory, "audit")]
        return cls(
            signing=signing,
            verification=MappingProxyType({_kid(key): key for key in [*retired_signing, signing]}),
            audit=audit,
            audit_keys=MappingProxyType({key.key_id: key for key in [*retired_audit, audit]}),
            session_secret=session.secret,
        )

    def __repr__(self) -> str:
        return f"Keyring(signing={self.signing.kid!r}, audit={self.audit.key_id!r})"


def rotate(home: Path, name: RotatedKey) -> Keyring:
    """Retire the current key of a kind and put a new one in its place; other processes see it when they reopen.

    The retired file comes first, so that at no moment a signature exists that no key on disk can check.
    """
    directory = home / "keys"
    _make_directory(directory)
    with _locked(directory):
        path = _current(directory, name)
        if name == "token-signing":
            key = _signing_key(path)
            kept = orjson.dumps(key.as_dict(private=False)), _kid(key)
        else:
            kept = path.read_bytes(), _audit_key(path).key_id
        retired = directory / f"{name}-{kept[1]}.jwk"
        with suppress(FileExistsError):
            write_synced(retired, kept[0])
        write_synced(path, NEW_KEY[name](), replace=True)
    return Keyring.open(home)


def write_synced(path: Path, data: bytes, *, mode: int = 0o600, replace: bool = False) -> None:
    """Write a file whole or not at all, synced with its directory; FileExistsError when it is there and not to go."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # link, unlike rename, fails when another process was first
            os.link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync_directory(path.parent)


def _new_signing_key() -> bytes:
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
    return orjson.dumps(key.as_dict(private=True))


def _new_secret() -> bytes:
    secret = urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    return orjson.dumps({"kty": "oct", "kid": secrets.token_hex(8), "k": secret})


NEW_KEY: dict[str, Callable[[], bytes]] = {
    "token-signing": _new_signing_key,
    "audit": _new_secret,
    "session": _new_secret,
}


def _current(directory: Path, name: str) -> Path:
    """Return the path of the current key of a kind, having made it if it was missing."""
    path = directory / f"{name}.jwk"
    if not path.exists():
        with suppress(FileExistsError):
            write_synced(path, NEW_KEY[name]())
    return path


def _retired(directory: Path, name: str) -> list[Path]:
    return sorted(directory.glob(f"{name}-*.jwk"))


def _signing_key(path: Path) -> ECKey:
    try:
        key = ECKey.import_key({**_read_jwk(path)})
        key.ensure_kid()
    except (JoseError, ValueError, TypeError) as error:
        raise InvalidInput(f"The key file {path.name} holds no usable EC key.") from error
    if key.curve_name != "P-256":
        raise InvalidInput(f"The key file {path.name} holds a key of another curve than P-256.")
    return key


def _audit_key(path: Path) -> AuditKey:
    jwk = _read_jwk(path)
    key_id, encoded = jwk.get("kid"), jwk.get("k")
    if jwk.get("kty") != "oct" or not key_id or not encoded:
        raise InvalidInput(f"The key file {path.name} holds no secret key with a key id.")
    try:
        secret = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError as error:
        raise InvalidInput(f"The key file {path.name} holds no readable secret.") from error
    if len(secret) < SECRET_BYTES:
        raise InvalidInput(f"The key file {path.name} holds a secret of fewer than {SECRET_BYTES} bytes.")
    return AuditKey(key_id, secret)


def _read_jwk(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        # a mounted secret may be readable by the group of the service, never by everyone
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise InvalidInput(f"The key file {path.name} is open to other users; make it readable by its owner only.")
        data = file.read(KEY_FILE_LIMIT + 1)
    try:
        jwk = orjson.loads(data) if len(data) <= KEY_FILE_LIMIT else None
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The key file {path.name} is not JSON.") from error
    if not isinstance(jwk, dict) or not all(isinstance(value, str) for value in jwk.values()):
        raise InvalidInput(f"The key file {path.name} is not a JWK.")
    return jwk


def _kid(key: ECKey) -> str:
    key.ensure_kid()
    return str(key.kid)


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
