"""DICOM audit messages: a row of the trail as XML (PS3.15 A.5.1) in a syslog message (RFC 5424, PS3.15 A.6).

Of a patient the number leaves, never the name. A message that is sent twice is known by the row it names (the
`AlternativeUserID` of Hilum's own participant).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from xml.etree import ElementTree

from hilum.core.actor import Door
from hilum.security.audit_codes import (
    DESTINATION_ROLE,
    SOURCE_ROLE,
    DicomCode,
    Outcome,
    crude_of,
    event_of,
    meaning_of,
    outcome_of,
)
from hilum.storage.audit_records import AuditRecord, SubjectNames

# RFC 5424 6.2.1: facility 10 is security; PS3.15 A.6 wants severity 5 (notice), a failure is a warning.
PRIORITY = {Outcome.SUCCESS: 85, Outcome.MINOR_FAILURE: 84, Outcome.SERIOUS_FAILURE: 84}
MESSAGE_KIND = "DICOM+RFC3881"
BOM = b"\xef\xbb\xbf"
# RFC 3881 5.5.4
PATIENT_NUMBER = ("2", "RFC-3881", "Patient Number")
URI = ("12", "RFC-3881", "URI")
STUDY_UID = ("110180", "DCM", "Study Instance UID")
PERSON, SYSTEM_OBJECT = "1", "2"
PATIENT_ROLE, REPORT_ROLE, RESOURCE_ROLE = "1", "3", "4"
APPLICATION_SERVER = "4"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_IN_HEADER = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports: the name of this Hilum, its facility, and the machine and process it runs on."""

    name: str
    site: str
    host: str
    process: int


def audit_message(record: AuditRecord, names: SubjectNames, source: AuditSource) -> bytes:
    """Return the syslog message of a row, without a frame."""
    outcome = outcome_of(record.outcome, record.reason)
    moment = record.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    host = _NOT_IN_HEADER.sub("", source.host)[:255] or "-"
    header = f"<{PRIORITY[outcome]}>1 {moment} {host} hilum {source.process} {MESSAGE_KIND} - "
    return header.encode() + BOM + audit_xml(record, names, source)


def audit_xml(record: AuditRecord, names: SubjectNames, source: AuditSource) -> bytes:
    """Return the AuditMessage element of a row."""
    root = ElementTree.Element("AuditMessage")
    _event(root, record)
    reads = crude_of(record.action, about_somebody=record.about_somebody) == "R"
    asking, asked = (DESTINATION_ROLE, SOURCE_ROLE) if reads else (SOURCE_ROLE, DESTINATION_ROLE)
    attributes = {"UserID": record.actor or "unknown", "UserIsRequestor": "true"}
    if record.door == Door.DIMSE:
        attributes["AlternativeUserID"] = f"AETITLES={record.actor}"
    if record.address:
        attributes |= {"NetworkAccessPointID": record.address, "NetworkAccessPointTypeCode": "2"}
    _participant(root, attributes, asking, ("role", record.role))
    itself = {"UserID": source.name, "UserIsRequestor": "false", "AlternativeUserID": record.id}
    itself |= {"NetworkAccessPointID": source.host, "NetworkAccessPointTypeCode": "1"} if source.host else {}
    _participant(root, itself, asked, ("door", record.door))
    about = {"AuditSourceID": source.name, **({"AuditEnterpriseSiteID": source.site} if source.site else {})}
    element = _child(root, "AuditSourceIdentification", about)
    _child(element, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    _objects(root, record, names)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + text.encode()


def _event(root: ElementTree.Element, record: AuditRecord) -> None:
    somebody = record.about_somebody
    event = _child(
        root,
        "EventIdentification",
        {
            "EventActionCode": crude_of(record.action, about_somebody=somebody),
            "EventDateTime": record.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "EventOutcomeIndicator": outcome_of(record.outcome, record.reason).value,
        },
    )
    _code(event, "EventID", _dicom(event_of(record.action, about_somebody=somebody)))
    meaning = meaning_of(record.action)
    if meaning.type_code is not None:
        _code(event, "EventTypeCode", _dicom(meaning.type_code))
    _code(event, "EventTypeCode", (record.action, "99HILUM", meaning.words))
    if record.reason:
        _child(event, "EventOutcomeDescription", {}).text = _text(record.reason)


def _participant(root: ElementTree.Element, attributes: dict[str, str], role: DicomCode, own: tuple[str, str]) -> None:
    element = _child(root, "ActiveParticipant", attributes)
    _code(element, "RoleIDCode", _dicom(role))
    _code(element, "RoleIDCode", (own[1] or "unknown", "99HILUM", f"{own[0]} {own[1]}"))


def _objects(root: ElementTree.Element, record: AuditRecord, names: SubjectNames) -> None:
    if record.patient_id:
        number = f"{names.patient_identifier}^^^{names.patient_authority}".rstrip("^")
        known = bool(names.patient_identifier)
        identifier = number if known else f"urn:hilum:patient:{record.patient_id}"
        _object(root, identifier, (PERSON, PATIENT_ROLE), PATIENT_NUMBER if known else URI, "Patient")
    if names.study_instance_uid:
        study = _object(root, names.study_instance_uid, (SYSTEM_OBJECT, REPORT_ROLE), STUDY_UID, "Study")
        description = _child(study, "ParticipantObjectDescription", {})
        if names.accession_number:
            _child(description, "Accession", {"Number": names.accession_number})
        contained = _child(description, "ParticipantObjectContainsStudy", {})
        _child(contained, "StudyIDs", {"UID": names.study_instance_uid})
    if record.message_id:
        identifier = f"urn:hilum:message:{record.message_id}"
        _object(root, identifier, (SYSTEM_OBJECT, RESOURCE_ROLE), URI, "Message")


def _object(
    root: ElementTree.Element, identifier: str, kind: tuple[str, str], code: tuple[str, str, str], name: str
) -> ElementTree.Element:
    attributes = {
        "ParticipantObjectID": identifier,
        "ParticipantObjectTypeCode": kind[0],
        "ParticipantObjectTypeCodeRole": kind[1],
    }
    element = _child(root, "ParticipantObjectIdentification", attributes)
    _code(element, "ParticipantObjectIDTypeCode", code)
    _child(element, "ParticipantObjectName", {}).text = name
    return element


def _dicom(code: DicomCode) -> tuple[str, str, str]:
    return code.value, "DCM", code.meaning


def _code(parent: ElementTree.Element, name: str, code: tuple[str, str, str]) -> None:
    _child(parent, name, {"csd-code": code[0], "codeSystemName": code[1], "originalText": code[2]})


def _child(parent: ElementTree.Element, name: str, attributes: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.SubElement(parent, name, {key: _text(value) for key, value in attributes.items()})


def _text(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold: a name may come from anywhere."""
    return _NOT_IN_XML.sub("�", text)
