"""Who acts: a named person, a role's service token, a configured peer or Hilum itself.

Every verb takes an `Actor`; there is no default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Purposes of use (HL7 v3 PurposeOfUse): why someone asks, as the audit trail keeps it.
TREATMENT = "TREAT"
BREAK_THE_GLASS = "BTG"


class Role(StrEnum):
    """What someone is in the department; what each may do stands in `security/policy`."""

    ADMIN = "admin"
    RADIOLOGIST = "radiologist"
    TECHNOLOGIST = "technologist"
    SCHEDULER = "scheduler"
    REFERRING_PHYSICIAN = "referring-physician"
    AUDITOR = "auditor"
    SERVICE = "service"
    AI_AGENT = "ai-agent"


class Door(StrEnum):
    """Where someone came in."""

    HL7 = "hl7"
    DIMSE = "dimse"
    DICOMWEB = "dicomweb"
    FHIR = "fhir"
    CDS = "cds"
    PAGE = "page"
    # A connection that ended before it asked for any of the doors over HTTP.
    HTTP = "http"
    CLI = "cli"
    INTERNAL = "internal"


class ActorKind(StrEnum):
    """Only a person can sign, correct, retract, acknowledge or break the glass."""

    PERSON = "person"
    SERVICE = "service"
    PEER = "peer"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier of a person or a thing: `value` is unique within its `authority` (HL7 CX.4, DICOM issuer)."""

    value: str
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Actor:
    """Someone who acts through a door.

    `name` is the account, AE title or HL7 sender; `identifiers` tie a person to XCN.1 of messages; `address` is
    the peer's IP address, for the audit trail; `facilities` are those whose patients are seen, empty for all;
    `entrusted` are actions of the policy that the configuration gives to this peer beyond its role.
    """

    name: str
    role: Role
    kind: ActorKind
    door: Door
    identifiers: tuple[Identifier, ...] = ()
    address: str = ""
    display: str = ""
    purpose: str = TREATMENT
    facilities: tuple[str, ...] = ()
    entrusted: frozenset[str] = frozenset()

    @property
    def is_person(self) -> bool:
        """Tell whether a named person acts."""
        return self.kind is ActorKind.PERSON


def system_actor(part: str) -> Actor:
    """Return the actor of Hilum's own background work, named by the part that acts."""
    return Actor(f"hilum-{part}", Role.SERVICE, ActorKind.SYSTEM, Door.INTERNAL)
