"""Bearer tokens for HTTP: signed statements of who asks, in which role, and until when (RFC 7519, 9068, 8725).

One algorithm (ES256), one issuer, one audience; the key is found by `kid` in the keyring and nowhere else, so
`none`, HS256 with the public key, and keys that a token brings along are refused before anything is computed.
Whether the account still exists is not known here.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Literal, TypeGuard

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from hilum.core.errors import InvalidInput, NotAuthenticated
from hilum.security.live_keys import Keys, LiveKeyring

ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type: RFC 9068 2.1, so that no other JWT passes for an access token
ISSUER = "hilum"
AUDIENCE = "hilum-http"
TOKEN_LIMIT = 8 * 1024
LEEWAY = timedelta(seconds=10)
MAX_MINUTES = 366 * 24 * 60
MAX_TEXT = 256
MAX_ITEMS = 64

# A service stands for a role, a client is a program with keys of its own.
Kind = Literal["user", "service", "client"]
_KINDS = ("user", "service", "client")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    subject: str
    role: str
    kind: Kind
    identifiers: tuple[str, ...]
    scopes: tuple[str, ...]
    not_before: datetime
    expires_at: datetime
    token_id: str


def issue(
    keyring: Keys,
    *,
    subject: str,
    role: str,
    kind: Kind,
    minutes: int,
    now: datetime,
    identifiers: Sequence[str] = (),
    scopes: Sequence[str] = (),
    token_id: str | None = None,
) -> str:
    """Sign a token that is good from now for some minutes; InvalidInput when a part is empty or out of bounds."""
    if not 1 <= minutes <= MAX_MINUTES:
        raise InvalidInput(f"A token lasts from 1 to {MAX_MINUTES} minutes.", field="minutes")
    issued = int(now.timestamp())
    payload = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "role": role,
        "kind": kind,
        "identifiers": list(identifiers),
        "scopes": list(scopes),
        "iat": issued,
        "nbf": issued,
        "exp": issued + minutes * 60,
        "jti": token_id or secrets.token_urlsafe(16),
    }
    try:
        _claims(payload)
    except NotAuthenticated as error:
        raise InvalidInput(f"No such token can be issued: {error.message}") from error
    header = {"alg": ALGORITHM, "kid": keyring.signing.kid, "typ": TOKEN_TYPE}
    token = jws.serialize_compact(header, orjson.dumps(payload), keyring.signing, algorithms=[ALGORITHM])
    if len(token) > TOKEN_LIMIT:
        raise InvalidInput("The names, identifiers and scopes do not fit into one token.")
    return token


def verify(keyring: Keys, token: str, now: datetime) -> Claims:
    """Check signature, issuer, audience and times of a token; NotAuthenticated says which of them failed."""
    claims = _signed_claims(keyring, token)
    _check_times(claims, now)
    return claims


class TokenVerifier:
    """`verify` with a bounded memory of tokens whose signature held (checking one costs about 0.1 ms).

    Times are checked at each use. When the keys change everything is forgotten, also what a removed key signed.
    """

    def __init__(self, keyring: Keys, capacity: int = 4096) -> None:
        self._keyring = keyring
        self._capacity = capacity
        # keyed by digest: a token in memory is a token in a core dump, and 32 bytes bound what an entry costs
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._verified_by = keyring.verification
        self._lock = Lock()

    def verify(self, token: str, now: datetime) -> Claims:
        """Return what the token says, as `verify` does."""
        if len(token) > TOKEN_LIMIT:
            raise NotAuthenticated("The token is too long.")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        keys = self._keyring.verification
        with self._lock:
            if keys is not self._verified_by:
                self._verified.clear()
                self._verified_by = keys
            claims = self._verified.get(digest)
            if claims is not None:
                self._verified.move_to_end(digest)
        fresh = claims is None
        claims = claims or _signed_claims(self._keyring, token)
        try:
            _check_times(claims, now)
        except NotAuthenticated:
            with self._lock:
                self._verified.pop(digest, None)
            raise
        if fresh:
            self._remember(digest, claims)
        return claims

    def __len__(self) -> int:
        return len(self._verified)

    def _remember(self, digest: bytes, claims: Claims) -> None:
        with self._lock:
            self._verified[digest] = claims
            while len(self._verified) > self._capacity:
                self._verified.popitem(last=False)


def _signed_claims(keyring: Keys, token: str) -> Claims:
    if len(token) > TOKEN_LIMIT:
        raise NotAuthenticated("The token is too long.")
    if not token.isascii() or token.count(".") != 2:
        raise NotAuthenticated("The token is not a signed JWT.")
    try:
        signed = jws.extract_compact(token.encode())
        header = signed.headers()
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise NotAuthenticated("The token is not a signed JWT.") from error
    if header.get("alg") != ALGORITHM:
        raise NotAuthenticated("The token is signed with an algorithm that is not accepted.")
    if header.get("typ") != TOKEN_TYPE or set(header) != {"alg", "kid", "typ"}:
        raise NotAuthenticated("The token is not an access token.")
    kid = header["kid"]
    key = _key(keyring, kid) if isinstance(kid, str) else None
    if key is None:
        raise NotAuthenticated("The token is signed with a key that is not known here.")
    try:
        holds = jws.validate_compact(signed, key, algorithms=[ALGORITHM])
        payload = orjson.loads(signed.payload) if holds else None
    except (JoseError, ValueError, TypeError) as error:
        raise NotAuthenticated("The signature of the token does not hold.") from error
    if not holds:
        raise NotAuthenticated("The signature of the token does not hold.")
    return _claims(payload)


def _key(keyring: Keys, kid: str) -> ECKey | None:
    key = keyring.verification.get(kid)
    if key is None and isinstance(keyring, LiveKeyring):
        keyring.look()
        key = keyring.verification.get(kid)
    return key


def _claims(payload: Any) -> Claims:
    if not isinstance(payload, dict):
        raise NotAuthenticated("The token holds no claims.")
    if payload.get("iss") != ISSUER or payload.get("aud") != AUDIENCE:
        raise NotAuthenticated("The token was made by another issuer or for another audience.")
    kind = payload.get("kind")
    if kind not in _KINDS:
        raise NotAuthenticated("The token is neither of a user nor of a service.")
    issued = _time(payload, "iat")
    not_before = _time(payload, "nbf")
    return Claims(
        subject=_text(payload, "sub"),
        role=_text(payload, "role"),
        kind=kind,
        identifiers=_texts(payload, "identifiers"),
        scopes=_texts(payload, "scopes"),
        not_before=max(issued, not_before),
        expires_at=_time(payload, "exp"),
        token_id=_text(payload, "jti"),
    )


def _check_times(claims: Claims, now: datetime) -> None:
    if now >= claims.expires_at + LEEWAY:
        raise NotAuthenticated("The token has expired.")
    if now < claims.not_before - LEEWAY:
        raise NotAuthenticated("The token is not valid yet.")


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not _is_text(value):
        raise NotAuthenticated(f"The claim {name} of the token is missing or out of bounds.")
    return value


def _texts(payload: dict[str, Any], name: str) -> tuple[str, ...]:
    values = payload.get(name)
    if not isinstance(values, list) or len(values) > MAX_ITEMS or not all(_is_text(value) for value in values):
        raise NotAuthenticated(f"The claim {name} of the token is missing or out of bounds.")
    return tuple(values)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT


def _time(payload: dict[str, Any], name: str) -> datetime:
    value = payload.get(name)
    # bool is an int to Python, and not a time
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**36:
        raise NotAuthenticated(f"The claim {name} of the token is missing or out of bounds.")
    return datetime.fromtimestamp(value, UTC)
