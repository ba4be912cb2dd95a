"""A DICOM server on a free port and a peer made of a bare socket, for the tests of the upper layer and DIMSE."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom

from hilum.dicom.dimse.dispatch import AssociationContext, Handler, Request, Response, Service
from hilum.dicom.dimse.echo import ECHO_SERVICE
from hilum.dicom.dimse.messages import CommandField, CommandSet, decode_command, encode_command
from hilum.dicom.dimse.server import DicomServer
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.negotiation import AcceptancePolicy, Offer
from hilum.dicom.upper_layer.pdu import (
    AAssociateAC,
    AAssociateRQ,
    PDataTF,
    Pdu,
    ProposedContext,
    decode_pdu,
    encode_pdu,
    fragment_message,
)
from hilum.dicom.upper_layer.syntaxes import first_of, only, storage_sop_class
from hilum.dicom.upper_layer.user_information import UserInformation

VERIFICATION = "1.2.840.10008.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
QUICK = Limits(artim_timeout=1.0, network_timeout=1.5, idle_timeout=20.0)
ANYONE = AcceptancePolicy(frozenset({"HILUM"}), lambda peer: True)


def storage(handler: Handler, maximum: int = 1 << 32) -> Service:
    offer = Offer(storage_sop_class(), first_of(), requestor_may_be_scp=True)
    return Service("storage", ServiceClass.STORAGE, offer, {CommandField.C_STORE_RQ: handler}, maximum)


def finding(handler: Handler) -> Service:
    return Service("find", ServiceClass.QUERY, Offer(only(STUDY_FIND)), {CommandField.C_FIND_RQ: handler})


@contextlib.contextmanager
def serving(
    *services: Service, limits: Limits = QUICK, policy: AcceptancePolicy = ANYONE, **options: object
) -> Iterator[DicomServer]:
    server = DicomServer(("127.0.0.1", 0), [ECHO_SERVICE, *services], policy, limits, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.drain(0.5)


def request_for(*contexts: tuple[int, str, tuple[str, ...]], **information: object) -> AAssociateRQ:
    proposed = tuple(ProposedContext(*context) for context in contexts)
    user = UserInformation(implementation_class_uid="1.2.3", **information)  # type: ignore[arg-type]
    return AAssociateRQ("HILUM", "TESTER", proposed, user)


ALL_CONTEXTS = request_for(
    (1, VERIFICATION, (IMPLICIT,)), (3, CT_STORAGE, (EXPLICIT, IMPLICIT)), (5, STUDY_FIND, (EXPLICIT, IMPLICIT))
)


class BarePeer:
    """Says exactly the bytes it is told to, and reads whole PDUs."""

    def __init__(self, server: DicomServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)

    def __enter__(self) -> BarePeer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def say(self, *what: bytes | memoryview | Pdu) -> None:
        self.socket.sendall(
            b"".join(part if isinstance(part, bytes | memoryview) else encode_pdu(part) for part in what)
        )

    def hear(self) -> Pdu | None:
        """The next PDU; None when the server closed the connection."""
        header = self._exactly(6)
        if header is None:
            return None
        kind, length = struct.unpack(">BxI", header)
        return decode_pdu(kind, memoryview(self._exactly(length) or b""))

    def _exactly(self, size: int) -> bytes | None:
        content = b""
        while len(content) < size:
            try:
                part = self.socket.recv(size - len(content))
            except ConnectionResetError:
                part = b""
            if not part:
                return None
            content += part
        return content

    def associate(self, request: AAssociateRQ = ALL_CONTEXTS) -> AAssociateAC:
        self.say(request)
        answer = self.hear()
        assert isinstance(answer, AAssociateAC), answer
        return answer

    def send(self, context_id: int, command: CommandSet, data_set: bytes | None = None, size: int = 16384) -> None:
        raw = encode_command(command, with_data_set=data_set is not None)
        self.say(b"".join(bytes(part) for part in fragment_message(raw, data_set, context_id, size)))

    def answer(self) -> tuple[CommandSet, bytes | None]:
        """The next message, reassembled."""
        command, has_command, data = b"", False, b""
        while True:
            pdu = self.hear()
            assert isinstance(pdu, PDataTF), pdu
            for value in pdu.presentation_data_values:
                if value.is_command:
                    command += value.fragment
                    has_command = value.is_last
                else:
                    data += value.fragment
                if value.is_last and has_command:
                    decoded = decode_command(command)
                    if not decoded.has_data_set:
                        return decoded, None
                    if not value.is_command:
                        return decoded, data

    def closed(self) -> bool:
        return self.hear() is None


def echo_request(message_id: int = 1) -> CommandSet:
    return CommandSet(affected_sop_class_uid=VERIFICATION, command_field=CommandField.C_ECHO_RQ, message_id=message_id)


def store_request(message_id: int = 1, instance: str = "1.2.3.4") -> CommandSet:
    return CommandSet(
        affected_sop_class_uid=CT_STORAGE,
        command_field=CommandField.C_STORE_RQ,
        message_id=message_id,
        priority=0,
        affected_sop_instance_uid=instance,
    )


def find_request(message_id: int = 1) -> CommandSet:
    return CommandSet(
        affected_sop_class_uid=STUDY_FIND, command_field=CommandField.C_FIND_RQ, message_id=message_id, priority=0
    )


def still_serves(server: DicomServer) -> bool:
    """Whether a fresh association is accepted and echoes, the proof that a hostile one did no harm."""
    with BarePeer(server) as peer:
        peer.associate()
        peer.send(1, echo_request(7))
        command, _ = peer.answer()
        return command.status == 0 and command.message_id_being_responded_to == 7


def eventually(condition: Callable[[], bool], within: float = 30.0) -> bool:
    """Wait for something another thread does."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def accept_all(context: object, request: object) -> Response:
    return Response()


class Kept:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.instances: list[tuple[str, str, bytes]] = []

    def __call__(self, context: AssociationContext, request: Request) -> Response:
        assert request.data_set is not None
        uid = request.command.affected_sop_instance_uid or ""
        self.instances.append((uid, context.transfer_syntax, request.data_set.tobytes()))
        return Response()


def data_set_bytes(path: str | Path) -> bytes:
    """What follows the meta information in a Part 10 file, byte for byte."""
    with Path(path).open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader.read_file_meta_info(path)
        meta = pydicom.filereader._read_file_meta_info(file)
        assert meta.MediaStorageSOPInstanceUID
        return file.read()
