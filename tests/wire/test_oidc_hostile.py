"""A provider that lies, dawdles or was taken over: none of its words opens a session."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from hilum.core.errors import HilumError, NotAuthenticated, Unavailable
from hilum.serve import fetch
from hilum.serve.oidc_provider import Begun, Provider
from hilum.settings.identity import OidcProvider

SECRET = "the client secret that is longer than thirty-two bytes"
BEGUN = Begun("state", "the-nonce", "v" * 64)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALLBACK = "http://127.0.0.1:1/auth/oidc/x/callback"


class Liar:
    """Answers as a provider would, with what the test puts in its mouth."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
        self.keys: list[Any] = [self.key]
        self.id_token = ""
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                liar.asked.append((self.path, self.rfile.read(size).decode(), dict(self.headers)))
                status, body, headers = liar.answers.get(self.path) or (200, liar.answer(self.path), {})
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> bytes:
        ends = {
            "authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "jwks",
            "userinfo_endpoint": "me", "end_session_endpoint": "end",
        }  # fmt: skip
        metadata = {"issuer": self.issuer, **{name: f"{self.issuer}/{end}" for name, end in ends.items()}}
        return json.dumps(
            {
                "/.well-known/openid-configuration": metadata,
                "/token": {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token},
                "/jwks": {"keys": [key.as_dict(private=False) for key in self.keys]},
                "/me": {"sub": "s-1", "groups": ["readers"], "preferred_username": "ada"},
            }[path]
        ).encode()

    def says(self, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> None:
        """Put an ID token together; a claim of None is left out."""
        now = int(NOW.timestamp())
        claims = {"iss": self.issuer, "aud": "hilum", "sub": "s-1", "iat": now, "exp": now + 300, "nonce": BEGUN.nonce}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        head = {"alg": "ES256", "kid": "k1"} | (header or {})
        self.id_token = jwt.encode(head, claims, key or self.key, algorithms=[head["alg"]])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def liar() -> Iterator[Liar]:
    started = Liar()
    yield started
    started.server.shutdown()


@pytest.fixture
def provider(liar: Liar, tmp_path: Path) -> Provider:
    (tmp_path / "secret").write_text(SECRET)
    settings = OidcProvider(name="x", issuer=liar.issuer, client_id="hilum", client_secret_file="secret")
    return Provider(settings, tmp_path)


def claims_of(provider: Provider) -> dict[str, Any]:
    return provider.claims("code", BEGUN, CALLBACK, NOW)


def test_a_true_token_is_taken_and_the_code_sent_with_its_verifier(liar: Liar, provider: Provider) -> None:
    liar.says()
    assert claims_of(provider)["groups"] == ["readers"]
    body, headers = next((body, headers) for path, body, headers in liar.asked if path == "/token")
    assert f"code_verifier={BEGUN.verifier}" in body and SECRET not in body
    assert headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://127.0.0.1:1"},
        {"aud": "another"},
        {"aud": ["hilum", "another"], "azp": "another"},
        {"exp": int(NOW.timestamp()) - 120},
        {"exp": None},
        {"iat": None},
        {"iat": int(NOW.timestamp()) + 3600},
        {"nbf": int(NOW.timestamp()) + 3600},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "s" * 256},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
    ids=lambda changes: ",".join(f"{name}={str(value)[:24]}" for name, value in changes.items()),
)
def test_a_token_with_a_wrong_claim_is_refused(liar: Liar, provider: Provider, changes: dict[str, Any]) -> None:
    liar.says(**changes)
    with pytest.raises(NotAuthenticated):
        claims_of(provider)


def test_a_token_under_our_own_secret_is_refused(liar: Liar, provider: Provider) -> None:
    secret = OctKey.import_key(SECRET)
    liar.says({"alg": "HS256"}, secret)
    with pytest.raises(NotAuthenticated):
        claims_of(provider)
    liar.keys.append(OctKey.import_key(SECRET, {"kid": "k1"}))
    liar.keys.pop(0)
    with pytest.raises((NotAuthenticated, Unavailable)):
        claims_of(provider)


def test_a_public_key_used_as_a_secret_is_refused(liar: Liar, provider: Provider) -> None:
    key = RSAKey.generate_key(2048, {"kid": "k1"})
    liar.keys = [key]
    liar.says()
    head, payload = b64(b'{"alg":"HS256","kid":"k1"}'), liar.id_token.split(".")[1]
    signature = hmac.digest(key.as_pem(private=False), f"{head}.{payload}".encode(), "sha256")
    liar.id_token = f"{head}.{payload}.{b64(signature)}"
    with pytest.raises(NotAuthenticated):
        claims_of(provider)


def test_an_unsigned_token_is_refused(liar: Liar, provider: Provider) -> None:
    liar.says()
    payload = liar.id_token.split(".")[1]
    for token in (f"eyJhbGciOiJub25lIn0.{payload}.", f"eyJhbGciOiJOb25lIn0.{payload}.", payload, "", "a.b.c", "ä.b.c"):
        liar.id_token = token
        with pytest.raises(NotAuthenticated):
            claims_of(provider)


def test_a_key_that_is_not_published_is_refused_and_asked_for_once(liar: Liar, provider: Provider) -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "k2"})
    liar.says()
    claims_of(provider)
    liar.says({"kid": "k2"}, stranger)
    for _ in range(5):
        with pytest.raises(NotAuthenticated):
            claims_of(provider)
    assert [path for path, _, _ in liar.asked].count("/jwks") == 1


def test_a_key_for_encryption_signs_nothing(liar: Liar, provider: Provider) -> None:
    liar.says(key=ECKey.import_key({**liar.key.as_dict(private=True), "use": "sig"}))
    liar.keys = [ECKey.import_key({**liar.key.as_dict(private=True), "use": "enc", "alg": "ECDH-ES"})]
    with pytest.raises(NotAuthenticated):
        claims_of(provider)


def test_userinfo_of_another_person_is_refused(liar: Liar, provider: Provider) -> None:
    liar.says(sub="s-2")
    with pytest.raises(NotAuthenticated, match="two different people"):
        claims_of(provider)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/.well-known/openid-configuration", 200, b'{"issuer": "http://127.0.0.1:1"}'),
        ("/.well-known/openid-configuration", 200, b"[]"),
        ("/.well-known/openid-configuration", 404, b"{}"),
        ("/.well-known/openid-configuration", 200, b"<html>"),
        ("/token", 500, b"{}"),
        ("/token", 400, b'{"error": "invalid_grant"}'),
        ("/token", 200, b'{"id_token": 5, "access_token": "x"}'),
        ("/jwks", 200, b'{"keys": 5}'),
        ("/jwks", 200, b'{"keys": [5, {}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"}]}'),
        ("/me", 401, b"{}"),
    ],
)
def test_a_nonsensical_answer_is_a_refusal(liar: Liar, provider: Provider, path: str, status: int, body: bytes) -> None:
    liar.says()
    liar.answers[path] = (status, body, {})
    with pytest.raises(HilumError):
        claims_of(provider)


def test_metadata_may_not_lead_to_an_unencrypted_or_strange_address(liar: Liar, provider: Provider) -> None:
    for address in ("http://10.0.0.1/token", "file:///etc/passwd", "ftp://x/", "http://u@127.0.0.1/", "//x", ""):
        body = json.loads(liar.answer("/.well-known/openid-configuration")) | {"token_endpoint": address}
        liar.answers["/.well-known/openid-configuration"] = (200, json.dumps(body).encode(), {})
        with pytest.raises(Unavailable):
            claims_of(provider)


def test_redirects_are_not_followed(liar: Liar, provider: Provider) -> None:
    liar.says()
    liar.answers["/token"] = (302, b"{}", {"location": f"{liar.issuer}/me"})
    with pytest.raises(Unavailable):
        claims_of(provider)
    assert "/me" not in [path for path, _, _ in liar.asked]


def test_an_endless_answer_is_cut_off(liar: Liar, provider: Provider) -> None:
    liar.answers["/.well-known/openid-configuration"] = (200, b'{"a":"' + b"x" * (2 << 20), {})
    with pytest.raises(Unavailable):
        claims_of(provider)


def test_a_provider_that_never_answers_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = OidcProvider(name="x", issuer=f"http://127.0.0.1:{silent.getsockname()[1]}", client_id="hilum")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            claims_of(Provider(settings, tmp_path))
        assert time.monotonic() - began < 20
