"""Refused connections: audited under closed words, bounded per address; and peers as their certificates name them."""

from __future__ import annotations

import ssl
import time

import pytest
import sqlalchemy as sa

from fixtures.department import eventually
from hilum.core.actor import Door
from hilum.security.certificates import PeerCertificate, agrees
from hilum.security.connections import AUDITED_A_MINUTE, ConnectionLog, refusal_reason
from hilum.settings.sections import DicomPeer
from hilum.storage import tables
from hilum.storage.store import Store

DIGEST = "ab" * 32


def refused(store: Store) -> list[tuple[str, ...]]:
    row = tables.audit_event.c
    with store.read() as db:
        query = sa.select(row.door, row.address, row.actor, row.action, row.outcome, row.reason)
        return [tuple(found) for found in db.execute(query)]


def test_a_refusal_is_audited_with_what_is_known_of_the_peer(sqlite_store: Store) -> None:
    log = ConnectionLog(sqlite_store)
    log.refused(Door.DIMSE, "192.0.2.1", "another-certificate", "CT01")
    row = ("dimse", "192.0.2.1", "CT01", "connect", "refused", "another-certificate")
    eventually(lambda: refused(sqlite_store) == [row], "the audit row")


def test_a_flood_from_one_address_does_not_fill_the_trail_and_hides_no_other(sqlite_store: Store) -> None:
    moment = 0.0
    log = ConnectionLog(sqlite_store, lambda: moment)
    for _ in range(500):
        log.refused(Door.HL7, "192.0.2.1", "not-tls")
    log.refused(Door.HL7, "192.0.2.2", "not-tls")
    eventually(lambda: len(refused(sqlite_store)) == AUDITED_A_MINUTE + 1, "the bounded rows")
    moment = 61.0
    log.refused(Door.HL7, "192.0.2.1", "not-tls")
    eventually(lambda: len(refused(sqlite_store)) == AUDITED_A_MINUTE + 2, "the row of the next minute")


def test_a_probe_that_only_opens_and_closes_is_no_refusal(sqlite_store: Store) -> None:
    log = ConnectionLog(sqlite_store)
    for error in (ConnectionResetError(), ssl.SSLEOFError(), BrokenPipeError()):
        assert refusal_reason(error) == ""
        log.handshake_failed(Door.HTTP, "192.0.2.1", error)
    time.sleep(0.2)
    assert refused(sqlite_store) == []


def test_a_handshake_without_an_end_is_a_refusal() -> None:
    assert refusal_reason(TimeoutError()) == "tls-timeout"
    assert refusal_reason(ConnectionAbortedError()) == "tls-timeout"


@pytest.mark.parametrize(
    ("setting", "certificate", "is_so"),
    [
        ("", None, True),
        ("", PeerCertificate("ct01", DIGEST), True),
        ("ct01", PeerCertificate("ct01", DIGEST), True),
        (DIGEST, PeerCertificate("ct01", DIGEST), True),
        (":".join(["AB"] * 32), PeerCertificate("ct01", DIGEST), True),
        ("ct01", None, False),
        (DIGEST, None, False),
        ("ct01", PeerCertificate("CT01", DIGEST), False),
        ("ct01", PeerCertificate("", DIGEST), False),
        ("cd" * 32, PeerCertificate("ct01", DIGEST), False),
        # A certificate whose common name is written like another's fingerprint.
        ("cd" * 32, PeerCertificate("cd" * 32, DIGEST), False),
    ],
)
def test_a_peer_is_the_one_of_its_setting(setting: str, certificate: PeerCertificate | None, is_so: bool) -> None:
    assert agrees(setting, certificate) is is_so


@pytest.mark.parametrize("wrong", ["CN=ct01", "ab:cd", "a\nb", "x" * 200])
def test_a_setting_that_could_never_hold_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="neither the common name"):
        DicomPeer(ae_title="CT01", certificate=wrong)
