"""Fixtures that every test may ask for; the servers start only when a test asks for them."""

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from fixtures import subjects
from fixtures.department import department, own_department
from fixtures.postgres import migrated_postgres_url, postgres_server, postgres_template, postgres_url
from fixtures.s3 import s3_bucket, s3_server
from fixtures.stores import sqlite_store, store

__all__ = [
    "department",
    "migrated_postgres_url",
    "own_department",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "s3_bucket",
    "s3_server",
    "sqlite_store",
    "store",
]

# Minutes of few tests: begun first, so that a run does not end with one worker at one of them and the others idle.
LONGEST = (
    "test_broken_link.py",
    "test_kill_minus_nine.py",
    "test_restart_between_links.py",
    "test_described_api.py",
    "test_ohif.py",
    "test_corpus.py",
    "test_identity.py",
    "test_stored_scripts.py",
    "test_no_patient_data.py",
    "test_break_glass.py",
    "test_sync_before_success.py",
    "test_many_nodes.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, in their order; leave out what belongs to the soak alone."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if os.environ.get("HILUM_SOAK") == "full":
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    items[:] = [item for item in items if not item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped has failed: what it needs is installed there."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def pytest_configure(config: pytest.Config) -> None:
    """Let every test process note whom it makes up in one file."""
    if not hasattr(config, "workerinput"):
        os.environ[subjects.NOTES] = tempfile.mkstemp(prefix="hilum-subjects-")[1]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the whole run nothing that its servers wrote for operators may say whom it was about."""
    if hasattr(session.config, "workerinput"):
        return
    notes = Path(os.environ.pop(subjects.NOTES))
    terms = set(notes.read_bytes().split())
    notes.unlink()
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or not terms:
        return
    found = sorted(subjects.told(factory.getbasetemp(), terms))
    print(f"\nlooked for {len(terms)} patients and orders in what was written for operators: {len(found)} found")
    if found:
        print("\n".join(found))
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR  # nothing that a second try could mend
