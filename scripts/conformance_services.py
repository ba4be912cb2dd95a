"""What each service of the DICOM door negotiates and answers: chapter 4.2.1 of the conformance statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

from hilum.dicom.dimse.dispatch import Service
from hilum.dicom.dimse.extended import FIND_ABILITIES, RETRIEVE_ABILITIES, WORKLIST_ABILITIES
from hilum.dicom.dimse.query import LEVELS
from hilum.dicom.dimse.retrieve import OFFERED
from hilum.dicom.dimse.status import DIMSE_STATUS, SUCCESS, ServiceClass
from hilum.dicom.performed_step import REQUIRED_AT_CREATION
from hilum.dicom.upper_layer import negotiation
from hilum.dicom.upper_layer.pdu import AAssociateRJ
from hilum.dicom.upper_layer.syntaxes import NEWER, TRANSFER_SYNTAXES
from hilum.settings import Settings

# What each service means to a reader: its title, and in which role Hilum acts.
TITLES = {
    "echo": "Verification",
    "mpps": "Modality Performed Procedure Step",
    "storage": "Storage",
    "worklist": "Modality Worklist",
    "query": "Query",
    "get": "Retrieve by C-GET",
    "move": "Retrieve by C-MOVE",
    "commitment": "Storage Commitment, Push Model",
}
FIND_WORDS = ("relational queries", "combined matching of date and time", "fuzzy matching of names",
              "time zone adjustment", "enhanced multi-frame conversion")  # fmt: skip
RETRIEVE_WORDS = ("relational retrieval", "enhanced multi-frame conversion")
# What became of a request, in the order of how far it got; the codes are those of `core.errors`.
REFUSALS = {
    "invalid": "The request or its data set breaks the standard, or can't be read",
    "missing": "A required attribute is missing or empty",
    "too-large": "Larger than is taken, or more matches than are sent",
    "unsupported": "This SOP class or transfer syntax is not handled",
    "not-found": "There is no such thing, or the caller may not know of it",
    "conflict": "It contradicts what is known, or is not what was announced",
    "duplicate": "The SOP Instance UID is in use",
    "illegal-transition": "The state does not allow it",
    "rejected": "The instance was rejected before and stays so",
    "forbidden": "The caller may not do this",
    "deadline": "The time for it is over",
    "unavailable": "Database or archive do not answer at the moment",
    "out-of-space": "There is no room left",
    "defect": "An error inside Hilum",
}


def table(*header: str, rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def name_of(uid: str) -> str:
    """What a UID is called; itself where it has no name."""
    return NEWER.get(uid) or str(UID(uid).name)


def named(uid: str) -> str:
    """A UID with its name."""
    name = name_of(uid)
    return f"{name} `{uid}`" if name != uid else f"`{uid}`"


def classes_of(service: Service) -> list[str]:
    """The SOP classes of the standard that a service is negotiated for."""
    return sorted(uid for uid in _sop_classes() if service.offer.abstract_syntaxes(uid))


def _sop_classes() -> Iterable[str]:
    from pydicom._uid_dict import UID_dictionary

    return [uid for uid, entry in UID_dictionary.items() if entry[1] in ("SOP Class", "Meta SOP Class")]


def syntaxes_of(service: Service) -> list[str]:
    """The transfer syntaxes that a service accepts, each proposed alone; in the order of the standard."""
    return sorted(uid for uid in TRANSFER_SYNTAXES if service.offer.transfer_syntaxes((uid,)))


def acceptance(services: Sequence[Service], settings: Settings) -> str:
    lines = [
        "#### 4.2.1 Association acceptance policy",
        "",
        "Accepted is who calls the AE title of the settings and is a configured peer (with address",
        "and certificate where",
        "these are set); by setting also who calls from this machine. Otherwise (PS3.8 9.3.4):",
        "",
        table("refusal", "result", "source", "reason", rows=_rejections()),
    ]
    for number, service in enumerate(services, 1):
        lines += [
            f"#### 4.2.1.{number} {TITLES[service.name]} (SCP)",
            "",
            *_contexts(service),
            *SPECIFIC[service.name](),
            "",
        ]
        lines += [_statuses(service)] if service.name != "echo" else []
    return "\n".join(lines)


def _rejections() -> Iterable[tuple[object, ...]]:
    for name, value in vars(negotiation).items():
        if isinstance(value, AAssociateRJ) and name.isupper() and not name.startswith("_"):
            result = value.result.name.replace("_", " ").lower()
            source = value.source.name.replace("_", " ").lower()
            yield name.replace("_", " ").lower(), result, source, value.reason


def _contexts(service: Service) -> Iterable[str]:
    commands = ", ".join(command.name.removesuffix("_RQ").replace("_", "-") for command in service.handlers)
    uids, syntaxes = classes_of(service), syntaxes_of(service)
    shown = "all of annex 8.1" if len(uids) > 10 else "; ".join(map(named, uids))
    yield f"- Commands: {commands}"
    yield f"- Abstract syntaxes: {shown}"
    everything = len(syntaxes) > 10
    words = "all of annex 8.2, the first proposed one" if everything else "; ".join(map(named, syntaxes))
    yield f"- Transfer syntaxes: {words}"
    if not everything:
        order = service.offer.transfer_syntaxes(tuple(reversed(syntaxes)))
        yield f"- Of several proposed, {named(order or '')} is taken first"


def _nothing() -> Iterable[str]:
    return ()


def _storage() -> Iterable[str]:
    yield "- Level of conformance: 2 (full), no elements discarded, no element coerced in what is kept."
    yield (
        "- An instance with other bytes under a known SOP Instance UID is kept beside the first, "
        "listed, and never served as it."
    )
    yield (
        "- Refused is what can't be read, lacks a UID, is not what was announced, or was rejected; "
        "else nothing for its content, unless a `[[rule]]` of the configuration drops it (0124H)."
    )


def _worklist() -> Iterable[str]:
    yield "- Extended negotiation: " + _abilities(WORKLIST_ABILITIES, FIND_WORDS) + "."


def _query() -> Iterable[str]:
    yield "- Extended negotiation: " + _abilities(FIND_ABILITIES, FIND_WORDS) + "."
    yield (
        "- Matching: single value, universal, wildcard, range, list of UID, by case and accents "
        "folded, names by component."
    )
    yield "- Keys of each level that are matched in the index; all others are matched against what would be returned:"
    yield ""
    rows = [
        (name, ", ".join(level.required) or "–", ", ".join(sorted(level.matched))) for name, level in LEVELS.items()
    ]
    yield table("level", "unique keys needed above", "matched in the index", rows=rows)


def _retrieve() -> Iterable[str]:
    yield "- Extended negotiation: " + _abilities(RETRIEVE_ABILITIES, RETRIEVE_WORDS) + "."
    yield (
        "- Sent as stored where that is accepted, else made without loss in the first accepted of: "
        f"{'; '.join(map(named, OFFERED))}."
    )
    yield (
        "- Final statuses of the sub-operations: 0000H all sent; B000H some failed or with "
        "warnings; A702H none sent; FE00H cancelled."
    )


def _steps() -> Iterable[str]:
    yield "- Required at N-CREATE: " + ", ".join(map(tagged, REQUIRED_AT_CREATION)) + "."
    yield "- N-SET after COMPLETED or DISCONTINUED is refused with 0110H and Error ID A506H."


def _commitment() -> Iterable[str]:
    yield "- N-ACTION 1; the N-EVENT-REPORT comes on an association of ours to the peer's address, else on its own."
    yield "- Reports that Hilum asked for itself are taken as SCU by N-EVENT-REPORT."


SPECIFIC: dict[str, Callable[[], Iterable[str]]] = {
    "echo": _nothing,
    "mpps": _steps,
    "storage": _storage,
    "worklist": _worklist,
    "query": _query,
    "get": _retrieve,
    "move": _retrieve,
    "commitment": _commitment,
}


def _abilities(said: bytes, words: Sequence[str]) -> str:
    return ", ".join(f"{word} {'yes' if able else 'no'}" for able, word in zip(said, words, strict=True))


def tagged(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})" if tag is not None else keyword


def _statuses(service: Service) -> str:
    statuses = DIMSE_STATUS[service.service_class]
    rows = [(f"{SUCCESS:04X}H", "Success")]
    if service.service_class in (ServiceClass.QUERY, ServiceClass.RETRIEVE):
        rows += [("FF00H", "Pending"), ("FE00H", "Cancelled")]
    refused: dict[int, list[str]] = {}
    for code, words in REFUSALS.items():
        refused.setdefault(statuses[code], []).append(words)
    rows += [(f"{status:04X}H", "; ".join(words)) for status, words in sorted(refused.items())]
    return table("status", "meaning", rows=rows)
