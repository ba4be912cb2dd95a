"""How a program proves who it is: a short statement signed with its own key (RFC 7523, OpenID Core 9 private_key_jwt).

The key set of a client holds public keys that sign asymmetrically and nothing else. A statement is for this server,
for a few minutes, and for once; whether it was seen before is for the database to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from hilum.core.errors import InvalidInput, NotAuthenticated

# Algorithm to the kinds of key that may make it; RS384 and ES384 are what SMART Backend Services asks for.
ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
}
ASSERTION_LIMIT = 8 * 1024
LONGEST = timedelta(minutes=5)
LEEWAY = timedelta(seconds=30)
MAX_KEYS = 10
LEAST_RSA_BITS = 2048
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Assertion:
    """A statement whose signature and times hold."""

    client: str
    token_id: str
    expires_at: datetime


def public_jwks(data: bytes) -> dict[str, Any]:
    """Read the key set of a client; InvalidInput says which key cannot be used, and why."""
    try:
        found = orjson.loads(data) if len(data) <= 64 * 1024 else None
    except orjson.JSONDecodeError:
        raise InvalidInput("The key set is not JSON.") from None
    keys = found.get("keys", [found]) if isinstance(found, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_KEYS:
        raise InvalidInput(f"A key set holds 1 to {MAX_KEYS} keys (RFC 7517 section 5).")
    for number, jwk in enumerate(keys, 1):
        _check_key(jwk, number)
    return {"keys": keys}


def claimed_client(assertion: str) -> str:
    """Return whose statement this says it is, which proves nothing yet."""
    return _text(_parts(assertion)[1], "iss")


def check_assertion(assertion: str, jwks: dict[str, Any], audiences: Collection[str], now: datetime) -> Assertion:
    """Check signature, audience and times of a statement; NotAuthenticated says which failed."""
    header, _ = _parts(assertion)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or "crit" in header:
        raise NotAuthenticated("The assertion is signed with an algorithm that is not accepted.")
    key = _key(jwks, header.get("kid"), algorithm)
    try:
        payload = orjson.loads(jws.deserialize_compact(assertion, key, algorithms=[algorithm]).payload)
    except (JoseError, ValueError, TypeError) as error:
        raise NotAuthenticated("The signature of the assertion does not hold.") from error
    client = _text(payload, "iss")
    if payload.get("sub") != client:
        raise NotAuthenticated("The assertion speaks of another subject than its issuer.")
    audience = payload.get("aud")
    audience = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
    if not isinstance(audience, str) or audience not in audiences:
        raise NotAuthenticated("The assertion is for another audience.")
    expires, issued, before = (_time(payload, name) for name in ("exp", "iat", "nbf"))
    if expires is None or now >= expires + LEEWAY:
        raise NotAuthenticated("The assertion has ended.")
    if expires > now + LONGEST + LEEWAY:
        raise NotAuthenticated("The assertion lasts longer than five minutes.")
    if any(moment is not None and moment > now + LEEWAY for moment in (issued, before)):
        raise NotAuthenticated("The assertion is not valid yet.")
    return Assertion(client, _text(payload, "jti"), expires + LEEWAY)


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    refused = NotAuthenticated("The assertion is not a signed JWT.")
    if len(assertion) > ASSERTION_LIMIT or not assertion.isascii() or assertion.count(".") != 2:
        raise refused
    try:
        found = jws.extract_compact(assertion.encode())
        payload = orjson.loads(found.payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise refused from error
    if not isinstance(payload, dict):
        raise refused
    return dict(found.headers()), payload


def _key(jwks: dict[str, Any], kid: object, algorithm: str) -> Key:
    kind, curve = ALGORITHMS[algorithm]
    fitting = [
        jwk
        for jwk in jwks["keys"]
        if (kid is None or jwk.get("kid") == kid)
        and jwk["kty"] == kind
        and (not curve or jwk.get("crv") == curve)
        and jwk.get("alg", algorithm) == algorithm
    ]
    if len(fitting) != 1:
        raise NotAuthenticated("The assertion is signed with a key that is not known here.")
    return KeySet.import_key_set({"keys": fitting}).keys[0]


def _check_key(jwk: object, number: int) -> None:
    if not isinstance(jwk, dict):
        raise InvalidInput(f"Key {number} is not a JWK.")
    if PRIVATE & set(jwk):
        raise InvalidInput(f"Key {number} is private or secret; give its public part only, and keep the other.")
    if jwk.get("use", "sig") != "sig":
        raise InvalidInput(f"Key {number} is not for signatures.")
    try:
        key = KeySet.import_key_set({"keys": [jwk]}).keys[0]
    except (JoseError, ValueError, TypeError, KeyError):
        raise InvalidInput(f"Key {number} is not a usable JWK.") from None
    strong = (
        (isinstance(key, RSAKey) and key.public_key.key_size >= LEAST_RSA_BITS)
        or (isinstance(key, ECKey) and key.curve_name in ("P-256", "P-384", "P-521"))
        or (isinstance(key, OKPKey) and jwk.get("crv") == "Ed25519")
    )
    if not strong:
        raise InvalidInput(f"Key {number} is too weak: RSA from {LEAST_RSA_BITS} bits, P-256, P-384, P-521 or Ed25519.")


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise NotAuthenticated(f"The claim {name} of the assertion is missing or out of bounds.")
    return value


def _time(payload: dict[str, Any], name: str) -> datetime | None:
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**36:
        raise NotAuthenticated(f"The claim {name} of the assertion is missing or out of bounds.")
    return datetime.fromtimestamp(value, UTC)
