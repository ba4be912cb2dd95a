"""Every page by name: its template and a synthetic model."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import sample_reassign
from sample_orders import (
    chain_until,
    correction_page,
    draft_conflict,
    early_images_page,
    editor_page,
    order_page,
    unverified_order_page,
)
from sample_worklist import FRAME, NADIA, PEOPLE, UNVERIFIED, ago, worklist_page

from hilum.web.models import (
    BreakGlassPage,
    Candidate,
    CandidateList,
    ErrorPage,
    ExceptionRow,
    ExceptionsPage,
    Frame,
    LoginPage,
    Notice,
    OpenAccess,
    PasswordPage,
    ReportPanel,
    ReviewRow,
    ReviewsPage,
    StatusCount,
    WorklistFilter,
)


def candidates() -> tuple[Candidate, ...]:
    return (
        Candidate(
            "ord-7",
            "CT chest with contrast",
            NADIA,
            "NF26-10447",
            ago(minutes=244),
            ("Accession", "Name", "Patient ID"),
            ("Birth date",),
        ),
        Candidate(
            "ord-9",
            "Mammography, screening, bilateral",
            PEOPLE[4],
            "NF26-10449",
            ago(minutes=1490),
            ("Family name",),
            ("Patient ID", "Birth date"),
        ),
    )


def exceptions_page(**changes: object) -> ExceptionsPage:
    as_sent = replace(NADIA, birth_date=date(1958, 2, 7))
    rows = (
        ExceptionRow(
            "x1",
            "conflict",
            "CT pulmonary angiogram, 312 images from CT01",
            UNVERIFIED.reason,
            ago(minutes=14),
            as_sent,
            (("Accession", "NF26-10447"), ("Study Instance UID", "2.25.7001"), ("Came by", "DICOM C-STORE from CT01")),
            candidates(),
            "/orders/ord-7",
            may_link=True,
            may_dismiss=True,
        ),
        ExceptionRow(
            "x2",
            "unmatched",
            "US, 17 images from US02",
            "No order has this patient and accession number.",
            ago(minutes=52),
            PEOPLE[3],
            (("Accession", "none"), ("Study Instance UID", "2.25.88310"), ("Came by", "STOW-RS from US02")),
            (),
            "/studies/2.25.88310",
            may_link=True,
            may_dismiss=True,
        ),
        ExceptionRow(
            "x3",
            "dead-letter",
            "Report NF26-10398, version 1, to EPIC",
            "EPIC answered AR: table value not found, PV1-3. Three later messages of this patient wait behind it.",
            ago(hours=3),
            None,
            (("Message", "ORU^R01 HLM000012 of 10:44"), ("Tries", "1, permanent")),
            href="",
            may_replay=True,
            may_dismiss=True,
        ),
        ExceptionRow(
            "x4",
            "recovery",
            "Order refused from EPIC",
            "The accession number has 19 characters; 16 fit. The sender got AE.",
            ago(days=1.2),
            None,
            (("Message", "ORM^O01 00912847"),),
            may_dismiss=True,
        ),
        ExceptionRow(
            "x5",
            "conflict",
            "Rejection note that did not act: CT chest, 4 images from CT01",
            "Its sender may not reject, or it names images of another study or patient. Its images are still shown.",
            ago(days=1.3),
            NADIA,
            (("Study Instance UID", "2.25.7003"),),
            href="/studies/2.25.7003",
            may_reject=True,
        ),
        ExceptionRow(
            "x6",
            "conflict",
            "Wrong worklist entry chosen: CT chest, 4 images from CT01",
            "The modality says so. Its images are withheld.",
            ago(days=1.4),
            NADIA,
            (("Study Instance UID", "2.25.7004"),),
            may_dismiss=True,
            may_release=True,
        ),
    )
    kinds = (
        ("", "All", 6),
        ("conflict", "Conflicts", 3),
        ("unmatched", "Unmatched", 1),
        ("dead-letter", "Not delivered", 1),
        ("recovery", "Recovery", 1),
    )
    page = ExceptionsPage(
        replace(FRAME, active="exceptions"), "", tuple(StatusCount(*kind) for kind in kinds), rows, "v1"
    )
    return replace(page, **changes)


OUTSIDE = Frame("token", "Northfield General Hospital")

PAGES: dict[str, tuple[str, object]] = {
    "login": ("login.html", LoginPage(OUTSIDE)),
    "login-refused": ("login.html", LoginPage(OUTSIDE, "iokafor", refused=True)),
    "password": ("password.html", PasswordPage(OUTSIDE, "iokafor", True, problem="The two new passwords differ.")),
    "worklist": ("worklist.html", worklist_page()),
    "worklist-empty": (
        "worklist.html",
        worklist_page(rows=(), total=0, stat_total=0, filter=WorklistFilter("zzz"), next_cursor=""),
    ),
    "order": ("order.html", order_page()),
    "order-unverified": ("order.html", unverified_order_page()),
    "order-beside": ("order.html", early_images_page()),
    "order-no-images": (
        "order.html",
        order_page(
            viewer=None,
            chain=chain_until(4),
            priors=(),
            report=ReportPanel("", "none"),
            frame=replace(FRAME, active="", notice=Notice("Linked to this order.", "good")),
        ),
    ),
    "editor": ("editor.html", editor_page()),
    "editor-correction": ("editor.html", correction_page()),
    "exceptions": ("exceptions.html", exceptions_page()),
    **sample_reassign.PAGES,
    "break-glass": (
        "break_glass.html",
        BreakGlassPage(
            replace(FRAME, active="access", may_break_glass=True),
            4,
            (OpenAccess("4471", "NORTH", ago(minutes=-200), "/?patient=p1"),),
            "Say why, in a few words.",
            "4471",
        ),
    ),
    "access-reviews": (
        "access_reviews.html",
        ReviewsPage(
            replace(FRAME, active="reviews", may_see_reviews=True, open_reviews=1),
            (
                ReviewRow(
                    "g2",
                    "iokafor",
                    ago(minutes=30),
                    ago(minutes=-210),
                    "4471",
                    "NORTH",
                    "Unconscious in the emergency room.",
                    None,
                    "",
                    "",
                    True,
                ),
                ReviewRow(
                    "g1",
                    "mlind",
                    ago(minutes=300),
                    ago(minutes=60),
                    "",
                    "",
                    "Asked by the ward by telephone.",
                    ago(minutes=100),
                    "audit",
                    "The ward had misread the number.",
                    False,
                ),
            ),
            True,
        ),
    ),
    "order-emergency": ("order.html", order_page(patient=replace(NADIA, emergency_until=ago(minutes=-180)))),
    "error": (
        "error.html",
        ErrorPage(
            replace(FRAME, active=""), 404, "Not here", "There is no such order, or you may not see it.", "01JP-7F3K-22"
        ),
    ),
}
FRAGMENTS: dict[str, tuple[str, object]] = {
    "candidates": ("candidates.html", CandidateList("x2", "hollo", candidates())),
    "draft_conflict": ("draft_conflict.html", draft_conflict()),
}
