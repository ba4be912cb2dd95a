"""Keys on disk and the tokens they sign: who may come in, and every way of pretending."""

from __future__ import annotations

import base64
import hashlib
import hmac
import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from hilum.core.errors import InvalidInput, NotAuthenticated
from hilum.security.keys import Keyring, rotate, write_synced
from hilum.security.tokens import TokenVerifier, issue, verify

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path)


def token_of(ring: Keyring, **changes: Any) -> str:
    facts: dict[str, Any] = {"subject": "ann", "role": "radiologist", "kind": "user", "minutes": 60, "now": NOW}
    facts |= {"identifiers": ("1001^GENHOSP",), "scopes": ("user/*.rs",)}
    return issue(ring, **facts | changes)


def payload_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    payload: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return payload


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(ring: Keyring, payload: object, **header: Any) -> str:
    head = {"alg": "ES256", "kid": ring.signing.kid, "typ": "at+jwt"} | header
    return jws.serialize_compact(head, orjson.dumps(payload), ring.signing, algorithms=["ES256"])


def test_a_token_says_who_asks_and_until_when(ring: Keyring) -> None:
    claims = verify(ring, token_of(ring, token_id="t1"), NOW + timedelta(minutes=59))
    assert (claims.subject, claims.role, claims.kind, claims.token_id) == ("ann", "radiologist", "user", "t1")
    assert (claims.identifiers, claims.scopes) == (("1001^GENHOSP",), ("user/*.rs",))
    assert claims.expires_at == NOW + timedelta(hours=1)


def test_two_tokens_never_share_their_id(ring: Keyring) -> None:
    assert verify(ring, token_of(ring), NOW).token_id != verify(ring, token_of(ring), NOW).token_id


@pytest.mark.parametrize("cached", [False, True])
def test_a_token_ends_with_its_time_and_a_little_leeway(ring: Keyring, cached: bool) -> None:
    verifier, token = TokenVerifier(ring), token_of(ring)
    end = NOW + timedelta(hours=1)
    if cached:
        verifier.verify(token, NOW)
    assert verifier.verify(token, end + timedelta(seconds=9)).subject == "ann"
    with pytest.raises(NotAuthenticated, match="expired"):
        verifier.verify(token, end + timedelta(seconds=10))
    assert len(verifier) == 0


def test_a_token_is_not_valid_before_its_time(ring: Keyring) -> None:
    token = token_of(ring)
    assert verify(ring, token, NOW - timedelta(seconds=10))
    with pytest.raises(NotAuthenticated, match="not valid yet"):
        verify(ring, token, NOW - timedelta(seconds=11))


def test_an_unsigned_token_is_refused(ring: Keyring) -> None:
    body = token_of(ring).split(".")[1]
    for alg in ("none", "None", "NONE", ""):
        head = b64(orjson.dumps({"alg": alg, "kid": ring.signing.kid, "typ": "at+jwt"}))
        with pytest.raises(NotAuthenticated, match="algorithm"):
            verify(ring, f"{head}.{body}.", NOW)


def test_the_public_key_used_as_a_shared_secret_is_refused(ring: Keyring) -> None:
    head = b64(orjson.dumps({"alg": "HS256", "kid": ring.signing.kid, "typ": "at+jwt"}))
    text = f"{head}.{token_of(ring).split('.')[1]}"
    for secret in (ring.signing.as_pem(private=False), orjson.dumps(ring.signing.as_dict(private=False))):
        mac = b64(hmac.digest(secret, text.encode(), hashlib.sha256))
        with pytest.raises(NotAuthenticated, match="algorithm"):
            verify(ring, f"{text}.{mac}", NOW)


def test_a_key_that_the_token_brings_along_is_not_used(ring: Keyring) -> None:
    own = ECKey.generate_key("P-256")
    head = {"alg": "ES256", "kid": ring.signing.kid, "typ": "at+jwt", "jwk": own.as_dict(private=False)}
    token = jws.serialize_compact(head, orjson.dumps(payload_of(token_of(ring))), own, algorithms=["ES256"])
    with pytest.raises(NotAuthenticated):
        verify(ring, token, NOW)


def test_a_header_that_says_more_than_it_should_is_refused(ring: Keyring) -> None:
    with pytest.raises(NotAuthenticated, match="not an access token"):
        verify(ring, signed(ring, payload_of(token_of(ring)), cty="JWT"), NOW)


def test_a_token_of_another_house_is_refused(ring: Keyring, tmp_path: Path) -> None:
    other = Keyring.open(tmp_path / "other")
    with pytest.raises(NotAuthenticated, match="key that is not known"):
        verify(ring, token_of(other), NOW)
    forged = jws.serialize_compact(
        {"alg": "ES256", "kid": ring.signing.kid, "typ": "at+jwt"},
        orjson.dumps(payload_of(token_of(other))),
        other.signing,
        algorithms=["ES256"],
    )
    with pytest.raises(NotAuthenticated, match="signature"):
        verify(ring, forged, NOW)


def test_any_changed_character_of_the_body_breaks_the_signature(ring: Keyring) -> None:
    head, body, signature = token_of(ring).split(".")
    payload = payload_of(f"{head}.{body}.{signature}") | {"role": "admin"}
    with pytest.raises(NotAuthenticated, match="signature"):
        verify(ring, f"{head}.{b64(orjson.dumps(payload))}.{signature}", NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "other"},
        {"aud": "elsewhere"},
        {"aud": ["hilum-http"]},
        {"kind": "root"},
        {"kind": ["user"]},
        {"sub": ""},
        {"sub": None},
        {"sub": "x" * 257},
        {"role": 7},
        {"jti": None},
        {"exp": None},
        {"exp": True},
        {"exp": 1e9},
        {"exp": "9999999999"},
        {"exp": 2**62},
        {"nbf": None},
        {"iat": -1},
        {"identifiers": None},
        {"identifiers": ["x"] * 65},
        {"scopes": "all"},
        {"scopes": [""]},
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(ring: Keyring, change: dict[str, Any]) -> None:
    payload = payload_of(token_of(ring))
    assert verify(ring, signed(ring, payload), NOW), "unchanged, it is good"
    with pytest.raises(NotAuthenticated):
        verify(ring, signed(ring, payload | change), NOW)


def test_another_kind_of_jwt_by_the_same_key_is_no_access_token(ring: Keyring) -> None:
    with pytest.raises(NotAuthenticated, match="not an access token"):
        verify(ring, signed(ring, payload_of(token_of(ring)), typ="JWT"), NOW)


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "a.b.c", "a.b", "a.b.c.d", "é.b.c", "\ud800.b.c"),
        *(b64(head) + ".e30.AA" for head in (b"[]", b"1", b'{"alg":"ES256","kid":{},"typ":"at+jwt"}', b"[" * 300)),
    ],
)
def test_what_is_no_token_is_refused(ring: Keyring, token: str) -> None:
    for check in (lambda: verify(ring, token, NOW), lambda: TokenVerifier(ring).verify(token, NOW)):
        with pytest.raises(NotAuthenticated):
            check()


def test_an_endless_token_is_refused_unread(ring: Keyring) -> None:
    for token in ("a" * 8193, token_of(ring) + "A" * 8192):
        with pytest.raises(NotAuthenticated, match="too long"):
            verify(ring, token, NOW)
        with pytest.raises(NotAuthenticated, match="too long"):
            TokenVerifier(ring).verify(token, NOW)


@pytest.mark.parametrize(
    "change",
    [{"minutes": 0}, {"minutes": 10**9}, {"subject": ""}, {"role": ""}, {"kind": "x"}, {"scopes": ["s" * 200] * 60}],
)
def test_a_token_out_of_bounds_is_not_issued(ring: Keyring, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        token_of(ring, **change)


def test_the_memory_of_verified_tokens_is_bounded_and_forgets_the_least_used(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    real = jws.validate_compact

    def validate(signed: jws.CompactSignature, *arguments: Any, **options: Any) -> bool:
        checked.append(orjson.loads(signed.payload)["sub"])
        return real(signed, *arguments, **options)

    monkeypatch.setattr(jws, "validate_compact", validate)
    verifier = TokenVerifier(ring, capacity=3)
    tokens = [token_of(ring, subject=f"u{n}") for n in range(5)]
    for token in tokens:
        verifier.verify(token, NOW)
        assert verifier.verify(tokens[0], NOW).subject == "u0"
    assert len(verifier) == 3
    assert checked == ["u0", "u1", "u2", "u3", "u4"], "each signature was checked once"
    verifier.verify(tokens[1], NOW)
    assert checked[5:] == ["u1"], "the least used was forgotten"


def test_a_refused_token_is_not_remembered(ring: Keyring) -> None:
    verifier = TokenVerifier(ring)
    with pytest.raises(NotAuthenticated):
        verifier.verify(token_of(ring)[:-4] + "AAAA", NOW)
    assert len(verifier) == 0


def test_after_rotation_old_tokens_hold_until_the_retired_key_is_removed(ring: Keyring, tmp_path: Path) -> None:
    old = token_of(ring)
    rotated = rotate(tmp_path, "token-signing")
    new = token_of(rotated)
    assert rotated.signing.kid != ring.signing.kid
    assert verify(rotated, old, NOW).subject == verify(rotated, new, NOW).subject == "ann"
    retired = tmp_path / "keys" / f"token-signing-{ring.signing.kid}.jwk"
    assert "d" not in orjson.loads(retired.read_bytes()), "a retired key can check, and can no longer sign"
    retired.unlink()
    with pytest.raises(NotAuthenticated, match="not known"):
        verify(Keyring.open(tmp_path), old, NOW)


def test_a_rotated_audit_key_keeps_the_old_one_for_verification(ring: Keyring, tmp_path: Path) -> None:
    rotated = rotate(tmp_path, "audit")
    assert rotated.audit != ring.audit
    assert dict(rotated.audit_keys) == {ring.audit.key_id: ring.audit, rotated.audit.key_id: rotated.audit}


def test_opening_a_home_again_finds_the_same_keys(ring: Keyring, tmp_path: Path) -> None:
    again = Keyring.open(tmp_path)
    assert verify(again, token_of(ring), NOW)
    assert (again.audit, again.session_secret) == (ring.audit, ring.session_secret)
    assert len(ring.audit.secret) == len(ring.session_secret) == 32
    assert ring.audit.secret != ring.session_secret


def test_key_files_are_for_their_owner_only(ring: Keyring, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(path.name for path in directory.iterdir())
    assert files == ["audit.jwk", "session.jwk", "token-signing.jwk"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["audit.jwk", "session.jwk", "token-signing.jwk"])
def test_a_key_file_that_others_may_read_is_refused(ring: Keyring, tmp_path: Path, name: str) -> None:
    (tmp_path / "keys" / name).chmod(0o644)
    with pytest.raises(InvalidInput, match=name):
        Keyring.open(tmp_path)


@pytest.mark.parametrize("name", ["audit.jwk", "token-signing.jwk"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"kty":"oct","kid":"x","k":"AAAA"}', b"[" * 20000])
def test_a_broken_key_file_is_named_and_left_alone(ring: Keyring, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "keys" / name
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=name):
        Keyring.open(tmp_path)
    assert path.read_bytes() == content


def test_secrets_do_not_show_in_a_representation(ring: Keyring) -> None:
    text = repr(ring) + repr(ring.audit)
    assert repr(ring.audit.secret)[2:-1] not in text
    assert str(ring.signing.as_dict(private=True)["d"]) not in text


def _open(home: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    ring = Keyring.open(Path(home))
    results.put((ring.signing.kid, ring.audit.secret, ring.session_secret))


def test_processes_that_start_together_end_with_the_same_keys(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        barrier, results = context.Barrier(6), context.Queue()
        home = str(tmp_path / str(turn))
        processes = [context.Process(target=_open, args=(home, barrier, results)) for _ in range(6)]
        for process in processes:
            process.start()
        found = {results.get(timeout=20) for _ in processes}
        for process in processes:
            process.join(20)
        assert len(found) == 1
        assert len(list((tmp_path / str(turn) / "keys").iterdir())) == 3, "no temporary file is left"


def test_a_file_is_synced_and_so_is_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_synced(tmp_path / "x", b"1")
    assert synced == [False, True]
    with pytest.raises(FileExistsError):
        write_synced(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    write_synced(tmp_path / "x", b"3", replace=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"3"]
