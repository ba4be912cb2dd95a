"""The audit feed to a real syslog collector: encrypted, whole, in order, and none lost whatever goes down."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from fixtures.collector import Collector, parsed
from fixtures.department import Department, Patient, eventually, next_numbers
from fixtures.stores import HL7_PEER
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Unavailable
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.delivery.senders.syslog import framed
from hilum.jobs.audit_feed import AuditFeed
from hilum.jobs.sealer import Sealer
from hilum.security import tls
from hilum.security.audit_message import AuditSource, audit_message, audit_xml
from hilum.security.keys import Keyring
from hilum.security.seal import row_signer
from hilum.settings import Configuration, SettingsError
from hilum.storage import tables
from hilum.storage.audit_records import AuditRecord, SubjectNames
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.registration import DemographicsSaid, RegisterPatient, register_patient
from hilum.workflow.source import Source

READER = Actor("dr-x", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE, address="127.0.0.1")
SOURCE = AuditSource("hilum@test", "General", "test.example", 4711)
# PS3.15 A.5.1.1: the children of each element in their order, and its attributes ("?" where it may be missing).
SCHEMA: dict[str, tuple[list[str], str]] = {
    "AuditMessage": (
        ["EventIdentification", "ActiveParticipant+", "AuditSourceIdentification", "ParticipantObjectIdentification*"],
        "",
    ),
    "EventIdentification": (
        ["EventID", "EventTypeCode*", "EventOutcomeDescription?"],
        "EventActionCode? EventDateTime EventOutcomeIndicator",
    ),
    "EventID": ([], "csd-code codeSystemName originalText"),
    "EventTypeCode": ([], "csd-code codeSystemName originalText"),
    "EventOutcomeDescription": ([], ""),
    "ActiveParticipant": (
        ["RoleIDCode*"],
        "UserID AlternativeUserID? UserName? UserIsRequestor NetworkAccessPointID? NetworkAccessPointTypeCode?",
    ),
    "RoleIDCode": ([], "csd-code codeSystemName originalText"),
    "AuditSourceIdentification": (["AuditSourceTypeCode*"], "AuditEnterpriseSiteID? AuditSourceID"),
    "AuditSourceTypeCode": ([], "csd-code"),
    "ParticipantObjectIdentification": (
        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectDescription*"],
        "ParticipantObjectID ParticipantObjectTypeCode ParticipantObjectTypeCodeRole",
    ),
    "ParticipantObjectIDTypeCode": ([], "csd-code codeSystemName originalText"),
    "ParticipantObjectName": ([], ""),
    "ParticipantObjectDescription": (["Accession*", "ParticipantObjectContainsStudy?"], ""),
    "Accession": ([], "Number"),
    "ParticipantObjectContainsStudy": (["StudyIDs*"], ""),
    "StudyIDs": ([], "UID"),
}  # fmt: skip


def check(element: ElementTree.Element) -> None:
    """Fail where an element is not as the schema has it."""
    children, attributes = SCHEMA[element.tag]
    wanted = {name for name in attributes.split() if not name.endswith("?")}
    assert wanted <= set(element.keys()) <= {name.rstrip("?") for name in attributes.split()}, element.tag
    found = [child.tag for child in element]
    for place in children:
        name, mark = place.rstrip("?*+"), place[-1]
        count = 0
        while found and found[0] == name:
            found.pop(0)
            count += 1
        assert count <= 1 or mark in "*+", element.tag
        assert count >= 1 or mark in "*?", f"{element.tag} has no {name}"
    assert not found, f"{element.tag} has {found} where they do not belong"
    for child in element:
        check(child)


@dataclass
class Hospital:
    """A store with an audit trail, its sealer and its feed, and the collector it is sent to."""

    store: Store
    home: Path
    sealer: Sealer
    collector: Collector
    now: float = 0.0

    def feed(self) -> AuditFeed:
        return AuditFeed(self.store, Configuration(self.home), lambda: self.now)

    def write(self, count: int) -> None:
        for future in [self.store.submit(read_something, f"P{number}", READER) for number in range(count)]:
            future.result()
        self.sealer.run()

    def rows(self) -> list[str]:
        """All rows of the trail, by time."""
        audit = tables.audit_event
        query = sa.select(audit.c.writer, audit.c.sequence).order_by(audit.c.at, audit.c.writer, audit.c.sequence)
        with self.store.read() as connection:
            return [f"{row.writer}.{row.sequence}" for row in connection.execute(query)]


def read_something(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """A verb that leaves one audit row."""
    uow.audit(actor, "read-patient", patient_id=command)


def open_hospital(url: str, home: Path, scheme: str) -> Hospital:
    home.mkdir()
    files = tls.init(home, now=datetime.now(UTC))
    context = tls.server_context(files.server_cert, files.server_key, files.ca, "mutual") if scheme == "tls" else None
    collector = Collector(context, datagrams=scheme == "udp")
    extra = 'ca = "tls/ca.pem"\ncert = "tls/client.pem"\nkey = "tls/client.key"\n' if scheme == "tls" else ""
    (home / "hilum.toml").write_text(
        f'[facility]\nname = "General"\n[audit]\nsyslog = "{scheme}://127.0.0.1:{collector.port}"\n{extra}'
    )
    keyring = Keyring.open(home)
    engine = open_engine(url, home / "hilum.db")
    migrate(engine)
    store = Store(engine, row_signer(keyring.audit), lock_path=str(home / "lock"))
    return Hospital(store, home, Sealer(store, keyring.audit, home / "seals" / "latest.json"), collector)


@pytest.fixture(params=["sqlite", "postgresql"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = open_hospital(url, tmp_path / "home", "tls")
    yield opened
    opened.store.close()


def test_every_row_arrives_encrypted_once_and_in_its_order(hospital: Hospital) -> None:
    feed = hospital.feed()
    assert not feed.due()
    for _ in range(3):
        hospital.write(20)
        assert feed.due()
        feed.run()
    assert not feed.due()
    assert hospital.collector.rows() == hospital.rows()
    assert len(hospital.rows()) == 60


def test_a_message_says_what_the_standard_wants(hospital: Hospital) -> None:
    said = DemographicsSaid(PersonName("Unmistakable", "Jane"), None, sex="F")
    command = RegisterPatient((PatientIdentifier("MRN42", "GENHOSP"),), said, None, Source("HL7 ADT^A04", "EPIC"))
    patient = hospital.store.run(register_patient, command, HL7_PEER)
    hospital.store.run(read_something, patient.id, READER)
    hospital.sealer.run()
    hospital.feed().run()
    for message in hospital.collector.received:
        check(message.xml)
        assert (message.application, message.kind, message.priority) == ("hilum", "DICOM+RFC3881", 85)
        assert b"Unmistakable" not in ElementTree.tostring(message.xml), "a name left"
    read = hospital.collector.received[-1].xml
    event = read.find("EventIdentification")
    assert event is not None
    assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == ("R", "0")
    assert [code.get("csd-code") for code in event] == ["110110", "read-patient"]
    person, itself = read.findall("ActiveParticipant")
    assert (person.get("UserID"), person.get("NetworkAccessPointID")) == ("dr-x", "127.0.0.1")
    assert itself.get("UserID", "").startswith("hilum@")
    (subject,) = read.findall("ParticipantObjectIdentification")
    assert subject.get("ParticipantObjectID") == "MRN42^^^GENHOSP"
    source = read.find("AuditSourceIdentification")
    assert source is not None
    assert source.get("AuditEnterpriseSiteID") == "General"


def test_nothing_is_lost_while_the_collector_is_down(hospital: Hospital) -> None:
    feed = hospital.feed()
    hospital.write(5)
    feed.run()
    hospital.collector.stop()
    hospital.write(700)
    with pytest.raises(Unavailable):
        feed.run()
    assert not feed.due(), "a collector that is down is not asked again at once"
    hospital.write(5)
    hospital.collector.start()
    hospital.now += 60
    assert feed.due()
    feed.run()
    assert hospital.collector.rows() == hospital.rows()


def test_a_connection_that_breaks_is_made_good_by_the_whole_batch(hospital: Hospital) -> None:
    hospital.write(30)
    hospital.collector.reset_after = 7
    with pytest.raises(Unavailable):
        hospital.feed().run()
    # Another process takes over from what was noted, as after a kill.
    later = AuditFeed(hospital.store, Configuration(hospital.home))
    expire_lease(hospital)
    later.run()
    assert hospital.collector.rows()[:7] == hospital.rows()[:7]
    assert hospital.collector.rows()[7:] == hospital.rows()


def test_two_processes_never_send_at_once(hospital: Hospital) -> None:
    hospital.write(3)
    first, second = hospital.feed(), hospital.feed()
    first.run()
    hospital.write(3)
    second.run()
    assert len(hospital.collector.received) == 3, "the lease was the first one's"
    first.last()
    second.run()
    assert hospital.collector.rows() == hospital.rows()


def test_a_collector_of_another_authority_gets_nothing(hospital: Hospital, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tls.init(tmp_path / "other", now=datetime.now(UTC))
    stranger = Collector(tls.server_context(other.server_cert, other.server_key))
    text = (hospital.home / "hilum.toml").read_text().replace(str(hospital.collector.port), str(stranger.port))
    (hospital.home / "hilum.toml").write_text(text)
    hospital.write(3)
    with pytest.raises(Unavailable):
        hospital.feed().run()
    assert stranger.received == []


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_plain_syslog_works_on_this_machine(tmp_path: Path, scheme: str) -> None:
    opened = open_hospital("sqlite", tmp_path / "home", scheme)
    opened.write(40)
    feed = opened.feed()
    feed.run()
    eventually(lambda: len(opened.collector.received) == 40, "the messages")
    assert opened.collector.rows() == opened.rows()
    opened.collector.stop()
    opened.write(1)
    if scheme == "tcp":
        with pytest.raises(Unavailable):
            feed.run()
    opened.store.close()


@pytest.mark.parametrize(
    "address", ["tcp://collector.example:514", "udp://10.0.0.1:514", "tls://host", "https://host:1", "tls://u@host:1"]
)
def test_an_address_that_would_leak_or_lead_nowhere_is_refused(tmp_path: Path, address: str) -> None:
    (tmp_path / "hilum.toml").write_text(f'[audit]\nsyslog = "{address}"\n')
    with pytest.raises(SettingsError, match="syslog"):
        Configuration(tmp_path)


def test_hostile_names_stay_text() -> None:
    actor = "<x>&\"'\x01\ud800 ]]>\r\n<14>1 forged"
    record = AuditRecord(
        "w", 1, datetime(2026, 3, 1, tzinfo=UTC), actor, "service", "dimse", "::1", "a<b", "refused", "forbidden",
        "TREAT", "p", None, None, "m",
    )  # fmt: skip
    names = SubjectNames('1"<', "A&B", "acc<", "1.2<3")
    message = parsed(audit_message(record, names, SOURCE))
    check(message.xml)
    assert message.priority == 84
    first = message.xml.findall("ActiveParticipant")[0]
    assert first.get("UserID", "").startswith("<x>&\"'")
    assert framed(b"abc") == b"3 abc"
    assert audit_xml(record, names, SOURCE).count(b"<AuditMessage>") == 1


def expire_lease(hospital: Hospital) -> None:
    with hospital.store.engine.begin() as connection:
        connection.execute(tables.lease.delete().where(tables.lease.c.name == "audit-feed"))


def test_a_killed_server_goes_on_where_it_was(own_department: Department) -> None:
    home = own_department.home
    files = tls.init(home, now=datetime.now(UTC))
    collector = Collector(tls.server_context(files.server_cert, files.server_key, files.ca, "mutual"))
    with (home / "hilum.toml").open("a") as file:
        file.write(
            f'[audit]\nsyslog = "tls://127.0.0.1:{collector.port}"\n'
            'ca = "tls/ca.pem"\ncert = "tls/client.pem"\nkey = "tls/client.key"\n'
        )
    own_department.start()
    patients = [Patient(number) for number in next_numbers(8)]
    for patient in patients[:3]:
        own_department.register(patient)
    eventually(lambda: any(p.number in subjects(collector) for p in patients[:3]), "the first messages")
    collector.stop()
    for patient in patients[3:6]:
        own_department.register(patient)
    own_department.kill()
    # As if the killed worker's lease had run out, for which a real ward waits half a minute.
    with contextlib.closing(sqlite3.connect(home / "hilum.db")) as database:
        database.execute("DELETE FROM lease")
        database.commit()
    collector.start()
    own_department.start()
    for patient in patients[6:]:
        own_department.register(patient)
    eventually(lambda: {p.number for p in patients} <= subjects(collector), "all messages", 60)
    own_department.stop()
    rows = collector.rows()
    exported = {f"{row['writer']}.{row['sequence']}" for row in exported_rows(own_department)}
    for writer in {row.partition(".")[0] for row in rows}:
        numbers = list(dict.fromkeys(int(row.partition(".")[2]) for row in rows if row.startswith(writer)))
        assert numbers == list(range(1, len(numbers) + 1)), "none is missing and none came before its time"
    assert set(rows) <= exported


def subjects(collector: Collector) -> set[str]:
    found = (
        o.get("ParticipantObjectID", "")
        for m in list(collector.received)
        for o in m.xml
        if o.get("ParticipantObjectID")
    )
    return {identifier.partition("^")[0] for identifier in found}


def exported_rows(department: Department) -> list[dict[str, object]]:
    return [json.loads(line) for line in department.cli("audit", "export").splitlines()]


def test_the_context_is_of_bcp_195(tmp_path: Path) -> None:
    context = tls.client_context(None)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
