"""What becomes of a user named on an association, by the settings of the DICOM door (PS3.7 D.3.3.7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum.core.actor import Identifier, Role, system_actor
from hilum.dicom.upper_layer.negotiation import Peer
from hilum.dicom.upper_layer.user_information import UserIdentityRQ
from hilum.dicom.user_identity import UserIdentities
from hilum.security.certificates import PeerCertificate
from hilum.security.keys import Keyring
from hilum.security.passwords import hash_password
from hilum.settings import DicomSettings
from hilum.storage.store import Store
from hilum.workflow.accounts import AddUser, SetPassword, add_user, disable_user, set_password

CERTIFICATE = PeerCertificate("ct01.example", "0" * 64)
PASSWORD = "correct horse battery staple"
SYSTEM = system_actor("tests")


@pytest.fixture
def identities(sqlite_store: Store, tmp_path: Path) -> UserIdentities:
    account = AddUser("tech", Role.TECHNOLOGIST, hash_password(PASSWORD), (Identifier("T1", "GENHOSP"),))
    sqlite_store.run(add_user, account, SYSTEM)
    return UserIdentities(sqlite_store, Keyring.open(tmp_path))


def peer(asked: UserIdentityRQ | None, certificate: PeerCertificate | None = None) -> Peer:
    return Peer("CT01", "HILUM", ("10.0.0.5", 1234), certificate, asked)


def named(name: str) -> UserIdentityRQ:
    return UserIdentityRQ(1, True, name.encode())


def proven(name: str, passcode: str) -> UserIdentityRQ:
    return UserIdentityRQ(2, True, name.encode(), passcode.encode())


def test_nobody_has_to_name_a_user_unless_the_settings_say_so(identities: UserIdentities) -> None:
    assert identities.verdict(peer(None), DicomSettings()).accepted
    assert not identities.verdict(peer(None), DicomSettings(user_identity="require")).accepted
    found = identities.verdict(peer(proven("tech", PASSWORD)), DicomSettings(user_identity="require"))
    assert found.accepted and found.person is not None


def test_a_user_that_is_ignored_is_nobody(identities: UserIdentities) -> None:
    found = identities.verdict(peer(proven("tech", "wrong")), DicomSettings(user_identity="ignore"))
    assert found.accepted and found.person is None


def test_the_person_of_an_association_is_the_account(identities: UserIdentities) -> None:
    found = identities.verdict(peer(proven("tech", PASSWORD)), DicomSettings()).person
    assert found is not None
    assert (found.name, found.role, found.is_person, found.address) == ("tech", Role.TECHNOLOGIST, True, "10.0.0.5")
    assert found.identifiers == (Identifier("T1", "GENHOSP"),)


def test_a_name_alone_counts_only_where_it_is_trusted_and_under_a_certificate(identities: UserIdentities) -> None:
    trusting = DicomSettings(trust_user_names="mutual-tls")
    assert identities.verdict(peer(named("tech"), CERTIFICATE), trusting).person is not None
    assert not identities.verdict(peer(named("tech")), trusting).accepted
    assert not identities.verdict(peer(named("tech"), CERTIFICATE), DicomSettings()).accepted
    assert not identities.verdict(peer(named("nobody"), CERTIFICATE), trusting).accepted


@pytest.mark.parametrize(
    "asked",
    [
        UserIdentityRQ(2, True, b"\xff\xfe", b"x"),
        UserIdentityRQ(2, True, b"", b"x"),
        UserIdentityRQ(2, True, b"tech", b""),
        UserIdentityRQ(2, True, b"t" * 513, b"x"),
        UserIdentityRQ(2, True, b"tech", b"x" * 1025),
        UserIdentityRQ(5, True, b"x" * 20_000),
        UserIdentityRQ(3, True, b"ticket"),
        UserIdentityRQ(4, True, b"<saml/>"),
        UserIdentityRQ(0, True, b"x"),
        UserIdentityRQ(99, True, b"x"),
    ],
)
def test_what_cannot_be_a_proof_is_refused(identities: UserIdentities, asked: UserIdentityRQ) -> None:
    assert not identities.verdict(peer(asked), DicomSettings()).accepted


def test_a_passcode_that_was_right_a_moment_ago_is_wrong_once_it_is_changed(
    identities: UserIdentities, sqlite_store: Store
) -> None:
    asked = peer(proven("tech", PASSWORD))
    for _ in range(3):
        assert identities.verdict(asked, DicomSettings()).accepted
    sqlite_store.run(set_password, SetPassword("tech", hash_password("another battery of horses")), SYSTEM)
    assert not identities.verdict(asked, DicomSettings()).accepted


def test_an_account_that_is_shut_is_shut_at_once(identities: UserIdentities, sqlite_store: Store) -> None:
    asked = peer(proven("tech", PASSWORD))
    assert identities.verdict(asked, DicomSettings()).accepted
    sqlite_store.run(disable_user, "tech", SYSTEM)
    assert not identities.verdict(asked, DicomSettings()).accepted
