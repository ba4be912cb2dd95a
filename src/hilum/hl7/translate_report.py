"""OBR, OBX of an ORU^R01 from dictation to RelayReport (HL7 v2.5.1 ch. 7.3, 7.4; IHE RAD TF-2 4.28, RAD-28).

The text is that of the OBX of type TX, FT or ST; repetitions and `.br` are line breaks. What other types carry (study
UIDs, links, documents) is no text of the report and stays in the journal. A section is told by OBX-3, or, in an OBX
that does not say, by lines that are headings.
"""

from __future__ import annotations

import re

from hilum.core.errors import InvalidInput, MissingField, Unsupported
from hilum.core.report import ReportStatus
from hilum.hl7.er7 import Segment, Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate import entity_from_ei, physician_from_ndl, plain
from hilum.hl7.translate_patient import require_segment, required_identifiers
from hilum.workflow.ordering import OrderReference
from hilum.workflow.reporting import RelayReport

# OBR-25, HL7 table 0123. X (order cancelled), S, I, O tell of an examination and not of a report: they are refused.
REPORT_STATUS = {
    "P": ReportStatus.PRELIMINARY,
    "R": ReportStatus.PRELIMINARY,  # results stored, not yet verified
    "A": ReportStatus.PRELIMINARY,  # some, but not all, results available
    "F": ReportStatus.FINAL,
    "C": ReportStatus.CORRECTED,
}
# OBX-11, HL7 table 0085: posted as wrong, deleted. A report of which every text is so is taken back.
TAKEN_BACK = frozenset({"W", "D"})

TEXT_TYPES = frozenset({"TX", "FT", "ST", ""})
FINDINGS, IMPRESSION = "findings", "impression"
# OBX-3.1 (LOINC) and its suffix (v2.5.1 ch. 7.2.4: GDT general description, IMP diagnostic impression).
SECTIONS = {
    "59776-5": FINDINGS, "18782-3": FINDINGS, "29545-1": FINDINGS, "GDT": FINDINGS,
    "19005-8": IMPRESSION, "51848-0": IMPRESSION, "18783-1": IMPRESSION, "IMP": IMPRESSION,
}  # fmt: skip
# Words of OBX-3.2, or of a line that is a heading.
HEADINGS = {
    "FINDINGS": FINDINGS, "FINDING": FINDINGS, "OBSERVATIONS": FINDINGS,
    "IMPRESSION": IMPRESSION, "IMPRESSIONS": IMPRESSION, "CONCLUSION": IMPRESSION, "CONCLUSIONS": IMPRESSION,
}  # fmt: skip

# A heading stands alone on its line, or before a colon: "IMPRESSION:" "Findings: clear".
_HEADING = re.compile(r"\s*([A-Za-z]{7,12})[ \t]*(?::[ \t]*(.*)|)", re.DOTALL)


def report_from_group(incoming: Incoming, group: Segments) -> RelayReport:
    """Read one OBR with its OBX: the version of a report that its interpreter (OBR-32) signed elsewhere."""
    pid = require_segment(incoming.message, "PID")
    obr = require_segment(group, "OBR")
    texts = [obx for obx in group.segments("OBX") if plain(obx.get(2)).upper() in TEXT_TYPES and obx.field(5)]
    findings, impression = sections_of(texts)
    time = incoming.time(obr, 22) or next((at for obx in texts if (at := incoming.time(obx, 14))), None)
    return RelayReport(
        order=_reference(incoming, group, obr, pid),
        status=_status(incoming, obr, texts),
        findings=findings,
        impression=impression,
        interpreter=physician_from_ndl(incoming, obr, 32),
        signed_at=incoming.past(time),
    )


def _reference(incoming: Incoming, group: Segments, obr: Segment, pid: Segment) -> OrderReference:
    """The order by OBR-2, OBR-3 (else ORC-2, ORC-3) and its accession number, OBR-18."""
    orc = group.segment("ORC")
    numbers = []
    for field in (2, 3):
        detail, common = entity_from_ei(incoming, obr, field), entity_from_ei(incoming, orc, field)
        if detail[0] and common[0] and detail[0] != common[0]:
            raise InvalidInput(f"ORC-{field} and OBR-{field} differ.", field=incoming.place(obr, field))
        numbers.append(detail if detail[0] else common)
    accession = plain(obr.get(18))
    if not (numbers[0][0] or numbers[1][0] or accession):
        raise MissingField("The report names no order.", field=incoming.place(obr, 3))
    return OrderReference(
        placer_order_number=numbers[0][0],
        placer_authority=numbers[0][1] or incoming.profile.authority,
        filler_order_number=numbers[1][0],
        accession_number=accession,
        source=incoming.source,
        patient_identifiers=required_identifiers(incoming, pid),
    )


def _status(incoming: Incoming, obr: Segment, texts: list[Segment]) -> ReportStatus:
    said = plain(obr.get(25)).upper()
    of_texts = {plain(obx.get(11)).upper() for obx in texts}
    if not said and len(of_texts) == 1:
        said = of_texts.pop()
    if not said:
        raise MissingField("The report has no result status.", field=incoming.place(obr, 25))
    if said not in REPORT_STATUS:
        raise Unsupported("This result status is not one of a report.", field=incoming.place(obr, 25))
    if said == "C" and of_texts and of_texts <= TAKEN_BACK:
        return ReportStatus.RETRACTED
    return REPORT_STATUS[said]


def sections_of(texts: list[Segment]) -> tuple[str, str]:
    """Findings and impression of a report, from its OBX in their order."""
    parts: dict[str, list[str]] = {FINDINGS: [], IMPRESSION: []}
    section = FINDINGS
    for obx in texts:
        named = _section_of(obx)
        section = named or section
        for repetition in obx.repetitions(5):
            for line in repetition.text.split("\n"):
                heading = _HEADING.fullmatch(line)
                known = HEADINGS.get(heading[1].upper()) if heading else None
                if heading is None or known is None or (named == IMPRESSION and known == FINDINGS):
                    parts[section].append(line.rstrip())
                    continue
                section = known
                parts[section] += [heading[2]] if heading[2] else []
        if named:
            section = FINDINGS
    findings, impression = _text(parts[FINDINGS]), _text(parts[IMPRESSION])
    if not findings and not impression:
        # A report of one word that looks like a heading is still a report.
        findings = _text([repetition.text for obx in texts for repetition in obx.repetitions(5)])
    return findings, impression


def _section_of(obx: Segment) -> str:
    """The section that OBX-3 names, in code, suffix or words; empty where it does not say."""
    for code in (obx.get(3, 1, 2), obx.get(3), obx.get(3, 4)):
        if found := SECTIONS.get(plain(code).upper()):
            return found
    words = re.findall(r"[A-Z]+", f"{obx.get(3, 2)} {obx.get(3)}".upper())
    return next((HEADINGS[word] for word in words if word in HEADINGS), "")


def _text(parts: list[str]) -> str:
    return "\n".join(parts).replace("\x00", "").strip()
