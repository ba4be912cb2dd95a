"""PS3.8 9.3.3 and 9.3.4, PS3.7 D.3.3: what a request is granted or refused, and for which reason."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pydicom.uid
import pytest
from dicom_wire import CT_STORAGE, EXPLICIT, IMPLICIT, STUDY_FIND, VERIFICATION, request_for

from hilum.dicom.dimse.storage import STORED_TRANSFER_SYNTAXES
from hilum.dicom.upper_layer import negotiation
from hilum.dicom.upper_layer.negotiation import AcceptancePolicy, Agreement, IdentityVerdict, Offer, Peer, agree
from hilum.dicom.upper_layer.pdu import AAssociateRJ, AAssociateRQ
from hilum.dicom.upper_layer.syntaxes import first_of, only, storage_sop_class
from hilum.dicom.upper_layer.user_information import (
    ScpScuRoleSelection,
    SopClassExtendedNegotiation,
    UserIdentityRQ,
)

JPEG_LS = "1.2.840.10008.1.2.4.80"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
STORAGE = Offer(storage_sop_class(), first_of(), requestor_may_be_scp=True)
FIND = Offer(only(STUDY_FIND), extended_negotiation=lambda uid, asked: asked[:1])
OFFERS = [Offer(only(VERIFICATION)), STORAGE, FIND]
POLICY = AcceptancePolicy(frozenset({"HILUM"}), lambda peer: peer.calling_ae_title == "TESTER")


def answer(request: AAssociateRQ, policy: AcceptancePolicy = POLICY) -> Agreement | AAssociateRJ:
    peer = Peer(
        request.calling_ae_title,
        request.called_ae_title,
        ("127.0.0.1", 1),
        user_identity=request.user_information.user_identity,
    )
    return agree(request, peer, OFFERS, policy, 131072)


def granted(request: AAssociateRQ, policy: AcceptancePolicy = POLICY) -> Agreement:
    found = answer(request, policy)
    assert isinstance(found, Agreement)
    return found


ECHO = request_for((1, VERIFICATION, (IMPLICIT,)))


@pytest.mark.parametrize(
    ("request_", "triple"),
    [
        (dataclasses.replace(ECHO, called_ae_title="OTHER"), (1, 1, 7)),
        (dataclasses.replace(ECHO, calling_ae_title="STRANGER"), (1, 1, 3)),
        (dataclasses.replace(ECHO, application_context_name="1.2.3"), (1, 1, 2)),
        (dataclasses.replace(ECHO, protocol_version=2), (1, 2, 2)),
        (request_for((2, VERIFICATION, (IMPLICIT,))), (1, 2, 1)),
        (request_for((1, VERIFICATION, (IMPLICIT,)), (1, CT_STORAGE, (IMPLICIT,))), (1, 2, 1)),
        (request_for(*((n % 256, VERIFICATION, (IMPLICIT,)) for n in range(1, 401, 2))), (1, 3, 2)),
        (request_for((1, VERIFICATION, (IMPLICIT,)), maximum_length_received=7), (1, 3, 2)),
    ],
    ids=["called", "calling", "application context", "version", "even id", "id twice", "200 contexts", "tiny maximum"],
)
def test_a_refusal_says_result_source_and_reason(request_: AAssociateRQ, triple: tuple[int, int, int]) -> None:
    refused = answer(request_)
    assert isinstance(refused, AAssociateRJ)
    assert (refused.result, refused.source, refused.reason) == triple


def test_all_128_legal_contexts_are_granted() -> None:
    request = request_for(*((n, CT_STORAGE, (EXPLICIT, IMPLICIT)) for n in range(1, 256, 2)))
    assert len(granted(request).contexts) == 128


def test_storage_takes_the_senders_first_syntax_and_the_rest_ours() -> None:
    both = (IMPLICIT, EXPLICIT)
    agreement = granted(request_for((1, CT_STORAGE, (JPEG_LS, EXPLICIT)), (3, CT_STORAGE, both), (5, STUDY_FIND, both)))
    chosen = {number: context.transfer_syntax for number, context in agreement.contexts.items()}
    assert chosen == {1: JPEG_LS, 3: IMPLICIT, 5: EXPLICIT}


@pytest.mark.parametrize("syntax", pydicom.uid.AllTransferSyntaxes)
def test_storage_takes_every_transfer_syntax_pydicom_knows(syntax: str) -> None:
    assert granted(request_for((1, CT_STORAGE, (syntax,)))).contexts[1].transfer_syntax == syntax


def test_each_context_is_refused_for_its_own_reason() -> None:
    request = request_for(
        (1, "1.2.840.10008.5.1.1.9", (IMPLICIT,)), (3, STUDY_FIND, (BIG_ENDIAN,)), (5, CT_STORAGE, ("1.2.3.4",))
    )
    agreement = granted(request)
    assert agreement.contexts == {}
    assert [context.result for context in agreement.accept.presentation_contexts] == [3, 4, 4]


def test_private_and_future_storage_classes_are_taken_by_rule() -> None:
    everything, known = storage_sop_class(), storage_sop_class(private=False, unknown=False)
    private, future, query = "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.999.1", "1.2.840.10008.5.1.4.1.1.200.4"
    assert [everything(uid) for uid in (CT_STORAGE, private, future)] == [True] * 3
    assert [known(uid) for uid in (CT_STORAGE, private, future)] == [True, False, False]
    assert not everything(query), "a query class under the storage root is no storage class"
    assert not everything("1.2.840.10008.1.20.1"), "storage commitment is no storage class"


def test_roles_are_granted_only_where_asked_for_and_possible() -> None:
    request = request_for(
        (1, CT_STORAGE, (EXPLICIT,)),
        (3, STUDY_FIND, (EXPLICIT,)),
        role_selections=(ScpScuRoleSelection(CT_STORAGE, False, True), ScpScuRoleSelection(STUDY_FIND, True, True)),
    )
    agreement = granted(request)
    assert agreement.accept.user_information.role_selections == (
        ScpScuRoleSelection(CT_STORAGE, False, True),
        ScpScuRoleSelection(STUDY_FIND, True, False),
    )
    assert agreement.contexts[1].requestor_is_scp
    assert not agreement.contexts[3].requestor_is_scp


def test_an_offer_answers_extended_negotiation() -> None:
    asked = (SopClassExtendedNegotiation(STUDY_FIND, b"\1\1"), SopClassExtendedNegotiation(CT_STORAGE, b"\2"))
    request = request_for((1, STUDY_FIND, (EXPLICIT,)), (3, CT_STORAGE, (EXPLICIT,)), extended_negotiations=asked)
    agreed = granted(request).accept.user_information.extended_negotiations
    assert agreed == (SopClassExtendedNegotiation(STUDY_FIND, b"\1"),)


def test_a_user_identity_is_answered_when_asked_and_refused_when_wrong() -> None:
    def verdict(peer: Peer) -> IdentityVerdict:
        return IdentityVerdict(peer.user_identity is not None and peer.user_identity.primary_field == b"good", b"hello")

    policy = dataclasses.replace(POLICY, check_user_identity=verdict)
    contexts = (1, VERIFICATION, (IMPLICIT,))
    good = granted(request_for(contexts, user_identity=UserIdentityRQ(1, True, b"good")), policy)
    silent = granted(request_for(contexts, user_identity=UserIdentityRQ(1, False, b"good")), policy)
    assert good.accept.user_information.user_identity_server_response == b"hello"
    assert silent.accept.user_information.user_identity_server_response is None
    assert answer(request_for(contexts, user_identity=UserIdentityRQ(1, True, b"bad")), policy) is (
        negotiation.NO_REASON_GIVEN
    )


def test_what_is_stored_does_not_hang_on_what_else_was_imported() -> None:
    # pynetdicom adds the newest transfer syntaxes to pydicom's dictionary; the server runs without it.
    code = (
        "import sys; from hilum.dicom.dimse.storage import STORED_TRANSFER_SYNTAXES as stored;"
        "assert 'pynetdicom' not in sys.modules; print(*sorted(stored))"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(alone.stdout.split()) == STORED_TRANSFER_SYNTAXES
    assert "1.2.840.10008.1.2.4.110" in STORED_TRANSFER_SYNTAXES
