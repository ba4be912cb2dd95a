"""One OpenID provider as it stands: its metadata, its keys, and what its ID tokens prove (OpenID Connect Core 1.0).

Accepted is the authorization code flow with PKCE alone. An ID token must be signed with an asymmetric algorithm by a
key of the provider's own key set: `none`, and HS256 under our secret, are refused before anything is computed.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from hilum.core.errors import NotAuthenticated, Unavailable
from hilum.security.tls import client_context
from hilum.serve.fetch import fetch_json
from hilum.settings import SettingsError
from hilum.settings.identity import OidcProvider, is_secure

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
METADATA_SECONDS = 3600.0
# A key that is not known may be new; a stranger's tokens must not make us ask the provider without end.
KEYS_AGAIN_SECONDS = 5.0
LEEWAY_SECONDS = 60
TOKEN_LIMIT = 64 * 1024
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Begun:
    """What a sign-in at the provider began with; it has to come back, or be proven, at its end."""

    state: str
    nonce: str
    verifier: str


class Provider:
    """Speaks with one provider; safe to use from any thread."""

    def __init__(self, settings: OidcProvider, home: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Takes its settings and the home, in which its secret and authorities lie."""
        self.settings = settings
        self._home = home
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def sign_in_url(self, begun: Begun, redirect_uri: str, *, again: bool = False) -> str:
        """Return where to send the browser; `again` asks for a fresh proof of who sits there."""
        url: str = prepare_grant_uri(
            self._endpoint("authorization_endpoint"),
            self.settings.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=list(self.settings.scopes),
            state=begun.state,
            nonce=begun.nonce,
            code_challenge=create_s256_code_challenge(begun.verifier),
            code_challenge_method="S256",
            **({"prompt": "login", "max_age": "0"} if again else {}),
        )
        return url

    def sign_out_url(self, back_to: str) -> str | None:
        """Return where a person ends their session at the provider (RP-Initiated Logout 1.0), if it says."""
        endpoint = self.metadata().get("end_session_endpoint")
        if not isinstance(endpoint, str) or not is_secure(endpoint):
            return None
        joint = "&" if "?" in endpoint else "?"
        client, back = quote(self.settings.client_id, safe=""), quote(back_to, safe="")
        return f"{endpoint}{joint}client_id={client}&post_logout_redirect_uri={back}"

    def claims(self, code: str, begun: Begun, redirect_uri: str, now: datetime) -> dict[str, Any]:
        """Exchange a code and return what the provider says of the person. Raises NotAuthenticated or Unavailable."""
        body = prepare_token_request(
            "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=begun.verifier
        )
        body, headers = self._authenticated(body)
        status, answer = fetch_json(self._endpoint("token_endpoint"), self._context(), body=body, headers=headers)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if status != 200 or not isinstance(id_token, str) or not isinstance(access_token, str):
            raise NotAuthenticated("The sign-in service did not confirm this sign-in.")
        claims = self._verified(id_token, access_token, begun.nonce, now)
        return self._completed(claims, access_token)

    def metadata(self) -> dict[str, Any]:
        """Return the provider's metadata (OpenID Connect Discovery 1.0, section 4), at most an hour old."""
        known = self._metadata
        if known is not None and self._monotonic() - known[0] < METADATA_SECONDS:
            return known[1]
        issuer = self.settings.issuer
        status, found = fetch_json(issuer.rstrip("/") + "/.well-known/openid-configuration", self._context())
        if status != 200 or found.get("issuer") != issuer:
            raise Unavailable("The sign-in service describes another issuer than the one in the settings.")
        if not all(isinstance(found.get(name), str) and is_secure(found[name]) for name in ENDPOINTS):
            raise Unavailable("The sign-in service names an address that is missing or not encrypted.")
        self._metadata = (self._monotonic(), found)
        return found

    def _endpoint(self, name: str) -> str:
        return str(self.metadata()[name])

    def _verified(self, token: str, access_token: str, nonce: str, now: datetime) -> dict[str, Any]:
        refused = NotAuthenticated("The sign-in service's statement of who you are does not hold.")
        if len(token) > TOKEN_LIMIT or not token.isascii():
            raise refused
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS or "crit" in header:
                raise refused
            key = self._key(header.get("kid"), header["alg"])
            payload = orjson.loads(jws.deserialize_compact(token, key, algorithms=[header["alg"]]).payload)
            claims = CodeIDToken(
                payload,
                header,
                {
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                },
                {"client_id": self.settings.client_id, "nonce": nonce, "access_token": access_token},
            )
            claims.validate(int(now.timestamp()), LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise refused from error
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
            raise refused
        return dict(claims)

    def _key(self, kid: object, algorithm: str) -> Key:
        for fresh in (False, True):
            found = [key for key in self._key_set(fresh=fresh).keys if _fits(key, kid, algorithm)]
            if len(found) == 1:
                return found[0]
        raise NotAuthenticated("The sign-in service signed with a key that it does not publish.")

    def _key_set(self, *, fresh: bool) -> KeySet:
        with self._lock:
            known = self._keys
            if known is not None:
                age = self._monotonic() - known[0]
                if age < (KEYS_AGAIN_SECONDS if fresh else METADATA_SECONDS):
                    return known[1]
            status, found = fetch_json(self._endpoint("jwks_uri"), self._context())
            keys = found.get("keys")
            if status != 200 or not isinstance(keys, list) or len(keys) > 100:
                raise Unavailable("The sign-in service does not publish its keys.")
            imported = KeySet([key for jwk in keys if (key := _public_key(jwk)) is not None])
            self._keys = (self._monotonic(), imported)
            return imported

    def _completed(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """Add what the ID token leaves to the UserInfo endpoint (Core 5.3); it must speak of the same subject."""
        wanted = self.settings.groups_claim, self.settings.name_claim, self.settings.identifier_claim
        endpoint = self.metadata().get("userinfo_endpoint")
        if not isinstance(endpoint, str) or all(name in claims for name in wanted if name):
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        status, more = fetch_json(endpoint, self._context(), headers=headers)
        if status != 200:
            raise NotAuthenticated("The sign-in service did not say who you are.")
        if more.get("sub") != claims["sub"]:
            raise NotAuthenticated("The sign-in service spoke of two different people.")
        return {**more, **claims}

    def _authenticated(self, body: str) -> tuple[str, dict[str, str]]:
        """Say who we are at the token endpoint (RFC 6749 2.3.1), by a header unless it takes only a form."""
        client_id = self.settings.client_id
        secret = self._secret()
        if not secret:
            return f"{body}&client_id={quote(client_id, safe='')}", {}
        taken = self.metadata().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" not in taken and "client_secret_post" in taken:
            return f"{body}&client_id={quote(client_id, safe='')}&client_secret={quote(secret, safe='')}", {}
        pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}".encode()
        return body, {"Authorization": "Basic " + b64encode(pair).decode()}

    def _secret(self) -> str:
        """Read anew at each use, so that it is rotated by replacing the file."""
        file = self.settings.client_secret_file
        if not file:
            return ""
        try:
            return (self._home / file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"`security.oidc.client_secret_file` of {self.settings.name} cannot be read.") from None

    def _context(self) -> Any:
        if self.settings.issuer.startswith("http:"):
            return None
        return client_context(self._home / self.settings.ca if self.settings.ca else None)


def _public_key(jwk: object) -> Key | None:
    """A key of the set, if it is of a kind that signs asymmetrically; others are passed over."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        return KeySet.import_key_set({"keys": [jwk]}).keys[0]
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _fits(key: Key, kid: object, algorithm: str) -> bool:
    """RFC 7517 4.2, 4.4, 4.5: by identifier where the token has one, and never against what the key is for."""
    said = key.as_dict(private=False)
    kind = "RSA" if algorithm[:2] in ("RS", "PS") else "EC" if algorithm[:2] == "ES" else "OKP"
    return (
        (kid is None or said.get("kid") == kid)
        and said.get("kty") == kind
        and said.get("use", "sig") == "sig"
        and said.get("alg", algorithm) == algorithm
    )
