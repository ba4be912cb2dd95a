"""Synthetic models of the pages that move images and undo merges."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from sample_worklist import FRAME, NADIA, PEOPLE, ago

from hilum.web.models import Candidate, Patient
from hilum.web.models.reassign import (
    Compared,
    ConfirmPage,
    MovableSeries,
    MovedStudy,
    OtherStudy,
    PastMerge,
    PastMove,
    PersonFound,
    ReassignPage,
    RecordRow,
    RecordsPage,
)

OTHER = PEOPLE[1]
STUDY = MovedStudy("s1", "2.25.7001", "CT · Chest routine · 20260301 · 120 images", NADIA, NADIA, "RAD20417", True)
SERIES = (MovableSeries("2.25.71", "1 CT Scout", 2, False), MovableSeries("2.25.72", "2 CT Lung 1.0", 118, True))


def reassign_page() -> ReassignPage:
    candidate = Candidate(
        "o2", "CT chest (CT)", OTHER, "RAD20418", ago(hours=3), ("Modality",), ("Patient ID", "Family name")
    )
    past = (
        PastMove("r2", "Moved as a whole", "The label on the film.", "iokafor", ago(minutes=12), "", True),
        PastMove("r1", "Split off in part", "Two persons.", "mlind", ago(days=2), "Taken back by mlind: not so", False),
    )
    return ReassignPage(
        replace(FRAME, active="exceptions"),
        STUDY,
        SERIES,
        ("2.25.72",),
        "okafor",
        (candidate,),
        (PersonFound("p2", OTHER),),
        (OtherStudy("s2", "CR · Chest · 20250210 · 2 images"),),
        past,
    )


def confirm_page() -> ConfirmPage:
    rows = (
        Compared("Name", NADIA.name, NADIA.name, OTHER.name),
        Compared("Patient ID", NADIA.identifier, NADIA.identifier, OTHER.identifier),
        Compared("Sex", "F", "F", "F"),
        Compared("Accession", "", "RAD20417", "RAD20418"),
    )
    frame, heading = replace(FRAME, active="exceptions"), "Split a part off"
    return ConfirmPage(frame, STUDY, heading, "order:o2", OTHER.name, SERIES[1:], False, rows, "{}")


def records_page() -> RecordsPage:
    twin = Patient("Haddad, Nadya", "90017", "CLINIC", date(1985, 4, 12), "F")
    rows = (RecordRow("p1", NADIA, "", None), RecordRow("p3", twin, NADIA.identifier, ago(days=3)))
    past = (PastMerge("A merge was undone", "Twins.", "chief", ago(days=9)),)
    return RecordsPage(FRAME, NADIA, "p1", rows, past, True)


PAGES: dict[str, tuple[str, object]] = {
    "reassign": ("reassign.html", reassign_page()),
    "reassign-confirm": ("reassign_confirm.html", confirm_page()),
    "records": ("records.html", records_page()),
}
