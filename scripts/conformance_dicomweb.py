"""The conformance statement of DICOMweb (PS3.2 annex, PS3.18), from the door's own tables."""

from __future__ import annotations

from pydicom.datadict import keyword_for_tag

from conformance_services import named, table
from hilum.archive.encoders import LOSSLESS
from hilum.archive.index_columns import SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from hilum.dicom.web.capabilities import TAKEN, parameters_of, sent_by
from hilum.dicom.web.door import ROOT, Door
from hilum.dicom.web.negotiation import FRAME_TYPES
from hilum.dicom.web.problems import HTTP_STATUS
from hilum.dicom.web.query import DEFAULT_LIMIT, LARGEST_LIMIT, MATCHABLE
from hilum.dicom.web.routes import resources_of
from hilum.dicom.web.stored import FAILURE_REASON, KEPT_BESIDE

HEAD = """\
# DICOMweb Conformance Statement

<!-- Written by scripts/conformance_page.py (make docs) from the program's tables; a test fails when it is stale. -->

Hilum 0.1 as origin server of PS3.18. Of DIMSE services and media there is [another statement](conformance-dicom.md).
Every request needs a bearer token or a session; what may be seen is decided by the [policy](security-policy.md).
"""


def dicomweb_page(door: Door) -> str:
    """The whole statement."""
    return "\n".join([HEAD, *(part(door) for part in (resources, searches, retrieval, storing, statuses))])


def resources(door: Door) -> str:
    rows = [(name, method, f"`{ROOT}{path}`") for path, method, name, _ in resources_of(door)]
    rows.append(("RetrieveCapabilities", "GET, OPTIONS", f"`{ROOT}/`"))
    return "\n".join(["## Resources", "", table("transaction", "method", "resource", rows=rows)])


def searches(door: Door) -> str:
    def words(keywords: frozenset[str]) -> str:
        return ", ".join(f"`{keyword}`" for keyword in sorted(keywords))

    rows = [
        (level, words(MATCHABLE[level] - (MATCHABLE.get(above) or frozenset())), DEFAULT_LIMIT[level])
        for above, level in (("", "study"), ("study", "series"), ("series", "instance"))
    ]
    returned = [
        ("study", ", ".join(f"`{keyword_for_tag(int(tag, 16))}`" for tag in STUDY_ATTRIBUTES)),
        ("series", ", ".join(f"`{keyword_for_tag(int(tag, 16))}`" for tag in SERIES_ATTRIBUTES)),
    ]
    return "\n".join(
        [
            "## Searches (QIDO-RS)",
            "",
            "A level takes the attributes of those above it, too. Attributes are named by keyword or",
            "tag, of sequences as",
            "`Sequence.Attribute`. Text is matched with `*` and `?`, case and accents folded; dates",
            "and times by range; UIDs and",
            "codes by list. An attribute that no dictionary knows is refused (400); other known ones",
            "are matched beyond the",
            f"index, or named in a Warning. At most {LARGEST_LIMIT} results a page (`limit`), with",
            "`offset` or the `cursor` of",
            "`Link`.",
            "",
            table("level", "matched in the index", "results unless `limit` says otherwise", rows=rows),
            table("level", "kept of the images and returned with `includefield=all`", rows=returned),
            "Parameters of a search of studies: " + ", ".join(f"`{name}`" for name in parameters_of("SearchForStudies")
                                                              if name[0].islower()) + ".",
            "",
        ]
    )  # fmt: skip


def retrieval(door: Door) -> str:
    kinds: dict[tuple[str, ...], list[str]] = {}
    for _, _, name, _ in resources_of(door):
        kinds.setdefault(sent_by(name), []).append(name)
    rows = [(", ".join(names), ", ".join(f"`{kind}`" for kind in types) or "–") for types, names in kinds.items()]
    frames = [(named(uid), f"`{kind}`") for uid, kind in FRAME_TYPES.items()]
    return "\n".join(
        [
            "## Media types",
            "",
            "Accept is read as RFC 9110 has it, with quality, quoted or not; `transfer-syntax=*`",
            "means as stored. Instances go",
            "as stored where that is accepted, else in Explicit VR Little Endian or, without loss, in "
            + "; ".join(map(named, LOSSLESS))
            + ". A study, series or instance asked for as `application/zip` is a File-set with a DICOMDIR.",
            "",
            table("transactions", "sent", rows=rows),
            "Frames as stored:",
            "",
            table("transfer syntax", "media type", rows=frames),
            "Rendered resources take "
            + ", ".join(f"`{name}`" for name in parameters_of("RetrieveRenderedStudy"))
            + ".",
            "",
        ]
    )


def storing(door: Door) -> str:
    rows = sorted({(f"{reason:04X}H", code) for code, reason in FAILURE_REASON.items()})
    joined: dict[str, list[str]] = {}
    for reason, code in rows:
        joined.setdefault(reason, []).append(code)
    return "\n".join(
        [
            "## Storing (STOW-RS)",
            "",
            "Taken: "
            + ", ".join(f"`{kind}`" for kind in TAKEN)
            + ". Answered: 200 all stored, 202 some or with a warning, 409",
            f"none. Warning {KEPT_BESIDE:04X}H: kept beside another instance of its UID. Failure reasons (0008,1197):",
            "",
            table("reason", "refused as", rows=[(reason, ", ".join(codes)) for reason, codes in joined.items()]),
        ]
    )


def statuses(door: Door) -> str:
    joined: dict[int, list[str]] = {}
    for code, status in HTTP_STATUS.items():
        joined.setdefault(status, []).append(code)
    rows = [(status, ", ".join(codes)) for status, codes in sorted(joined.items())]
    return "\n".join(
        [
            "## Statuses",
            "",
            "Besides 200, 202, 204 (nothing matches), 206 (a range, or a part of what was asked for)",
            "and 304: refusals, as",
            "`application/problem+json` (RFC 9457).",
            "",
            table("status", "refused as", rows=rows),
        ]
    )
