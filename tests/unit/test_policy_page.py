"""The page that a security officer reads says what the policy does."""

from __future__ import annotations

import runpy
from pathlib import Path

from hilum.core.actor import Role
from hilum.security.policy import GRANTS, LABELS, Action

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_the_policy_is_current() -> None:
    page = runpy.run_path(str(ROOT / "scripts/policy_page.py"))["page"]()
    assert (ROOT / "docs/security-policy.md").read_text(encoding="utf-8") == page, "run: make docs"


def test_the_page_marks_what_is_granted_and_nothing_else() -> None:
    page = (ROOT / "docs/security-policy.md").read_text(encoding="utf-8")
    for action in Action:
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{action}`")]
        marks = [cell.strip() == "●" for cell in line.split("|")[2:-1]]
        assert marks == [action in GRANTS[role] for role in Role]
    assert set(LABELS) == set(Role)
