"""Bearer tokens that nobody here has signed, in every way in which verifiers were ever talked into them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
import requests
from besieged import Besieged
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]


def packed(part: dict[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unpacked(part: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(part + "=="))
    assert isinstance(found, dict)
    return found


def signed(header: dict[str, Any], payload: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    text = f"{packed(header)}.{packed(payload)}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{packed(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def refused(target: Besieged, token: str, **headers: str) -> None:
    answer = requests.get(
        f"{target.http}/fhir/Patient", timeout=30, headers={"Authorization": f"Bearer {token}".encode(), **headers}
    )
    assert answer.status_code in (401, 431), answer.text
    assert token[:40] not in answer.text or len(token) < 5


def test_no_algorithm_but_ours_is_believed(target: Besieged) -> None:
    real = target.department.token("radiologist")
    head, payload, signature = real.split(".")
    header = unpacked(head)
    keys = [path for path in target.department.home.rglob("*") if path.is_file() and b"PUBLIC KEY" in path.read_bytes()]
    secrets = [b"", b"secret", header["kid"].encode(), *(path.read_bytes() for path in keys)]
    for name in ("none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS256", "ES384", "ES256K", "EdDSA", "A256KW"):
        changed = packed({**header, "alg": name})
        refused(target, f"{changed}.{payload}.")
        refused(target, f"{changed}.{payload}.{signature}")
        for secret in secrets:
            mac = hmac.new(secret, f"{changed}.{payload}".encode(), hashlib.sha256).digest()
            refused(target, f"{changed}.{payload}.{packed(mac)}")


def test_no_key_is_taken_from_the_token(target: Besieged) -> None:
    real = target.department.token("radiologist")
    header, payload = (unpacked(part) for part in real.split(".")[:2])
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": packed(numbers.x.to_bytes(32, "big")),
        "y": packed(numbers.y.to_bytes(32, "big")),
    }
    for extra in (
        {},
        {"jwk": jwk},
        {"jwk": jwk, "kid": "mine"},
        {"jku": f"{target.http}/static/x"},
        {"x5u": "http://127.0.0.1:1/"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ):
        refused(target, signed({**header, **extra}, {**payload, "role": "admin"}, key))
    for kid in (
        "../../../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "\x00",
        "",
        "a" * 5000,
        7,
        None,
        [],
        {"a": 1},
        True,
    ):
        refused(target, signed({**header, "kid": kid}, payload, key))


def test_no_part_of_a_token_can_be_changed(target: Besieged) -> None:
    real = target.department.token("auditor")
    head, payload, signature = real.split(".")
    claims = unpacked(payload)
    for change in (
        {"role": "admin"},
        {"aud": "other"},
        {"iss": "other"},
        {"exp": int(time.time()) + 10**6},
        {"kind": "user", "sub": "x"},
        {"exp": 0},
        {"exp": "never"},
        {"exp": 1e400},
        {"nbf": -1},
    ):
        refused(target, f"{head}.{packed(json.dumps({**claims, **change}).encode())}.{signature}")
    r_and_s_zero = packed(bytes(64))
    for odd in (
        f"{head}.{payload}.{r_and_s_zero}",
        f"{head}.{payload}",
        f"{head}..{signature}",
        "..",
        "...",
        "a.b.c",
        " ",
        "é.é.é",
        real + "=",
        real + ".",
        f"{head}.{payload}.{signature[:-1]}",
        real * 100,
        "a" * 60_000,
        f"{packed(b'[' * 5000)}.{payload}.{signature}",
        f"{packed(b'{' + b'}' * 9)}.{payload}.{signature}",
    ):
        refused(target, odd)


def test_a_token_counts_only_in_its_header(target: Besieged) -> None:
    real = target.department.token("service")
    for name in ("access_token", "token", "authorization", "bearer", "jwt", "hilum_session"):
        answer = requests.get(f"{target.http}/fhir/Patient", params={name: real}, timeout=30)
        assert answer.status_code == 401, name
        answer = requests.post(f"{target.http}/fhir/Patient/_search", data={name: real}, timeout=30)
        assert answer.status_code == 401, name
    for cookies in ({"hilum_session": real}, {"access_token": real}, {"Authorization": f"Bearer {real}"}):
        assert requests.get(f"{target.http}/fhir/Patient", cookies=cookies, timeout=30).status_code == 401
    for scheme in ("Basic", "Digest", "Token", "Bearer" + real[:0] + ":"):
        answer = requests.get(f"{target.http}/fhir/Patient", headers={"Authorization": f"{scheme} {real}"}, timeout=30)
        assert answer.status_code == 401, scheme
    for name in ("X-Forwarded-User", "X-Remote-User", "Remote-User", "X-User", "X-Actor", "X-Forwarded-Authorization"):
        assert requests.get(f"{target.http}/fhir/Patient", headers={name: "admin"}, timeout=30).status_code == 401


def test_a_token_stands_in_no_log(target: Besieged) -> None:
    real = target.department.token("service")
    requests.get(f"{target.http}/fhir/Patient", params={"access_token": real}, timeout=30)
    requests.get(f"{target.http}/fhir/Nothing", headers={"Authorization": f"Bearer {real}"}, timeout=30)
    assert real.split(".")[2] not in target.log()
