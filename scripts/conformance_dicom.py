"""The DICOM Conformance Statement in the structure of PS3.2, chapter by chapter, each from the tables of the code."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.charset import python_encoding
from pydicom.datadict import keyword_for_tag

from conformance_services import TITLES, acceptance, classes_of, name_of, named, syntaxes_of, table, tagged
from hilum.archive.codecs import RLE_LOSSLESS
from hilum.archive.dicomdir import KEYS, MEDIA_STORAGE_DIRECTORY
from hilum.archive.encoders import ENCODINGS
from hilum.dicom.availability import INSTANCE_AVAILABILITY_NOTIFICATION
from hilum.dicom.dimse.dispatch import Service
from hilum.dicom.dimse.retrieve import OFFERED
from hilum.dicom.overlay import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    ISSUER_QUALIFIERS,
    ORIGINAL_ATTRIBUTES,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    REQUEST_ATTRIBUTES,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from hilum.dicom.upper_layer import negotiation
from hilum.dicom.upper_layer.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MAXIMUM_CONTEXTS
from hilum.dicom.upper_layer.syntaxes import STORAGE_SOP_CLASSES
from hilum.settings import DicomSettings, Settings

HEAD = """\
# DICOM Conformance Statement

<!-- Written by scripts/conformance_page.py (make docs) from the program's tables; a test fails when it is stale. -->

Hilum 0.1, in the structure of DICOM PS3.2. What is listed is what the program negotiates and answers: the tables are
its own. Of [DICOMweb](conformance-dicomweb.md) there is a statement of its own.
"""
COERCED = (PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, ISSUER_QUALIFIERS, PATIENT_BIRTH_DATE, PATIENT_SEX,
           ACCESSION_NUMBER, REQUEST_ATTRIBUTES, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID,
           ORIGINAL_ATTRIBUTES)  # fmt: skip


def dicom_page(services: Sequence[Service], settings: Settings) -> str:
    """The whole statement."""
    chapters = (
        overview,
        model,
        entities,
        acceptance,
        initiation,
        configuration,
        media,
        character_sets,
        security,
        annexes,
    )
    return "\n".join([HEAD, *(chapter(services, settings) for chapter in chapters)])


def overview(services: Sequence[Service], settings: Settings) -> str:
    rows: list[tuple[str, str, str]] = []
    for service in services:
        uids = classes_of(service)
        if service.name == "storage":
            rows.append((f"{len(uids)} Storage SOP Classes (annex 8.1), private and newer ones", "yes", "yes"))
        else:
            as_user = "yes" if service.name == "commitment" else "no"
            rows += [(named(uid), as_user, "yes") for uid in uids]
    rows.append((named(INSTANCE_AVAILABILITY_NOTIFICATION), "yes", "no"))
    lines = [
        "## 1 Conformance statement overview",
        "",
        "Hilum is an image archive, a worklist and a manager of performed procedure steps in one. Instances of every",
        "storage class are kept as received and sent as stored or transcoded without loss.",
        "",
        table("network service", "SCU", "SCP", rows=rows),
        table(
            "media storage application profile",
            "File-set Creator",
            "File-set Reader",
            rows=[("General purpose (PS3.10 File-set with DICOMDIR), on disk and in zip files", "yes", "yes")],
        ),
    ]
    return "\n".join(lines)


def model(services: Sequence[Service], settings: Settings) -> str:
    return """\
## 2 Table of contents, 3 Introduction

This statement is for those who connect another system. It says what is negotiated; that two systems work together is
proven by testing them together. The words are those of DICOM; AE is Application Entity.

## 4 Networking

### 4.1 Implementation model

One application entity does all of it: it listens for associations and asks for its own.

- *Modality → Hilum*: worklist (C-FIND), performed steps (N-CREATE, N-SET), instances (C-STORE), commitment (N-ACTION).
- *Workstation → Hilum*: query (C-FIND), retrieve (C-MOVE, C-GET), new instances (C-STORE).
- *Hilum → others*: sub-operations of C-MOVE, forwarding by rules (C-STORE), commitment asked for and reported
  (N-ACTION, N-EVENT-REPORT), availability (N-CREATE).

An instance is answered with success once it survives a power cut. Queries, retrieval and commitment wait for the index,
so that a sender finds what it was answered success for.
"""


def entities(services: Sequence[Service], settings: Settings) -> str:
    door = settings.dicom
    rows = [
        ("Application context", f"`{negotiation.APPLICATION_CONTEXT_NAME}`"),
        ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
        ("Maximum length received", f"{door.max_pdu} bytes (`max_pdu`)"),
        ("Associations at once", f"{door.max_associations} (`max_associations`)"),
        ("Associations at once of one peer", f"{door.max_associations_per_peer} (`max_associations_per_peer`)"),
        ("Presentation contexts of an association", str(MAXIMUM_CONTEXTS)),
        ("Asynchronous operations window", "one operation invoked, one performed; a wider one is answered 1,1"),
        ("SCP/SCU role selection", ", ".join(TITLES[s.name] for s in services if s.offer.requestor_may_be_scp)),
        ("User identity negotiation", "username, with passcode, JSON Web Token; by setting (`user_identity`)"),
    ]  # fmt: skip
    return "\n".join(["### 4.2 AE specification", "", table("policy", "value", rows=rows)])


def initiation(services: Sequence[Service], settings: Settings) -> str:
    sent = "; ".join(map(named, OFFERED))
    return f"""\
#### 4.2.2 Association initiation policy

Hilum calls configured peers and destinations only, under `dicom.ae_title` or the destination's `calling_ae_title`.

- *Storage (SCU)*, for C-MOVE and for forwarding: each class with the transfer syntaxes its instances are stored in, a
  context each, and {sent}.
  Instances go as stored where that is accepted. An attempt that fails for now
  is made again, with growing pauses; a refusal for good is a dead letter that a person sees.
- *Storage Commitment (SCU and SCP)*: N-ACTION to destinations with `commitment = true`; N-EVENT-REPORT to peers.
- *Instance Availability Notification (SCU)*: one N-CREATE a study.

### 4.3 Network interfaces

TCP over IPv4 and IPv6; TLS 1.2 and 1.3 by setting, with or without certificates of clients.
"""


def configuration(services: Sequence[Service], settings: Settings) -> str:
    rows = [
        (f"`{name}`", f"`{info.default}`" if info.default not in ("", None, ()) else "–", info.description or "")
        for name, info in DicomSettings.model_fields.items()
        if name != "peer"
    ]
    return "\n".join(
        [
            "### 4.4 Configuration",
            "",
            "Peers are `[[dicom.peer]]` of [the configuration](configuration.md), which has all",
            "settings. Those of `[dicom]`:",
            "",
            table("setting", "default", "meaning", rows=rows),
        ]
    )


def media(services: Sequence[Service], settings: Settings) -> str:
    rows = [(kind, ", ".join(tagged(keyword) for keyword in keys)) for kind, keys in KEYS.items() if keys]
    return "\n".join(
        [
            "## 5 Media interchange",
            "",
            "Written by `hilum export` and as `application/zip`: a File-set with",
            f"{named(MEDIA_STORAGE_DIRECTORY)}, file IDs of",
            "five components with at most eight characters, instances in the transfer syntaxes they",
            "are stored in. Read by",
            "`hilum import`: folders, zip files, and what a DICOMDIR names. Private and optional",
            "keys are not written. Keys of",
            "the directory records:",
            "",
            table("record", "keys", rows=rows),
        ]
    )


def character_sets(services: Sequence[Service], settings: Settings) -> str:
    terms = ", ".join(f"`{term}`" for term in sorted(python_encoding) if term.startswith(("ISO", "GB")))
    return f"""\
## 6 Support of character sets

Read: {terms}, and combinations by code extension. Answered: the set configured for a peer (`ISO_IR 192` unless another
is set), else the set of the request where it holds all letters, else `ISO_IR 192`. What is stored keeps its own.
"""


def security(services: Sequence[Service], settings: Settings) -> str:
    return """\
## 7 Security

- Secure transport: BCP 195 TLS profile; mutual authentication by setting, a peer bound to its certificate.
- User identity (PS3.7 D.3.3.7), checked or required by setting; users are under the [policy](security-policy.md).
- Audit trail messages (PS3.15 A.5) by syslog over TLS; who opened what is kept and sealed. See [security](security.md).
"""


def annexes(services: Sequence[Service], settings: Settings) -> str:
    made = {uid: "yes, without loss" if each.lossless else "yes, with loss" for uid, each in ENCODINGS.items()}
    made |= dict.fromkeys(OFFERED[:2], "yes, without loss")
    made.setdefault(RLE_LOSSLESS, "yes, without loss")
    storage = next(service for service in services if service.name == "storage")
    kept = sorted(STORAGE_SOP_CLASSES)
    return "\n".join(
        [
            "## 8 Annexes",
            "",
            "### 8.1 Storage SOP Classes",
            "",
            "Besides these, classes outside of DICOM's root and those that are newer than this list",
            "are taken and kept as well.",
            "",
            table("SOP class", "UID", rows=[(name_of(uid), f"`{uid}`") for uid in kept]),
            "### 8.2 Transfer syntaxes",
            "",
            "All are stored as they come. *Made* tells which images can be sent in beside the one they are stored in.",
            "",
            table(
                "transfer syntax", "UID", "made",
                rows=[(name_of(uid), f"`{uid}`", made.get(uid, "no")) for uid in syntaxes_of(storage)],
            ),
            "### 8.3 Coercion",
            "",
            "What is kept has the bytes that came. On the way out these attributes follow what is",
            "known of patient and order;",
            "by setting (`archive.coerce_on_retrieve`) nothing does:",
            "",
            ", ".join(tagged(keyword_for_tag(int(key, 16))) for key in COERCED) + ".",
            "",
            "### 8.4 Private attributes and coded terminology",
            "",
            "No private attribute is written. Private attributes of others are kept. Titles of",
            "rejection notes: 113001, 113037,",
            "113038, 113039 (DCM).",
            "",
        ]
    )  # fmt: skip


CHAPTERS = (overview, model, entities, acceptance, initiation, configuration, media, character_sets, security, annexes)
