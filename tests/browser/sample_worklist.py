"""Invented people and a worklist with each state that a row can have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hilum.web.models import (
    Frame,
    Identity,
    Images,
    Patient,
    ReportMark,
    StatusCount,
    WorklistFilter,
    WorklistPage,
    WorklistRow,
)

NOW = datetime(2026, 3, 12, 13, 47, 20, tzinfo=UTC)
FRAME = Frame("token", "Northfield General Hospital", "Dr. I. Okafor", "Radiologist", "worklist", "auto", 4, True)
HREF = "/orders/ord-7"


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


NADIA = Patient("HOLLOWAY, Nadia Ruth", "40021873", "NFGH", date(1958, 7, 2), "F")
PEOPLE = (
    NADIA,
    Patient("ABERNATHY-OYELARAN, Christopher James", "40017755", "NFGH", date(1971, 11, 23), "M"),
    Patient("MÜLLER, Jürgen", "39984410", "NFGH", date(1946, 1, 9), "M"),
    Patient("SATO, Yuki", "40030012", "NFGH", date(2025, 8, 30), "F"),
    Patient("HOLLOWAY, Nadia", "88120", "CLINIC", date(1983, 2, 17), "F"),
    Patient("UNKNOWN, Male 12", "ER-20260312-3", "NFGH", None, ""),
    Patient("DE LA CRUZ, Esteban", "40008261", "NFGH", date(1999, 5, 14), "M"),
    Patient("PRYCE, Gwendolyn", "39771020", "NFGH", date(1939, 12, 3), "F"),
)
UNVERIFIED = Identity("unverified", "Birth date in the images (1958-02-07) differs from the order (1958-07-02).")


def row(
    number: int,
    priority: str,
    person: int,
    procedure: str,
    modality: str,
    minutes: float,
    images: Images,
    report: ReportMark = ReportMark("none"),
    **more: object,
) -> WorklistRow:
    known = {"identity": Identity(), "station": f"{modality}01", "ordered_by": "Dr. P. Lindqvist"} | more
    return WorklistRow(
        f"r{number}",
        f"/orders/ord-{number}",
        priority,
        PEOPLE[person],
        waiting_since=ago(minutes=minutes),
        procedure=procedure,
        modality=modality,
        accession_number=f"NF26-{10440 + number}",
        images=images,
        report=report,
        **known,
    )


def worklist_rows() -> tuple[WorklistRow, ...]:
    done = Images("complete", 312)
    return (
        row(
            1,
            "stat",
            5,
            "CT head without contrast",
            "CT",
            6,
            Images("arriving", 118, 240),
            ordered_by="ED, Dr. M. Vance",
        ),
        row(
            2,
            "stat",
            0,
            "CT pulmonary angiogram",
            "CT",
            14,
            done,
            ReportMark("draft", "Dr. S. Baptiste", True),
            identity=UNVERIFIED,
        ),
        row(
            3,
            "urgent",
            1,
            "CT abdomen and pelvis with contrast, portal venous and delayed phase",
            "CT",
            52,
            Images("complete", 684),
        ),
        row(
            4,
            "urgent",
            7,
            "Chest radiograph, portable, one view",
            "CR",
            47,
            Images("complete", 1),
            flag="AI: pneumothorax?",
        ),
        row(7, "routine", 0, "CT chest with contrast", "CT", 187, done, assigned_to="Dr. I. Okafor"),
        row(
            8,
            "routine",
            2,
            "MR lumbar spine without contrast",
            "MR",
            320,
            Images("late", 178, 172),
            ReportMark("preliminary", "Dr. A. Feng"),
        ),
        row(9, "routine", 4, "Mammography, screening, bilateral", "MG", 1490, Images("complete", 4)),
        row(10, "routine", 6, "Knee radiograph, left, three views", "DX", 61, Images("complete", 3)),
        row(11, "routine", 3, "US hips, infant", "US", 24, Images("arriving", 17), ordered_by="Dr. O. Castellanos"),
        row(
            12,
            "routine",
            7,
            "CT chest, low dose, follow-up of nodule",
            "CT",
            2960,
            Images("none"),
            flag="No images yet",
        ),
        row(13, "routine", 6, "MR knee, left, without contrast", "MR", 95, Images("complete", 140)),
        row(
            14,
            "routine",
            1,
            "Abdominal radiograph, supine",
            "DX",
            33,
            Images("complete", 2),
            ReportMark("draft", "Dr. I. Okafor"),
        ),
    )


def worklist_page(**changes: object) -> WorklistPage:
    counts = (
        ("", "All", 46),
        ("unread", "Unread", 31),
        ("draft", "Draft", 6),
        ("preliminary", "Preliminary", 5),
        ("unverified", "Unverified", 2),
        ("mine", "Mine", 3),
    )
    page = WorklistPage(
        FRAME,
        WorklistFilter(),
        tuple(StatusCount(*count) for count in counts),
        ("CR", "CT", "DX", "MG", "MR", "US"),
        worklist_rows(),
        46,
        2,
        NOW,
        "v1",
        next_cursor="abc",
    )
    return replace(page, **changes)
