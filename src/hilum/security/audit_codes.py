"""What the words of the audit trail mean to others: DICOM audit events, FHIR interactions, and plain words for people.

One table for the audit feed (PS3.15 A.5), FHIR AuditEvent (IHE BALP) and the report of a patient. A word that is not in
it, such as the name of a verb that was refused before it could ask, is application activity.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from hilum.security.policy import Action
from hilum.storage.fhir_values import SERIOUS_REASONS

Crude = Literal["C", "R", "U", "D", "E"]
Interaction = Literal["read", "create", "update", "delete", "search-type", ""]


class DicomCode(NamedTuple):
    """A code of the DICOM ontology (PS3.16 annex D)."""

    value: str
    meaning: str


# PS3.16 CID 400
ACTIVITY = DicomCode("110100", "Application Activity")
AUDIT_LOG_USED = DicomCode("110101", "Audit Log Used")
INSTANCES_ACCESSED = DicomCode("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = DicomCode("110104", "DICOM Instances Transferred")
STUDY_DELETED = DicomCode("110105", "DICOM Study Deleted")
EXPORT = DicomCode("110106", "Export")
NETWORK_ENTRY = DicomCode("110108", "Network Entry")
ORDER_RECORD = DicomCode("110109", "Order Record")
PATIENT_RECORD = DicomCode("110110", "Patient Record")
PROCEDURE_RECORD = DicomCode("110111", "Procedure Record")
QUERY = DicomCode("110112", "Query")
SECURITY_ALERT = DicomCode("110113", "Security Alert")
USER_AUTHENTICATION = DicomCode("110114", "User Authentication")
# PS3.16 CID 401
LOGIN = DicomCode("110122", "Login")
LOGOUT = DicomCode("110123", "Logout")
NODE_AUTHENTICATION = DicomCode("110126", "Node Authentication")
EMERGENCY_OVERRIDE = DicomCode("110127", "Emergency Override Started")
SECURITY_CONFIGURATION = DicomCode("110131", "Security Configuration")
USER_ATTRIBUTES = DicomCode("110137", "User Security Attributes Changed")
# PS3.16 CID 402
SOURCE_ROLE = DicomCode("110153", "Source Role ID")
DESTINATION_ROLE = DicomCode("110152", "Destination Role ID")


class Outcome(StrEnum):
    """How something ended; the values are those of RFC 3881 5.1.4, which FHIR and DICOM share."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a word means where it is about somebody; without a subject, a reading is a query."""

    event: DicomCode
    crude: Crude
    interaction: Interaction
    words: str
    type_code: DicomCode | None = None


def _read(event: DicomCode, words: str) -> Meaning:
    return Meaning(event, "R", "read", words)


A = Action
MEANINGS: dict[str, Meaning] = {
    A.REGISTER_PATIENT: Meaning(PATIENT_RECORD, "U", "update", "registered or updated the patient"),
    A.MERGE_PATIENTS: Meaning(PATIENT_RECORD, "U", "update", "merged patient records"),
    A.READ_PATIENT: _read(PATIENT_RECORD, "opened the patient's data"),
    A.CHECK_PRIORS: _read(PATIENT_RECORD, "was told of earlier examinations"),
    A.PLACE_ORDER: Meaning(ORDER_RECORD, "C", "create", "placed an order"),
    A.CHANGE_ORDER: Meaning(ORDER_RECORD, "U", "update", "changed an order"),
    A.CANCEL_ORDER: Meaning(ORDER_RECORD, "U", "update", "cancelled an order"),
    A.READ_ORDER: _read(ORDER_RECORD, "opened an order"),
    A.READ_WORKLIST: Meaning(QUERY, "E", "search-type", "saw a worklist"),
    A.PERFORM_EXAM: Meaning(PROCEDURE_RECORD, "U", "update", "recorded an examination"),
    A.STORE_IMAGES: Meaning(INSTANCES_TRANSFERRED, "C", "create", "stored images"),
    A.READ_IMAGES: _read(INSTANCES_ACCESSED, "opened images"),
    A.REJECT_IMAGES: Meaning(INSTANCES_ACCESSED, "U", "update", "rejected images"),
    A.MANAGE_REJECTED: Meaning(INSTANCES_ACCESSED, "U", "update", "decided on rejected images"),
    A.MANAGE_QUARANTINE: Meaning(INSTANCES_ACCESSED, "U", "update", "settled what can't be read"),
    A.HOLD_IMAGES: Meaning(INSTANCES_ACCESSED, "U", "update", "held images against deletion"),
    A.DELETE_IMAGES: Meaning(STUDY_DELETED, "D", "delete", "deleted images"),
    A.EXPORT_ORIGINAL: _read(INSTANCES_TRANSFERRED, "had images as they were received"),
    "drop-instance": _read(INSTANCES_TRANSFERRED, "sent an image that a rule does not let in"),
    "send-images": _read(INSTANCES_TRANSFERRED, "had images sent to another system"),
    A.READ_REPORT: _read(PROCEDURE_RECORD, "opened a report"),
    A.DRAFT_REPORT: Meaning(PROCEDURE_RECORD, "U", "update", "worked on a report"),
    A.SIGN_REPORT: Meaning(PROCEDURE_RECORD, "U", "update", "signed a report"),
    A.RELAY_REPORT: Meaning(PROCEDURE_RECORD, "U", "update", "passed a report on"),
    A.READ_EXCEPTIONS: _read(PROCEDURE_RECORD, "saw what waits for a decision"),
    A.RESOLVE_EXCEPTION: Meaning(PROCEDURE_RECORD, "U", "update", "decided what belongs to whom"),
    A.REASSIGN_STUDY: Meaning(INSTANCES_ACCESSED, "U", "update", "moved images to whom they belong"),
    A.RECEIVE_MESSAGE: Meaning(ACTIVITY, "E", "", "sent a message"),
    A.READ_MESSAGES: _read(ACTIVITY, "opened a message as it was received"),
    A.READ_QUEUE: Meaning(ACTIVITY, "R", "read", "saw what waits to be sent"),
    A.OPERATE_QUEUE: Meaning(ACTIVITY, "E", "", "operated what waits to be sent"),
    A.READ_METRICS: Meaning(ACTIVITY, "R", "read", "read metrics"),
    A.READ_AUDIT: _read(AUDIT_LOG_USED, "read the audit trail"),
    A.MANAGE_USERS: Meaning(SECURITY_ALERT, "U", "update", "managed accounts", USER_ATTRIBUTES),
    A.ECHO: Meaning(NETWORK_ENTRY, "E", "", "asked whether Hilum answers"),
    "manage-access": Meaning(SECURITY_ALERT, "U", "update", "managed who may see whom", SECURITY_CONFIGURATION),
    "label-patient": Meaning(SECURITY_ALERT, "U", "update", "labelled the patient", SECURITY_CONFIGURATION),
    "grant-access": Meaning(SECURITY_ALERT, "C", "create", "granted access", SECURITY_CONFIGURATION),
    "revoke-access": Meaning(SECURITY_ALERT, "U", "update", "took granted access back", SECURITY_CONFIGURATION),
    "break-glass": Meaning(SECURITY_ALERT, "E", "", "broke the glass", EMERGENCY_OVERRIDE),
    "break-glass-reason": Meaning(SECURITY_ALERT, "E", "", "said why the glass was broken", EMERGENCY_OVERRIDE),
    "read-access-reviews": _read(AUDIT_LOG_USED, "saw which access waits for a review"),
    "review-access": Meaning(SECURITY_ALERT, "U", "update", "reviewed an access", SECURITY_CONFIGURATION),
    "connect": Meaning(SECURITY_ALERT, "E", "", "tried to connect", NODE_AUTHENTICATION),
    "prove-identity": Meaning(USER_AUTHENTICATION, "E", "", "proved their identity again", LOGIN),
    "end-session": Meaning(USER_AUTHENTICATION, "E", "", "ended a session", LOGOUT),
    "sign-in": Meaning(USER_AUTHENTICATION, "E", "", "signed in", LOGIN),
    "sign-out": Meaning(USER_AUTHENTICATION, "E", "", "signed out", LOGOUT),
    "change-password": Meaning(SECURITY_ALERT, "U", "update", "changed a password", USER_ATTRIBUTES),
    "associate": Meaning(USER_AUTHENTICATION, "E", "", "named a user on an association", LOGIN),
    "introspect-token": Meaning(USER_AUTHENTICATION, "E", "", "asked about a token"),
    "revoke-token": Meaning(SECURITY_ALERT, "E", "", "took a token back", USER_ATTRIBUTES),
    "rotate-key": Meaning(SECURITY_ALERT, "U", "update", "replaced a key", SECURITY_CONFIGURATION),
    "issue-token": Meaning(SECURITY_ALERT, "E", "", "was given a token", USER_ATTRIBUTES),
}
OTHER = Meaning(ACTIVITY, "E", "", "did something else")


def meaning_of(action: str) -> Meaning:
    """Return what a word of the trail means."""
    return MEANINGS.get(action, OTHER)


def crude_of(action: str, *, about_somebody: bool) -> Crude:
    """Return the action code of RFC 3881 5.1.2: to read of nobody in particular is to execute a query."""
    meaning = meaning_of(action)
    return "E" if meaning.crude == "R" and not about_somebody else meaning.crude


def interaction_of(action: str, *, about_somebody: bool) -> Interaction:
    """Return the RESTful interaction, empty where there is none."""
    meaning = meaning_of(action)
    return "search-type" if meaning.interaction == "read" and not about_somebody else meaning.interaction


def event_of(action: str, *, about_somebody: bool) -> DicomCode:
    """Return the DICOM audit event."""
    meaning = meaning_of(action)
    clinical = (PATIENT_RECORD, ORDER_RECORD, PROCEDURE_RECORD, INSTANCES_ACCESSED)
    return QUERY if meaning.crude == "R" and not about_somebody and meaning.event in clinical else meaning.event


def outcome_of(outcome: str, reason: str) -> Outcome:
    """Return the outcome indicator: a refusal by policy or password is serious, any other failure minor."""
    if outcome == "allowed":
        return Outcome.SUCCESS
    return Outcome.SERIOUS_FAILURE if reason in SERIOUS_REASONS else Outcome.MINOR_FAILURE
