"""Bad input is refused precisely, nothing is lost, and memory stays bounded."""

from __future__ import annotations

import socket
import subprocess
import time
from io import BytesIO

import psutil
import pytest
import requests
from pydicom import dcmwrite
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from fixtures.department import START, Department, Patient, accepted, fields, next_numbers

pytestmark = [pytest.mark.xdist_group("department"), pytest.mark.timeout(300)]
MIB = 1024 * 1024


def memory(department: Department) -> int:
    """RSS of all roles together."""
    return sum(psutil.Process(pid).memory_info().rss for pid in department.role_processes())


def still_works(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    department.place(patient)


@pytest.mark.parametrize(
    ("message", "code", "place"),
    [
        ("MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|2026||ORM^O01|{control}|P|2.5.1\rPID|1||{number}^^^GENHOSP\rOR", "AR", ""),
        ("MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|2026||ORM^O01|{control}|P|2.5.1\r", "AE", "ORC"),
        ("MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|2026||XXX^X01|{control}|P|2.5.1\rPID|1||1\r", "AR", "MSH^1^9"),
        ("MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|2026||ADT^A99|{control}|P|2.5.1\rPID|1||1\r", "AR", "MSH^1^9"),
        ("MSH|^~\\&|NOBODY|NOWHERE|HILUM|RAD|2026||ADT^A04|{control}|P|2.5.1\rPID|1||1\r", "AR", "MSH^1^3"),
    ],
)  # fmt: skip
def test_bad_messages_are_refused_with_the_place(department: Department, message: str, code: str, place: str) -> None:
    control = next_numbers(1)[0]
    answer = department.send(message.format(control=control, number=control))
    assert fields(answer, "MSA")[0][1] in (code, "AE" if not place else code)
    assert fields(answer, "MSA")[0][2] == control
    assert fields(answer, "ERR")[0][2].startswith(place)
    assert control in department.cli("messages", "list", "--limit", "20"), "what was refused is kept"


def test_a_frame_without_header_is_answered(department: Department) -> None:
    answer = department.send(b"this is no HL7 at all")
    assert fields(answer, "MSA")[0][1] == "AR"


def test_an_accession_that_is_too_long_is_refused(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    answer = department.send(
        f"{department.header('OMI^O23^OMI_O23')}\r{patient.pid}\rPV1|1|O\rORC|NW|P{patient.number}^EPIC|F1^RIS\r"
        f"OBR|1|P{patient.number}^EPIC|F1^RIS|CT^CT^L\rIPC|{'9' * 17}|R1|1.2.3.{patient.number[1:]}|S1|CT\r"
    )
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][2].startswith(("IPC^1^1", "OBR^1^18"))


def test_an_endless_frame_does_not_fill_the_memory(department: Department) -> None:
    before = memory(department)
    refused = b""
    with socket.create_connection(("127.0.0.1", department.hl7_port), timeout=30) as connection:
        connection.sendall(START + b"MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|2026||ADT^A04|ENDLESS|P|2.5.1\r")
        try:
            for _ in range(1024):
                connection.sendall(b"A" * MIB)
        except (BrokenPipeError, ConnectionResetError):
            refused = b"closed"
    assert refused == b"closed", "1 GB was read to its end"
    assert memory(department) - before < 150 * MIB
    still_works(department)


def test_idle_connections_do_not_stop_the_others(department: Department) -> None:
    held = []
    try:
        for port in (department.hl7_port, department.dicom_port):
            for _ in range(250):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        time.sleep(0.5)
        answered = 0
        for _ in range(20):
            try:
                department.register(Patient(next_numbers(1)[0]))
                answered += 1
                break
            except (ConnectionError, OSError):
                time.sleep(0.2)
        assert answered or len(held) == 500
    finally:
        for each in held:
            each.close()
    time.sleep(0.5)
    still_works(department)


def test_two_hundred_presentation_contexts_are_answered(department: Department) -> None:
    contexts = b""
    for number in range(200):
        abstract = CTImageStorage.encode()
        syntax = b"1.2.840.10008.1.2.1"
        body = bytes([(2 * number + 1) % 256, 0, 0, 0])
        body += b"\x30\x00" + len(abstract).to_bytes(2, "big") + abstract
        body += b"\x40\x00" + len(syntax).to_bytes(2, "big") + syntax
        contexts += b"\x20\x00" + len(body).to_bytes(2, "big") + body
    application = b"1.2.840.10008.3.1.1.1"
    user = b"\x51\x00\x00\x04" + (16384).to_bytes(4, "big") + b"\x52\x00\x00\x05" + b"1.2.3"
    items = b"\x10\x00" + len(application).to_bytes(2, "big") + application + contexts
    items += b"\x50\x00" + len(user).to_bytes(2, "big") + user
    body = b"\x00\x01\x00\x00" + b"HILUM".ljust(16) + b"CT01".ljust(16) + bytes(32) + items
    with socket.create_connection(("127.0.0.1", department.dicom_port), timeout=30) as connection:
        connection.sendall(b"\x01\x00" + len(body).to_bytes(4, "big") + body)
        answer = connection.recv(65536)
    assert answer[0] in (0x03, 0x07), "rejected or aborted, not hung"
    still_works(department)


def store_raw(department: Department, dataset: bytes, uid: str) -> tuple[int, str]:
    """Send bytes as they are in a C-STORE; return status and comment."""
    from pydicom.dataset import Dataset
    from pynetdicom.dimse_primitives import C_STORE

    ae = AE("CT01")
    ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", department.dicom_port, ae_title="HILUM")
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, CTImageStorage, uid
    request.Priority, request.DataSet = 2, BytesIO(dataset)
    # The association's own thread would take the response away.
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.01)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert isinstance(response, C_STORE)
    return response.Status, str(getattr(response, "ErrorComment", "") or Dataset().get("x", ""))


def test_broken_objects_are_refused_with_a_reason(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    image = department.image(placed)
    whole = BytesIO()
    dcmwrite(whole, image, implicit_vr=False, little_endian=True)
    data = whole.getvalue()
    data = data[data.index(b"\x08\x00\x05\x00CS") :]
    truncated, comment = store_raw(department, data[:200], image.SOPInstanceUID)
    assert truncated & 0xF000 in (0xC000, 0xA000)
    assert comment
    del image.SOPInstanceUID
    bare = BytesIO()
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dcmwrite(bare, image, implicit_vr=False, little_endian=True)
    data = bare.getvalue()
    data = data[data.index(b"\x08\x00\x05\x00CS") :]
    status, comment = store_raw(department, data, "1.2.3")
    assert status & 0xF000 in (0xC000, 0xA000)
    assert "SOPInstanceUID" in comment.replace(" ", "")
    huge = data[:100] + b"\x09\x00\x01\x10OB\x00\x00" + (3 * 1024**3).to_bytes(4, "little") + b"x" * 100_000
    status, comment = store_raw(department, huge, "1.2.4")
    assert status & 0xF000 in (0xC000, 0xA000)
    assert department.qido(StudyInstanceUID=placed.study_uid) == []
    still_works(department)


def test_a_body_of_a_gigabyte_is_refused_early(department: Department) -> None:
    before = memory(department)

    def endless():  # type: ignore[no-untyped-def]
        for _ in range(1024):
            yield b"[" * MIB

    headers = {"Authorization": f"Bearer {department.token('service')}", "Content-Type": "application/json"}
    url = f"{department.http}/cds-services/prior-imaging-order-sign"
    try:
        answer = requests.post(url, data=endless(), headers=headers, timeout=60)
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # the server closed the connection under the body
    with socket.create_connection(("127.0.0.1", int(department.http.rpartition(":")[2])), timeout=30) as connection:
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        said += f"Content-Length: {1024**3}\r\n\r\n"
        connection.sendall(f"POST /cds-services/prior-imaging-order-sign HTTP/1.1\r\nHost: x\r\n{said}".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413"), "refused before the body comes"
    assert memory(department) - before < 150 * MIB
    still_works(department)


def test_nobody_gets_in_without_a_token(department: Department) -> None:
    for path in ("/dicom-web/studies", "/fhir/Patient", "/metrics", "/exceptions", "/orders/x"):
        assert requests.get(department.http + path, timeout=30, allow_redirects=False).status_code == 401, path
    for path in ("/health/live", "/health/ready", "/fhir/metadata", "/cds-services", "/auth/login"):
        assert requests.get(department.http + path, timeout=30).status_code == 200, path
    for path in ("/dicom-web/studies", "/fhir/Patient"):
        department.get(path, "auditor", status=403)


def test_an_unknown_ae_is_turned_away(department: Department) -> None:
    done = subprocess.run(
        ["/usr/bin/echoscu", "-aet", "STRANGER", "-aec", "HILUM", "127.0.0.1", str(department.dicom_port)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    done = subprocess.run(
        ["/usr/bin/echoscu", "-aet", "CT01", "-aec", "HILUM", "127.0.0.1", str(department.dicom_port)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0


def test_latin_1_and_ascii_messages_are_read_as_declared(department: Department) -> None:
    (number,) = next_numbers(1)
    head = department.header("ADT^A04").replace("UNICODE UTF-8", "8859/1")
    message = f"{head}\rEVN|A04|20260101\r{Patient(number, 'Müller', 'Jörg').pid}\rPV1|1|O\r"
    assert accepted(department.send(message, "latin-1"))
    (person,) = department.search("Patient", identifier=number)
    assert person["name"][0]["family"] == "Müller"
