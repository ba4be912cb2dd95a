"""`hilum deletion`, `hilum hold` and `hilum retention`: how images end, and what keeps them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.core.actor import Identifier
from hilum.core.errors import InvalidInput, NotFound
from hilum.core.scope import EVERYTHING
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action
from hilum.workflow.source import Source

deletions = typer.Typer(help="Deletion of images, in two steps.", no_args_is_help=True)
holds = typer.Typer(help="Legal holds: images that nobody may delete.", no_args_is_help=True)
retention = typer.Typer(help="Images whose retention is over.", no_args_is_help=True)

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")]


@deletions.command("mark")
def deletion_mark(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    reason: Reason,
    series: Annotated[str | None, typer.Option("--series", help="Only this Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="Only this SOP Instance UID.")] = None,
    home: HomeOption = None,
) -> None:
    """Hide images at once and have them removed after the time of grace; print the deletion's id."""
    from hilum.storage.retrieval import find_study
    from hilum.workflow.deletion import MarkForDeletion, mark_for_deletion

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            found = find_study(db, study, EVERYTHING)
        if found is None:
            raise NotFound("There is no such study.")
        grace = timedelta(days=application.settings.archive.deletion_grace_days)
        command = MarkForDeletion(found.id, reason, grace, _source(), series, instance)
        deletion = application.store.run(mark_for_deletion, command, operator())
    finally:
        application.close()
    print(f"{deletion.id} until {deletion.until:%Y-%m-%dT%H:%M:%SZ}")


@deletions.command("list")
def deletion_list(context: typer.Context, as_json: AsJson = False, home: HomeOption = None) -> None:
    """Print a line per deletion that can still be undone: id, end of grace, images, study, who, why."""
    from hilum.storage.deletions import Deletion, open_deletions

    application = open_home(context, home)
    found: list[tuple[Deletion, int]] = []
    try:
        application.store.run(record_read, Read(Action.DELETE_IMAGES), operator())
        with application.store.read() as db:
            while page := open_deletions(db, found[-1][0].id if found else ""):
                found += page
    finally:
        application.close()
    rows = [
        {
            "id": each.id, "until": each.until, "images": count, "study": each.study_instance_uid,
            "by": each.asked_by, "reason": each.reason,
        }
        for each, count in found
    ]  # fmt: skip
    _print(rows, as_json)


@deletions.command("undo")
def deletion_undo(
    context: typer.Context,
    deletion_id: Annotated[str, typer.Argument(metavar="ID", help="The deletion's id.")],
    reason: Reason,
    home: HomeOption = None,
) -> None:
    """Show again what was marked; refused once it is removed."""
    from hilum.workflow.deletion import UndoDeletion, undo_deletion

    application = open_home(context, home)
    try:
        application.store.run(undo_deletion, UndoDeletion(deletion_id, reason, _source()), operator())
    finally:
        application.close()


@holds.command("set")
def hold_set(
    context: typer.Context,
    reason: Reason,
    patient: Annotated[str | None, typer.Option("--patient", help="ID or ID^AUTHORITY of a patient.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Study Instance UID.")] = None,
    home: HomeOption = None,
) -> None:
    """Forbid that images of a patient, or of one study, are deleted; print the hold's id."""
    from hilum.workflow.retention import SetHold, set_hold

    if (patient is None) == (study is None):
        raise InvalidInput("Name either a patient or a study.")
    value, _, authority = (patient or "").partition("^")
    command = SetHold(reason, Identifier(value, authority) if patient else None, study)
    application = open_home(context, home)
    try:
        hold_id = application.store.run(set_hold, command, operator())
    finally:
        application.close()
    print(hold_id)


@holds.command("list")
def hold_list(context: typer.Context, as_json: AsJson = False, home: HomeOption = None) -> None:
    """Print a line per hold in force: id, since, patient's key or study, who, why."""
    from hilum.storage.retention import LegalHold, holds_in_force

    application = open_home(context, home)
    found: list[LegalHold] = []
    try:
        application.store.run(record_read, Read(Action.HOLD_IMAGES), operator())
        with application.store.read() as db:
            while page := holds_in_force(db, found[-1].id if found else ""):
                found += page
    finally:
        application.close()
    rows = [
        {
            "id": hold.id, "since": hold.at, "of": hold.study_instance_uid or f"patient {hold.patient_id}",
            "by": hold.set_by, "reason": hold.reason,
        }
        for hold in found
    ]  # fmt: skip
    _print(rows, as_json)


@holds.command("release")
def hold_release(
    context: typer.Context,
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="The hold's id.")],
    reason: Reason,
    home: HomeOption = None,
) -> None:
    """Let a hold go."""
    from hilum.workflow.retention import ReleaseHold, release_hold

    application = open_home(context, home)
    try:
        application.store.run(release_hold, ReleaseHold(hold_id, reason), operator())
    finally:
        application.close()


@retention.command("list")
def retention_list(context: typer.Context, as_json: AsJson = False, home: HomeOption = None) -> None:
    """Print a line per study whose retention is over: since when, study, date, modalities, images. Changes nothing."""
    from hilum.jobs.retention import expired

    application = open_home(context, home)
    try:
        application.store.run(record_read, Read(Action.DELETE_IMAGES), operator())
        today = application.store.clock().astimezone(ZoneInfo(application.settings.facility.zone)).date()
        rows = [
            {
                "since": found.since, "study": found.study.study_instance_uid, "date": found.study.study_date,
                "modalities": "/".join(found.study.modalities), "images": found.study.instance_count,
            }
            for found in expired(application.store, application.settings, today)
        ]  # fmt: skip
    finally:
        application.close()
    _print(rows, as_json)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    for row in rows:
        values = (f"{value:%Y-%m-%dT%H:%M:%SZ}" if hasattr(value, "hour") else str(value) for value in row.values())
        print("  ".join(values).rstrip())


def _source() -> Source:
    return Source("Hilum command line", operator().name)
