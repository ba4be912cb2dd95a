"""Orders in several states of their chain, with images, reports, priors and drafts."""

from __future__ import annotations

from dataclasses import replace

from sample_worklist import FRAME, HREF, NADIA, UNVERIFIED, ago

from hilum.web.models import (
    Chain,
    ChainLink,
    Delivery,
    Draft,
    DraftConflict,
    Edges,
    EditorPage,
    Identity,
    OrderHead,
    OrderPage,
    Prior,
    ReportPanel,
    ReportVersion,
    Section,
    ViewerInstance,
    ViewerModel,
    ViewerSeries,
    Window,
)

LINKS = (
    (1, "Registration", 250.5, "HL7 ADT^A04 · EPIC", "Patient registered"),
    (2, "Prior check", 244.2, "CDS Hooks · EPIC", "1 relevant prior"),
    (3, "Order", 243.9, "HL7 ORM^O01 · EPIC", "Order NW taken"),
    (4, "Schedule", 243.9, "Hilum", "CT01 at 13:10"),
    (5, "Worklist", 212.4, "DICOM MWL · CT01", "1 step returned"),
    (6, "Exam", 205.2, "DICOM MPPS · CT01", "Completed"),
    (7, "Images", 187.1, "DICOM C-STORE · CT01", "312 instances"),
    (8, "Reading", 22.0, "Hilum · Dr. I. Okafor", "Opened"),
    (9, "Report", 2.6, "Hilum · Dr. I. Okafor", "Final signed"),
    (10, "Result to EHR", 2.58, "HL7 ORU^R01 · EPIC", "Accepted"),
)


def chain_until(last: int, missing: dict[int, str] | None = None) -> Chain:
    missing = missing or {}
    links = []
    for number, name, minutes, via, what in LINKS:
        if number in missing:
            links.append(ChainLink(number, name, "missing", missing=missing[number]))
        elif number > last:
            links.append(ChainLink(number, name, "pending"))
        else:
            links.append(ChainLink(number, name, "done", ago(minutes=minutes), via, what))
    return Chain(tuple(links), "v1")


CT_PRESETS = (
    Window("Soft tissue", 40, 400),
    Window("Lung", -600, 1500),
    Window("Bone", 500, 2000),
    Window("Brain", 40, 80),
    Window("Angio", 300, 600),
    Window("Liver", 60, 160),
)


def series(number: int, modality: str, description: str, count: int, size: tuple[int, int], study: str) -> ViewerSeries:
    root = f"/dicom-web/studies/{study}/series/{study}.{number}"
    ct = modality == "CT"
    window = Window("", 40, 400) if ct else Window("", 2048, 3600)
    instances = tuple(ViewerInstance(f"{root}/instances/{study}.{number}.{i}", i, *size) for i in range(1, count + 1))
    presets = CT_PRESETS if ct else (Window("Wide", 2048, 4096), Window("Contrast", 2048, 1800))
    return ViewerSeries(
        f"{study}.{number}",
        number,
        modality,
        description,
        f"{root}/instances/{study}.{number}.{count // 2 + 1}/thumbnail",
        instances,
        window,
        presets,
        Edges("R", "L", "A", "P") if ct else Edges("R", "L", "H", "F"),
    )


def viewer(watermark: str = "") -> ViewerModel:
    study = "2.25.7001"
    many = (
        series(1, "CT", "Scout", 1, (512, 512), study),
        series(2, "CT", "Chest 1.0 mm soft", 120, (512, 512), study),
        series(3, "CT", "Chest 3.0 mm lung", 40, (512, 512), study),
        series(4, "CR", "Chest AP portable", 1, (1200, 1000), study),
    )
    many = many[1:3] + many[:1] + many[3:]
    return ViewerModel(
        study, "This study", NADIA, "CT chest with contrast", ago(minutes=205), "NF26-10447", many, watermark
    )


def prior_viewer() -> ViewerModel:
    study = "2.25.6001"
    many = (series(2, "CT", "Chest 1.0 mm", 90, (512, 512), study),)
    return ViewerModel(study, "Prior", NADIA, "CT chest with contrast", ago(days=430), "NF25-00811", many)


FINDINGS = (
    "Lungs: 7 mm solid nodule in the right upper lobe (series 2, image 41), unchanged. No new nodule. "
    "No consolidation.\n\n"
    "Pleura: no effusion.\n\nMediastinum: no enlarged lymph node. Heart size normal."
)
FIRST = ReportVersion(
    1,
    "final",
    "Dr. I. Okafor",
    ago(minutes=122),
    (
        Section("findings", "Findings", FINDINGS),
        Section("impression", "Impression", "Stable 7 mm nodule, right upper lobe. Follow-up CT in 12 months."),
    ),
    deliveries=(Delivery("EPIC", "accepted", ago(minutes=121.9)),),
)
SECOND = ReportVersion(
    2,
    "corrected",
    "Dr. I. Okafor",
    ago(minutes=2.6),
    (
        Section("findings", "Findings", FINDINGS.replace("right upper lobe", "left upper lobe")),
        Section("impression", "Impression", "Stable 7 mm nodule, left upper lobe. Follow-up CT in 12 months."),
    ),
    "Side of the nodule corrected: left, not right.",
    (Delivery("EPIC", "accepted", ago(minutes=2.58)), Delivery("Referring practice", "waiting")),
)
PRIORS = (
    Prior(
        "2.25.6001",
        ago(days=430),
        "CT",
        "CT chest with contrast",
        "relevant",
        "final",
        298,
        "/studies/2.25.6001",
        "same region and modality",
    ),
    Prior(
        "2.25.6002",
        ago(days=61),
        "CR",
        "Chest radiograph, two views",
        "relevant",
        "final",
        2,
        "/studies/2.25.6002",
        "same region",
    ),
    Prior("2.25.6003", ago(days=2650), "MR", "MR lumbar spine", "other", "addended", 164, "/studies/2.25.6003"),
)
ORDER = OrderHead(
    "ord-7",
    "CT chest with contrast",
    "CT",
    "routine",
    "completed",
    "NF26-10447",
    "2.25.299384715529938471552993847155",
    "EPIC-5540021",
    "HLM-10447",
    "Dr. P. Lindqvist",
    "Nodule seen on radiograph, former smoker, weight loss",
    ago(minutes=210),
)


def order_page(**changes: object) -> OrderPage:
    report = ReportPanel(
        "rep-7", "corrected", (SECOND, FIRST), may_addend=True, may_correct=True, may_retract=True, version="v1"
    )
    frame = replace(FRAME, active="")
    page = OrderPage(
        frame,
        HREF,
        NADIA,
        Identity(),
        ORDER,
        chain_until(10),
        viewer(),
        report,
        PRIORS,
        reject_codes=(("113037", "Rejected for Patient Safety Reasons"), ("113001", "Rejected for Quality Reasons")),
    )
    return replace(page, **changes)


def unverified_order_page() -> OrderPage:
    chain = chain_until(7, {6: "No MPPS from CT01, 3 h after images"})
    return order_page(
        identity=UNVERIFIED,
        chain=chain,
        viewer=viewer("Unverified"),
        exception_href="/exceptions#exception-x1",
        report=ReportPanel("rep-7", "none", may_write=True),
        order=replace(ORDER, status="in progress", priority="stat"),
    )


def early_images_page() -> OrderPage:
    """Images before the order, and a draft in another's hands."""
    chain = chain_until(8)
    links = [replace(link, at=ago(minutes=231)) if link.number == 7 else link for link in chain.links]
    report = ReportPanel("rep-7", "draft", draft_by="Dr. S. Baptiste", draft_kind="report", draft_at=ago(minutes=4))
    return order_page(chain=Chain(tuple(links), "v1"), report=report, beside=prior_viewer())


def editor_page(**changes: object) -> EditorPage:
    sections = (Section("findings", "Findings", FINDINGS), Section("impression", "Impression", ""))
    draft = Draft("rep-7", "report", 4, sections, ago(seconds=50))
    page = EditorPage(
        replace(FRAME, active=""),
        HREF,
        NADIA,
        Identity(),
        ORDER,
        chain_until(8),
        viewer(),
        draft,
        PRIORS,
        signer="Dr. I. Okafor",
    )
    return replace(page, **changes)


def correction_page() -> EditorPage:
    draft = Draft("rep-7", "correction", 2, FIRST.sections, None, base=FIRST)
    return editor_page(draft=draft, identity=UNVERIFIED, viewer=viewer("Unverified"))


def draft_conflict() -> DraftConflict:
    theirs = (
        Section("findings", "Findings", FINDINGS + "\n\nBones: no lesion."),
        Section("impression", "Impression", ""),
    )
    return DraftConflict(9, theirs, editor_page().draft.sections, "Dr. S. Baptiste", ago(seconds=30))
