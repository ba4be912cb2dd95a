"""PS3.8 9.3: what goes over the wire, checked against pynetdicom's own codec and against mutilated bytes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle

from hilum.dicom.upper_layer import pdu as upper
from hilum.dicom.upper_layer.user_information import (
    AsynchronousOperationsWindow,
    InvalidPdu,
    ScpScuRoleSelection,
    SopClassCommonExtendedNegotiation,
    SopClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
)

EVERYTHING = UserInformation(
    maximum_length_received=65536,
    implementation_class_uid="1.2.826.0.1",
    implementation_version_name="TEST_1",
    asynchronous_operations_window=AsynchronousOperationsWindow(5, 3),
    role_selections=(ScpScuRoleSelection("1.2.840.10008.5.1.4.1.1.2", True, True),),
    extended_negotiations=(SopClassExtendedNegotiation("1.2.840.10008.5.1.4.1.2.2.1", b"\1\0\1"),),
    common_extended_negotiations=(
        SopClassCommonExtendedNegotiation("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.4.2", ("1.2.3", "1.2.4")),
    ),
    user_identity=UserIdentityRQ(2, True, b"reader", b"secret"),
)
REQUEST = upper.AAssociateRQ(
    "HILUM",
    "CT01",
    (
        upper.ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),
        upper.ProposedContext(3, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")),
    ),
    EVERYTHING,
)
ACCEPT = upper.AAssociateAC(
    "HILUM",
    "CT01",
    (upper.ContextReply(1, 0, "1.2.840.10008.1.2"), upper.ContextReply(3, 3, "1.2.840.10008.1.2")),
    dataclasses.replace(
        EVERYTHING, common_extended_negotiations=(), user_identity=None, user_identity_server_response=b"ok"
    ),
)


def decoded(raw: bytes) -> upper.Pdu:
    kind, length = upper.PDU_HEADER.unpack_from(raw)
    assert length == len(raw) - 6
    return upper.decode_pdu(kind, memoryview(raw)[6:])


@pytest.mark.parametrize(("ours", "theirs"), [(REQUEST, oracle.A_ASSOCIATE_RQ), (ACCEPT, oracle.A_ASSOCIATE_AC)])
def test_an_associate_means_to_pynetdicom_what_it_means_to_us(ours: upper.Pdu, theirs: type) -> None:
    raw = upper.encode_pdu(ours)
    other = theirs()
    other.decode(raw)
    assert decoded(other.encode()) == ours
    assert decoded(raw) == ours


def test_pynetdicom_reads_titles_contexts_and_identity_from_our_request() -> None:
    other = oracle.A_ASSOCIATE_RQ()
    other.decode(upper.encode_pdu(REQUEST))
    assert (other.called_ae_title, other.calling_ae_title) == ("HILUM", "CT01")
    assert [context.context_id for context in other.presentation_context] == [1, 3]
    assert other.user_information.user_identity.primary_field == b"reader"
    assert other.user_information.maximum_length == 65536


@pytest.mark.parametrize(
    ("ours", "golden"),
    [
        (upper.AAssociateRJ(1, 1, 7), "030000000004 00010107"),
        (upper.AReleaseRQ(), "050000000004 00000000"),
        (upper.AReleaseRP(), "060000000004 00000000"),
        (upper.AAbort(2, 6), "070000000004 00000206"),
    ],
)
def test_short_units_are_the_ten_bytes_of_the_standard(ours: upper.Pdu, golden: str) -> None:
    assert upper.encode_pdu(ours) == bytes.fromhex(golden)
    assert decoded(bytes.fromhex(golden)) == ours


def test_several_values_in_one_p_data_are_split_without_a_copy() -> None:
    values = (
        upper.PresentationDataValue(1, True, True, memoryview(b"command")),
        upper.PresentationDataValue(1, False, False, memoryview(b"")),
        upper.PresentationDataValue(1, False, True, memoryview(b"rest")),
    )
    raw = upper.encode_pdu(upper.PDataTF(values))
    found = decoded(raw)
    assert found == upper.PDataTF(values)
    assert isinstance(found, upper.PDataTF)
    assert all(value.fragment.obj is raw for value in found.presentation_data_values)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0\1\1", b"\0\0\0\0\1\3", b"\0\0\0\1\1\3", b"\0\0\0\x09\1\3ab", b"\xff\xff\xff\xff\1\3ab"],
    ids=["empty", "cut header", "length 0", "length 1", "too long", "4 GB"],
)
def test_a_p_data_whose_lengths_do_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidPdu):
        upper.split_pdvs(memoryview(body))


@pytest.mark.parametrize("kind", [0, 8, 0x47, 0xFF])
def test_an_unknown_type_is_refused_as_unrecognised(kind: int) -> None:
    with pytest.raises(InvalidPdu) as refusal:
        upper.decode_pdu(kind, memoryview(bytes(4)))
    assert refusal.value.reason is upper.AbortReason.UNRECOGNIZED_PDU


def test_unknown_user_information_is_passed_over() -> None:
    raw = upper.encode_pdu(REQUEST)
    foreign = b"\x7e\0\0\3abc"
    at = raw.index(b"\x50\0", 74)
    grown = int.from_bytes(raw[at + 2 : at + 4], "big") + len(foreign)
    body = raw[6 : at + 2] + grown.to_bytes(2, "big") + raw[at + 4 :] + foreign
    assert upper.decode_pdu(1, memoryview(body)) == REQUEST


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutilated_associates_are_read_or_refused_and_never_crash(data: st.DataObject) -> None:
    raw = bytearray(upper.encode_pdu(data.draw(st.sampled_from([REQUEST, ACCEPT])))[6:])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for kind in (1, 2):
        try:
            upper.decode_pdu(kind, memoryview(bytes(raw[:cut])))
        except InvalidPdu as refusal:
            assert refusal.message


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8), st.binary(max_size=300))
def test_garbage_is_refused_and_never_crashes(kind: int, body: bytes) -> None:
    try:
        upper.decode_pdu(kind, memoryview(body))
    except InvalidPdu as refusal:
        assert refusal.code == "invalid-pdu"


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.binary(max_size=600), st.integers(128, 400))
def test_fragments_respect_the_receivers_maximum_and_lose_nothing(
    command: bytes, data_set: bytes, maximum: int
) -> None:
    raw = b"".join(upper.fragment_message(command, data_set, 5, maximum))
    collected = {True: b"", False: b""}
    last = {True: 0, False: 0}
    at = 0
    while at < len(raw):
        _, length = upper.PDU_HEADER.unpack_from(raw, at)
        assert length <= maximum
        for value in upper.split_pdvs(memoryview(raw)[at + 6 : at + 6 + length]):
            assert value.presentation_context_id == 5
            assert not last[value.is_command], "nothing may follow the last fragment"
            collected[value.is_command] += value.fragment
            last[value.is_command] += value.is_last
        at += 6 + length
    assert collected == {True: command, False: data_set}
    assert last == {True: 1, False: 1 if data_set else 0}


def test_an_identity_is_not_shown_in_a_repr() -> None:
    assert "secret" not in repr(REQUEST)
