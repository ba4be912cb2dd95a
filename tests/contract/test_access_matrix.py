"""Eight roles by every entry of every door: what is granted goes through, and each denied twin is refused.

The entries are asked of the doors themselves (the composed HTTP application, the DICOM server, the tables of HL7): one
that the policy's table does not know fails here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from fixtures.department import Department, new_department
from fixtures.stores import open_store
from hilum.app import Application
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role, system_actor
from hilum.core.errors import Duplicate
from hilum.dicom.door import DicomDoor
from hilum.hl7.messages_in import MESSAGES, ORDER_CONTROL
from hilum.hl7.reception import open_envelope, receive
from hilum.security.entries import DIMSE, FHIR, HL7, HTTP, Entry, Unguarded, http_action
from hilum.security.keys import Keyring
from hilum.security.policy import GRANTS, PERSONAL, Action
from hilum.security.tokens import issue
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.workflow.accounts import AddUser, add_user
from hilum.workflow.inbound import receive_message

pytestmark = pytest.mark.xdist_group("department")

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What stands in a path where an identifier belongs: nobody's and nothing's.
VALUES = {
    "study": "1.2.3", "series": "1.2.3", "instance": "1.2.3", "frames": "1", "place:path": "7FE00010",
    "study_instance_uid": "1.2.3", "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "digest": "0",
    "path:path": "x", "rest:path": "a/b/c",
}  # fmt: skip
ROW = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
FORM = {
    "kind": "report", "state": "final", "revision": "1", "reason": "to see who may", "text": "x",
    "identifier": "NOBODY", "finding": "to see who may",
}  # fmt: skip


# HTTP


@dataclass(frozen=True)
class Call:
    """One way to ask: a route, a method, a type of resource, and the entry of the policy's table."""

    template: str
    method: str
    fhir_type: str
    entry: Entry

    @property
    def path(self) -> str:
        values = {**VALUES, "type": self.fhir_type}
        if self.template.startswith("/cds"):
            values["id"] = "prior-imaging-patient-view"
        return re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], ROW), self.template)


def composed_routes() -> dict[str, set[str]]:
    """Every route of the composed application with the methods that it answers."""
    found: dict[str, set[str]] = {}
    with contextlib.ExitStack() as stack:
        application = Application(stack.enter_context(_folder()))
        stack.callback(application.close)
        application.prepare()
        for path, methods in _walk(_inmost(application.http()).routes):
            found.setdefault(path, set()).update(methods)
    return found


def _inmost(application: Any) -> Any:
    """What stands behind the gate and whatever else a request goes through."""
    while not hasattr(application, "routes"):
        application = application._app
    return application


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _walk(routes: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner:
            yield from _walk(inner, prefix + route.path)
        else:
            yield prefix + route.path, set(route.methods or ())


def calls() -> list[Call]:
    found = []
    for template, methods in HTTP.items():
        for method, entry in methods.items():
            types = list(entry) if isinstance(entry, Mapping) else [""]
            found += [Call(template, method, each, http_action(template, method, each)) for each in types]
    return found


def test_every_route_and_method_has_its_entry_in_the_policy() -> None:
    routes = composed_routes()
    assert len(routes) > 50, "the routes were not found"
    assert set(routes) == set(HTTP)
    missing = []
    for path, answered in routes.items():
        # The doors of FHIR and CDS take every method in order to refuse it in their own form.
        refused = path.startswith(("/fhir", "/cds-services"))
        missing += [(path, m) for m in answered - {"HEAD"} if not refused and m not in HTTP[path]] + [
            (path, m) for m in HTTP[path] if m not in answered
        ]
    assert missing == []


def test_every_fhir_type_has_its_entry() -> None:
    from hilum.fhir.rest import KINDS
    from hilum.fhir.search_parameters import SEARCHABLE

    assert set(FHIR) == KINDS
    assert {kind: SEARCHABLE[kind].action for kind in SEARCHABLE} == {k: FHIR[k] for k in SEARCHABLE}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    running = new_department(tmp_path_factory.mktemp("matrix"))
    running.start()
    yield running
    running.stop()
    running.ehr.close()


@pytest.fixture(scope="module")
def tokens(hospital: Department) -> dict[tuple[Role, str], str]:
    """A token of a named person and of a service, for each role."""
    application = Application(hospital.home)
    now = application.store.clock()
    made = {}
    try:
        for role in Role:
            name = f"matrix-{role.value}"
            with contextlib.suppress(Duplicate):
                account = AddUser(name, role, "no password", (Identifier(name),))
                application.store.run(add_user, account, system_actor("tests"))
            for kind, subject in (("user", name), ("service", f"service:{role.value}")):
                made[role, kind] = issue(
                    application.keyring, subject=subject, role=role.value, kind=kind, minutes=30, now=now
                )
    finally:
        application.close()
    return made


def ask(hospital: Department, call: Call, token: str) -> int:
    body: dict[str, Any] = {}
    if call.method == "POST":
        if call.template.startswith("/cds"):
            hook = {"hook": "patient-view", "hookInstance": "9d1b6f0e-6f4d-4a3c-9a53-5e2b7f6c1a10",
                    "context": {"userId": "Practitioner/1", "patientId": "x"}}  # fmt: skip
            feedback = {"card": "9d1b6f0e-6f4d-4a3c-9a53-5e2b7f6c1a10", "outcome": "accepted",
                        "outcomeTimestamp": "2026-03-01T12:00:00Z", "acceptedSuggestions": [{"id": "x"}]}  # fmt: skip
            body = {"json": {"feedback": [feedback]} if call.template.endswith("feedback") else hook}
        elif call.template.startswith("/dicom-web"):
            body = {
                "data": b"--x--",
                "headers": {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
            }
        else:
            body = {"data": {"_count": "1"} if call.fhir_type else FORM}
    headers = {"Authorization": f"Bearer {token}"} | body.pop("headers", {})
    answer = requests.request(
        call.method, hospital.http + call.path, headers=headers, timeout=30, allow_redirects=False, **body
    )
    return answer.status_code


@pytest.mark.parametrize("kind", ["user", "service"])
@pytest.mark.parametrize("role", list(Role))
def test_each_role_gets_through_where_granted_and_nowhere_else(
    hospital: Department, tokens: dict[tuple[Role, str], str], role: Role, kind: str
) -> None:
    wrong, granted, denied = [], 0, 0
    for call in calls():
        if isinstance(call.entry, Unguarded) or call.template.startswith("/auth"):
            continue
        may = call.entry in GRANTS[role] and (kind == "user" or call.entry not in PERSONAL)
        status = ask(hospital, call, tokens[role, kind])
        granted, denied = granted + may, denied + (not may)
        if (status in (401, 403) or status >= 500) if may else status != 403:
            wrong.append((call.method, call.path, status, "granted" if may else "denied"))
    assert wrong == []
    assert granted + denied > 60 and granted >= 1 and denied >= 1


def test_what_is_not_listed_is_refused_whoever_asks(hospital: Department, tokens: dict[tuple[Role, str], str]) -> None:
    wrong = []
    for template in HTTP:
        for method in set(METHODS) - set(HTTP[template]):
            if template.startswith("/static"):
                continue
            call = Call(template, method, "Patient" if "{type}" in template else "", Unguarded.NOTHING)
            status = ask(hospital, call, tokens[Role.ADMIN, "user"])
            if status not in (404, 405):
                wrong.append((method, call.path, status))
    assert wrong == []


def test_open_entries_answer_a_stranger_and_no_others_do(hospital: Department) -> None:
    wrong = []
    for call in calls():
        answer = requests.request(call.method, hospital.http + call.path, timeout=30, allow_redirects=False)
        # Where somebody proves who they are, a wrong proof is answered like none.
        proving = call.template.startswith("/auth") and call.method == "POST"
        if (answer.status_code == 401) is (call.entry is Unguarded.OPEN) and not proving:
            wrong.append((call.method, call.path, answer.status_code))
    assert wrong == []


# DIMSE


@dataclass(frozen=True)
class ScannerRoom:
    """The DICOM door, and a person of each role with an account."""

    door: DicomDoor
    keys: Keyring

    @property
    def services(self) -> Any:
        return self.door.server._configuration[0]

    def identity(self, role: Role) -> UserIdentityNegotiation:
        """The user identity of a person: a token of ours (PS3.7 D.3.3.7, type 5)."""
        token = issue(
            self.keys, subject=f"one-{role}", role=role, kind="user", minutes=60, now=datetime.now(UTC)
        )  # fmt: skip
        item = UserIdentityNegotiation()
        item.user_identity_type, item.positive_response_requested, item.primary_field = 5, True, token.encode()
        return item


@pytest.fixture(scope="module")
def scanner_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScannerRoom]:
    from hilum.archive.file_blobs import FileBlobs
    from hilum.archive.ingest import Ingest
    from hilum.archive.landing import open_landing

    folder = tmp_path_factory.mktemp("room")
    (folder / "hilum.toml").write_text(
        '[dicom]\nbind = "127.0.0.1:0"\n[[dicom.peer]]\nae_title = "CT01"\naddress = "127.0.0.1:9"\n'
    )
    store = open_store("sqlite", folder)
    for role in Role:
        store.run(add_user, AddUser(f"one-{role}", role, "no password", (Identifier("CT01"),)), system_actor("tests"))
    blobs, keys = FileBlobs(folder / "archive"), Keyring.open(folder / "keys")
    landing = open_landing(blobs, "tester")
    door = DicomDoor(store, Configuration(folder), Ingest(store, blobs, landing), keys=keys)
    door.start()
    yield ScannerRoom(door, keys)
    door.drain(1.0)
    landing.close()
    store.close()


def entries_of(services: Any) -> set[tuple[str, str]]:
    return {(service.name, field.name) for service in services for field in service.handlers}


def test_every_dimse_command_has_its_entry_in_the_policy(scanner_room: ScannerRoom) -> None:
    assert entries_of(scanner_room.services) == set(DIMSE)


MPPS, WORKLIST = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.31"
GET, MOVE, COMMITMENT = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.1.20.1"
STUDY_ROOT, VERIFICATION = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.1"


def _image() -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = generate_uid(), generate_uid(), "M1"
    return image


def _study_query(uid: str = "") -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", uid
    return query


def _commitment(uid: str) -> Dataset:
    asked, referenced = Dataset(), Dataset()
    referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = CTImageStorage, uid
    asked.TransactionUID, asked.ReferencedSOPSequence = uid, [referenced]
    return asked


def _committed(uid: str) -> Dataset:
    told = _commitment(uid)
    told.FailedSOPSequence = []
    return told


def _step_query() -> Dataset:
    query, step = Dataset(), Dataset()
    query.PatientID, step.Modality = "", ""
    query.ScheduledProcedureStepSequence = [step]
    return query


def _exam() -> Dataset:
    said = Dataset()
    said.PerformedProcedureStepStatus = "IN PROGRESS"
    said.Modality, said.PerformedProcedureStepID, said.PerformedStationAETitle = "CT", "PPS1", "CT01"
    said.PerformedProcedureStepStartDate, said.PerformedProcedureStepStartTime = "20260301", "101500"
    reference = Dataset()
    reference.StudyInstanceUID, reference.ReferencedStudySequence = generate_uid(), []
    reference.AccessionNumber = reference.RequestedProcedureID = reference.RequestedProcedureDescription = ""
    reference.ScheduledProcedureStepID = reference.ScheduledProcedureStepDescription = ""
    reference.ScheduledProtocolCodeSequence = []
    said.ScheduledStepAttributesSequence = [reference]
    said.PatientName, said.PatientID, said.PatientBirthDate, said.PatientSex = "Doe^Jane", "M1", "", "F"
    said.ReferencedPatientSequence = said.ProcedureCodeSequence = said.PerformedProtocolCodeSequence = []
    said.PerformedSeriesSequence = []
    said.PerformedProcedureStepEndDate = said.PerformedProcedureStepEndTime = ""
    said.PerformedProcedureStepDescription = said.PerformedProcedureTypeDescription = said.StudyID = ""
    said.PerformedStationName = said.PerformedLocation = ""
    return said


def _end() -> Dataset:
    said = Dataset()
    said.PerformedProcedureStepStatus = "DISCONTINUED"
    said.PerformedProcedureStepEndDate, said.PerformedProcedureStepEndTime = "20260301", "102000"
    said.PerformedSeriesSequence = []
    return said


# How a client sends each command; all return the final status.
SENDING: dict[tuple[str, str], tuple[str, Callable[[Any, str], Any]]] = {
    ("echo", "C_ECHO_RQ"): (VERIFICATION, lambda a, uid: a.send_c_echo()),
    ("worklist", "C_FIND_RQ"): (WORKLIST, lambda a, uid: list(a.send_c_find(_step_query(), WORKLIST))[-1][0]),
    ("mpps", "N_CREATE_RQ"): (MPPS, lambda a, uid: a.send_n_create(_exam(), MPPS, uid)[0]),
    ("mpps", "N_SET_RQ"): (MPPS, lambda a, uid: a.send_n_set(_end(), MPPS, uid)[0]),
    ("storage", "C_STORE_RQ"): (CTImageStorage, lambda a, uid: a.send_c_store(_image())),
    ("get", "C_GET_RQ"): (GET, lambda a, uid: list(a.send_c_get(_study_query(uid), GET))[-1][0]),
    ("move", "C_MOVE_RQ"): (MOVE, lambda a, uid: list(a.send_c_move(_study_query(uid), "NOWHERE", MOVE))[-1][0]),
    ("commitment", "N_ACTION_RQ"): (
        COMMITMENT,
        lambda a, uid: a.send_n_action(_commitment(uid), 1, COMMITMENT, "1.2.840.10008.1.20.1.1")[0],
    ),
    ("commitment", "N_EVENT_REPORT_RQ"): (
        COMMITMENT,
        lambda a, uid: a.send_n_event_report(_committed(uid), 1, COMMITMENT, "1.2.840.10008.1.20.1.1")[0],
    ),
    ("query", "C_FIND_RQ"): (STUDY_ROOT, lambda a, uid: list(a.send_c_find(_study_query(), STUDY_ROOT))[-1][0]),
}
# Of an unknown destination, study or transaction there is nothing to do, but the policy let it through by then.
ANSWERS = {("move", "C_MOVE_RQ"): {0xA801}, ("commitment", "N_EVENT_REPORT_RQ"): {0x0112}}
NOT_AUTHORISED = 0x0124  # PS3.7 C.4.18


def test_each_role_is_answered_on_dicom_where_granted_and_nowhere_else(scanner_room: ScannerRoom) -> None:
    """Each person names themselves on an association of a known scanner, whose own rights then count for nothing."""
    assert set(SENDING) == set(DIMSE)
    wrong = []
    for role in Role:
        for entry in SENDING:
            uid = generate_uid()
            if entry[1] == "N_SET_RQ":
                # An exam that the scanner itself began, so that there is something to end.
                assert answered(scanner_room, None, ("mpps", "N_CREATE_RQ"), uid) == 0
            status = answered(scanner_room, role, entry, uid)
            granted = DIMSE[entry] in GRANTS[role]
            if status not in (ANSWERS.get(entry, {0}) if granted else {NOT_AUTHORISED}):
                wrong.append((role, entry, hex(status), "granted" if granted else "denied"))
    assert wrong == []


def answered(room: ScannerRoom, role: Role | None, entry: tuple[str, str], uid: str) -> int:
    """The final status of one command on an association of its own, in the name of a person or of the scanner.

    Once in a while pynetdicom's reactor takes an answer that its sender waits for: then it is asked again.
    """
    abstract, send = SENDING[entry]
    for _ in range(5):
        requestor = AE(ae_title="CT01")
        requestor.dimse_timeout = 5
        requestor.add_requested_context(abstract, ExplicitVRLittleEndian)
        named: list[Any] = [room.identity(role)] if role else []
        if entry[1] == "N_EVENT_REPORT_RQ":
            named.append(build_role(abstract, scp_role=True))
        association = requestor.associate("127.0.0.1", room.door.port, ae_title="HILUM", ext_neg=named)
        assert association.is_established
        status = send(association, uid)
        association.release()
        if "Status" in status:
            return int(status.Status)
    raise AssertionError(f"no answer to {entry}")


# HL7


def hl7_entries() -> set[str]:
    kinds = {f"{kind}^{trigger}" for kind, triggers in MESSAGES.items() for trigger in triggers}
    orders = {kind for kind in kinds if kind in ("ORM^O01", "OMG^O19", "OMI^O23")}
    return (kinds - orders) | {f"{kind} {control}" for kind in orders for control in ORDER_CONTROL}


def test_every_message_has_its_entry_in_the_policy() -> None:
    assert hl7_entries() == set(HL7)


def _message(entry: str, number: str, sender: str = "EPIC|GENHOSP") -> bytes:
    kind, _, control = entry.partition(" ")
    pid = f"PID|1||{number}^^^GENHOSP^MR||Doe^Jane||19800102|F"
    head = f"MSH|^~\\&|{sender}|HILUM|RAD|20260301120000||{kind}|M{number}{control}|P|2.5.1"
    match kind.split("^")[0]:
        case "ADT":
            rest = [f"EVN|{kind[4:]}|20260301120000", pid]
            other = f"{number}9^^^GENHOSP^MR"
            more = f"PID|2||{other}||Doe^Jane||19800102|F" if kind == "ADT^A37" else f"MRG|{other}"
            rest += [more] if HL7[entry] is Action.MERGE_PATIENTS else ["PV1|1|O"]
        case "QBP" if kind == "QBP^Q22":
            rest = ["QPD|IHE PDQ Query|T1|@PID.5.1.1^Doe"]
        case "QBP":
            rest = [f"QPD|IHE PIX Query|T1|{number}^^^GENHOSP"]
        case "MDM":
            rest = [pid, f"TXA|1|DI|TX||||||9^READER^RITA|||D{number}||P{number}^EPIC|||AU",
                    "OBX|1|TX|1^F^L||Clear.||||||F"]  # fmt: skip
        case "SIU":
            rest = [f"SCH|A{number}" + "|" * 25 + f"P{number}^EPIC", pid, "RGS|1", "AIS|1||CTCHEST|20260302120000"]
        case "ORU":
            rest = [pid, f"OBR|1|P{number}^EPIC||CTCHEST^CT^L" + "|" * 18 + "20260302120000|||F|||||||9&READER&RITA",
                    "OBX|1|TX|1^F^L||Clear.||||||F"]  # fmt: skip
        case _:
            rest = [pid, f"ORC|{control}|P{number}^EPIC", f"OBR|1|P{number}^EPIC||CTCHEST^CT^L" + "|" * 20 + "CT",
                    "IPC||||||"]  # fmt: skip
            rest = rest[:-1] if kind != "OMI^O23" else rest
    return "\r".join([head, *rest, ""]).encode()


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Any]]:
    folder = tmp_path_factory.mktemp("interface")
    (folder / "hilum.toml").write_text('[[hl7.peer]]\nname = "EPIC|GENHOSP"\nauthority = "GENHOSP"\n')
    store = open_store("sqlite", folder)
    yield store, Configuration(folder).current
    store.close()


@pytest.mark.parametrize("entry", sorted(HL7))
def test_each_message_is_applied_for_who_may_and_for_nobody_else(interface: tuple[Store, Any], entry: str) -> None:
    store, settings = interface
    number = str(100_000 + sorted(HL7).index(entry))

    def send(entry: str, actor: Actor | None = None, sender: str = "EPIC|GENHOSP") -> Any:
        envelope = open_envelope(_message(entry, number, sender), "127.0.0.1", settings)
        reception = receive(envelope, settings, frozenset(), store.clock())
        return store.run(receive_message, reception.command, actor or reception.actor)

    kind = entry.partition(" ")[0]
    of_an_order = kind.startswith(("ORU", "SIU", "MDM"))
    if of_an_order or entry.endswith((" XO", " CA", " DC")):
        send("ORM^O01 NW" if of_an_order else f"{kind} NW")
    if kind.startswith("QBP"):
        send("ADT^A04")
    if kind == "MDM^T11":
        send("MDM^T02")
    if entry == "ADT^A37":
        send("ADT^A40")
    wanted = {Action.RECEIVE_MESSAGE, HL7[entry]}
    for role in Role:
        if not wanted <= GRANTS[role]:
            refused = send(entry, Actor("EPIC|GENHOSP", role, ActorKind.PERSON, Door.HL7))
            assert (refused.outcome, refused.reason) == ("refused", "forbidden"), (role, entry)
    stranger = send(entry, sender="STRANGE|PLACE")
    assert (stranger.outcome, stranger.reason) == ("refused", "forbidden")
    applied = send(entry)
    assert (applied.outcome, applied.reason) == ("applied", "")


def test_a_door_that_only_receives_may_not_do_the_verb(interface: tuple[Store, Any], monkeypatch: Any) -> None:
    """Being let in is not enough: each verb asks again."""
    store, settings = interface
    monkeypatch.setitem(GRANTS, Role.AUDITOR, GRANTS[Role.AUDITOR] | {Action.RECEIVE_MESSAGE})
    for position, entry in enumerate(sorted(HL7)):
        envelope = open_envelope(_message(entry, str(200_000 + position)), "127.0.0.1", settings)
        reception = receive(envelope, settings, frozenset(), store.clock())
        received = store.run(
            receive_message, reception.command, Actor("EPIC|GENHOSP", Role.AUDITOR, ActorKind.PERSON, Door.HL7)
        )
        assert received.outcome == "refused", entry
