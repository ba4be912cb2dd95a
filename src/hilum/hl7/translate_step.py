"""IPC, or OBR-18 to OBR-20 with ZDS, to the numbers of an external filler and to scheduled steps.

Sources: HL7 v2.5.1 ch. 4.5.6 (IPC); IHE RAD TF-2 4.4 (RAD-4: table of OBR and ZDS). An order is one requested procedure
here, so steps of several studies under one OBR are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hilum.core.codes import MODALITIES
from hilum.core.errors import InvalidInput, Unsupported
from hilum.core.order import Physician
from hilum.hl7.er7 import Segment, Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate import bounded, code_from_ce, code_of, is_coded, physician_from_ndl, plain, words_of_ce
from hilum.workflow.scheduling import StepRequest

# Where the verbs say a number is wrong (as of an ORM) and where it stands in an OMI.
PLACES_IN_IPC = {
    "OBR-18": "IPC-1",
    "OBR-19": "IPC-2",
    "ZDS-1": "IPC-3",
    "OBR-20": "IPC-4",
    "OBR-24": "IPC-5",
}

SHORT_STRING = 16  # SH, PS3.5 6.2


@dataclass(frozen=True, slots=True)
class ExternalNumbers:
    """What an external filler numbers; `accession_place` is where an accession would stand."""

    accession_number: str = ""
    study_instance_uid: str = ""
    requested_procedure_id: str = ""
    accession_place: str = ""


def numbers_from_ipc(incoming: Incoming, ipcs: Sequence[Segment]) -> ExternalNumbers:
    """IPC-1 accession, IPC-2 requested procedure ID, IPC-3 Study Instance UID, the same in all IPC of an order."""
    first = ipcs[0]
    values = [plain(first.get(field)) for field in (1, 2, 3)]
    for ipc in ipcs[1:]:
        for field, value in enumerate(values, 1):
            if plain(ipc.get(field)) not in ("", value):
                raise Unsupported(
                    "Several requested procedures under one OBR are not handled.", field=incoming.place(ipc, field)
                )
    return ExternalNumbers(values[0], values[2], values[1], incoming.place(first, 1))


def numbers_from_obr(incoming: Incoming, groups: Sequence[Segments]) -> ExternalNumbers:
    """OBR-18 accession, OBR-19 requested procedure ID, ZDS-1 Study Instance UID of an ORM."""
    obr = groups[0].segment("OBR")
    zds = next((found for group in groups if (found := group.segment("ZDS"))), None)
    uid = plain(zds.get(1)) if zds else ""
    if obr is None:
        return ExternalNumbers("", uid, "", "OBR")
    return ExternalNumbers(plain(obr.get(18)), uid, plain(obr.get(19)), incoming.place(obr, 18))


def steps_of(
    incoming: Incoming, groups: Sequence[Segments], *, external: bool, at: datetime | None
) -> tuple[StepRequest, ...]:
    """The steps that a sender asks for; none where it leaves them to Hilum."""
    steps: list[StepRequest] = []
    places: list[str] = []
    for group in groups:
        obr, ipcs = group.segment("OBR"), group.segments("IPC")
        for ipc in ipcs:
            steps.append(_step_from_ipc(incoming, ipc, obr, at))
            places.append(incoming.place(ipc, 4))
        # Groups that were put together are steps of one order, whoever numbers it.
        if not ipcs and obr is not None and (external or len(groups) > 1):
            steps.append(_step_from_obr(incoming, group, obr, at))
            places.append(incoming.place(obr, 20))
    seen: set[str] = set()
    for step, place in zip(steps, places, strict=True):
        if step.step_id and step.step_id in seen:
            raise InvalidInput("Two steps of the order have the same ID.", field=place)
        seen.add(step.step_id)
    return tuple(steps)


def _step_from_ipc(incoming: Incoming, ipc: Segment, obr: Segment | None, at: datetime | None) -> StepRequest:
    protocol = tuple(code for repetition in ipc.repetitions(6) if is_coded(code := code_from_ce(repetition)))
    own = incoming.profile.filler != "hilum"
    return StepRequest(
        step_id=_short(incoming, ipc, 4, "scheduled procedure step ID") if own else "",
        modality=_short(incoming, ipc, 5, "modality").upper(),
        station_name=_short(incoming, ipc, 7, "station name"),
        location=words_of_ce(ipc, 8),
        station_ae_title=_short(incoming, ipc, 9, "station AE title"),
        start_at=at,
        description=protocol[0].meaning if protocol else "",
        protocol=protocol,
        performing_physician=_performer(incoming, obr),
    )


def _step_from_obr(incoming: Incoming, group: Segments, obr: Segment, at: datetime | None) -> StepRequest:
    """A step of RAD-4's ORM: OBR-20 its ID, OBR-4.4 to 4.6 its protocol, OBR-24 its modality."""
    protocol = code_of(obr, 4, 4)
    own = _own_time(incoming, group, obr)
    return StepRequest(
        step_id=_short(incoming, obr, 20, "scheduled procedure step ID"),
        modality=_modality(obr),
        start_at=own or at,
        description=protocol.meaning,
        protocol=(protocol,) if is_coded(protocol) else (),
        performing_physician=_performer(incoming, obr),
    )


def _own_time(incoming: Incoming, group: Segments, obr: Segment) -> datetime | None:
    orc = group.segment("ORC")
    return incoming.time(obr, 36) or (incoming.time(orc, 7, 4) if orc else None) or incoming.time(obr, 27, 4)


def _modality(obr: Segment) -> str:
    section = plain(obr.get(24)).upper()
    return section if section in MODALITIES else ""


def _performer(incoming: Incoming, obr: Segment | None) -> Physician:
    """OBR-34, the technician who is to perform it: an NDL, as OBR-32 is."""
    return physician_from_ndl(incoming, obr, 34) if obr is not None and obr.field(34) else Physician()


def _short(incoming: Incoming, segment: Segment, field: int, what: str) -> str:
    return bounded(plain(segment.get(field)), SHORT_STRING, what, incoming.place(segment, field))
