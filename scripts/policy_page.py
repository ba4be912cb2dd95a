"""Write docs/security-policy.md from the tables of the policy: `python scripts/policy_page.py [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from hilum.core.actor import Role
from hilum.core.scope import Confidentiality
from hilum.security.entries import DIMSE, FHIR, HL7, HTTP, Entry, Unguarded
from hilum.security.policy import GRANTS, LABELS, PERSONAL, RELATED_ONLY, SEES_UNMATCHED, WITHOUT_LIMITS, Action

PAGE = Path(__file__).resolve().parent.parent / "docs/security-policy.md"

INTRODUCTION = """\
# Who may do what, and whose data they see

<!-- Written by scripts/policy_page.py (make docs) from the policy; a test fails when it is out of date. -->

One function decides for every door: `decide(actor, action, resource, purpose)` for one patient, `scope_for(actor,
action)` for lists. What is not granted is denied. DIMSE, DICOMweb, FHIR, HL7, CDS Hooks and the pages ask the same
function, and `tests/contract/test_access_matrix.py` walks through every entry below with every role, granted and
denied.
"""

LIMITS = """\
## Whose data

A patient is seen who satisfies all of these; a grant for the patient stands in for all of them.

- **Relation.** A referring physician sees the patients whom they ordered for, on whose order they are copied, or
  whose care team they are in (PV1-7, 8, 9, 17) while the visit lasts: until A03 or A11 for a stay, for 30 days
  after the last message for any other visit. An account's identifiers are compared with XCN.1 and its authority; a
  role's token is nobody's, so it sees nobody.
- **Label.** Normal, VIP, employee or sensitive: by a person (`hilum patient label`) and by messages (PV1-16,
  PD1-12) beside each other, and the strictest of all of a person's records holds, whoever was merged into whom. A
  message speaks for the record that it names only.
- **Facility.** An account that is limited to facilities (`hilum access limit`) sees the patients who hold a number
  that the facility issued (PID-3.4) or for whom it sent an order (MSH-4). Who is seen is seen whole.

What belongs to no registered patient yet (unmatched images, refused messages) is seen by those who reconcile it,
and not by an account that is limited to facilities. Machines (`service`) see all labels: whoever is to be examined
has to be on the scanner's worklist, and an exam that is on nobody's list is a hazard ([hazards](hazards.md)).

Counts, totals, suggestions and the text of refusals come from the same conditions. Who is out of view is answered
like who does not exist; the attempt is audited.

## Access for a time

`hilum access grant` opens a patient, or all patients of a label, to an account until a moment. A grant for a
patient covers the label that the patient had then: who is labelled more strictly later, also by a merge, is
covered no more. A grant for a label changes neither relation nor facility.

**Breaking the glass.** A person of a role with `break-glass` asks at `/access/break-glass` for a patient's number,
with a reason; access lasts `security.break_glass_hours`. The answer is the same whether or not the number is
anybody's. Pages of the patient carry a banner, what is read is audited with purpose `BTG`, the event `GlassBroken`
goes to whom routes name, and the entry stays under `/access/reviews` until someone else has reviewed it. Twenty in
an hour are the most. No role's or program's token can do it. The tests: `tests/contract/test_patient_access.py`,
`tests/journeys/test_break_glass.py`.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table of Markdown."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return [*lines, *(f"| {' | '.join(cells)} |" for cells in rows), ""]


def grants() -> list[str]:
    """Actions by roles."""
    head = ["action", *(role.value for role in Role)]
    marks = {action: " ¹" * (action in PERSONAL) + " ²" * (action in WITHOUT_LIMITS) for action in Action}
    rows = (
        [f"`{action}`{marks[action]}", *("●" if action in GRANTS[role] else "" for role in Role)] for action in Action
    )
    notes = "¹ Needs a named person, never a role's or a program's token. ² Has no limit on patients."
    return ["## Roles", "", *table(head, rows), notes, ""]


def labels() -> list[str]:
    """Labels by roles, and the other limits of a role."""
    head = ["role", *(label.value for label in Confidentiality), "unmatched", "patients"]
    rows = (
        [
            role.value,
            *("●" if label in LABELS[role] else "" for label in Confidentiality),
            "●" if role in SEES_UNMATCHED else "",
            "related ones" if role in RELATED_ONLY else "all",
        ]
        for role in Role
    )
    return ["### What a role sees without a grant", "", *table(head, rows)]


def words(entry: Entry | Mapping[str, Action]) -> str:
    """An entry of the table of doors, in words."""
    if isinstance(entry, Mapping):
        return "by type"
    return {Unguarded.OPEN: "open", Unguarded.OWN: "whoever is signed in", Unguarded.NOTHING: "refused"}.get(
        entry,  # type: ignore[call-overload]
        f"`{entry}`",
    )


def entries() -> list[str]:
    """Every way in."""
    http = ([f"`{path}`", method, words(entry)] for path, methods in HTTP.items() for method, entry in methods.items())
    return [
        "## Every way in",
        "",
        "### HTTP",
        "",
        *table(("route", "method", "action"), http),
        "### FHIR resources",
        "",
        *table(("type", "action"), ([kind, f"`{action}`"] for kind, action in FHIR.items())),
        "### DIMSE",
        "",
        *table(("service", "command", "action"), ([*key, f"`{action}`"] for key, action in DIMSE.items())),
        "### HL7 v2, besides `receive-message`",
        "",
        *table(("message", "action"), ([key, f"`{action}`"] for key, action in HL7.items())),
    ]


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *grants(), LIMITS, *labels(), *entries()]).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it."""
    if "--check" in arguments:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        if not current:
            print("docs/security-policy.md is out of date: make docs", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
