"""`hilum rejected`: rejection notes and what they hide, for whoever may see it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.core.errors import NotFound
from hilum.core.scope import EVERYTHING
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action
from hilum.storage.rejections import Rejection
from hilum.storage.store import Verb
from hilum.workflow.rejection import DecideRejection, apply_rejection, refuse_rejection, revoke_rejection
from hilum.workflow.source import Source

rejected = typer.Typer(help="Rejected images and the notes that reject them.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
NoteUid = Annotated[str, typer.Argument(metavar="NOTE", help="SOP Instance UID of the rejection note.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")]


@rejected.command("list")
def rejected_list(
    context: typer.Context,
    study: Annotated[str, typer.Option("--study", help="Only of this Study Instance UID.")] = "",
    state: Annotated[str, typer.Option("--state", help="waiting, applied, refused or revoked.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Print a line per rejection note: its UID, time, title code, state, instances, study, sender, reason."""
    from hilum.storage.rejections import rejections

    application = open_home(context, home)
    found: list[tuple[Rejection, int]] = []
    try:
        application.store.run(record_read, Read(Action.MANAGE_REJECTED), operator())
        with application.store.read() as db:
            while page := rejections(
                db, EVERYTHING, study_instance_uid=study, state=state, after=found[-1][0].id if found else ""
            ):
                found += page
    finally:
        application.close()
    if as_json:
        rows = [
            {
                "note": note.note_uid, "at": note.at, "code": note.code, "state": note.state, "instances": count,
                "study": note.study_instance_uid, "by": note.made_by, "reason": note.reason,
            }
            for note, count in found
        ]  # fmt: skip
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    for note, count in found:
        print(
            f"{note.note_uid}  {note.at:%Y-%m-%dT%H:%M:%SZ}  {note.code}  {note.state}  {count}  "
            f"{note.study_instance_uid}  {note.made_by}  {note.reason}".rstrip()
        )


@rejected.command("apply")
def rejected_apply(context: typer.Context, note: NoteUid, reason: Reason, home: HomeOption = None) -> None:
    """Let a note act that waits because its sender may not reject."""
    _decide(context, home, apply_rejection, note, reason)


@rejected.command("refuse")
def rejected_refuse(context: typer.Context, note: NoteUid, reason: Reason, home: HomeOption = None) -> None:
    """Set a note aside that waits; its images stay shown."""
    _decide(context, home, refuse_rejection, note, reason)


@rejected.command("revoke")
def rejected_revoke(context: typer.Context, note: NoteUid, reason: Reason, home: HomeOption = None) -> None:
    """Take a rejection back: its images are shown again unless something else hides them."""
    _decide(context, home, revoke_rejection, note, reason)


@rejected.command("export")
def rejected_export(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="SOP Instance UID of a hidden instance or of a note.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    home: HomeOption = None,
) -> None:
    """Write the original bytes of an instance that is hidden."""
    from hilum.archive.retrieve import read_instance
    from hilum.storage.rejections import hidden_instance

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            found = hidden_instance(db, uid)
        if found is None:
            raise NotFound("No hidden instance has this UID.")
        read = Read(Action.MANAGE_REJECTED, patient_id=found.patient_id, study_id=found.study_id)
        application.store.run(record_read, read, operator())
        out.write_bytes(read_instance(application.blobs, found))
    finally:
        application.close()


def _decide(
    context: typer.Context, home: Path | None, verb: Verb[DecideRejection, Rejection], note: str, reason: str
) -> None:
    application = open_home(context, home)
    try:
        actor = operator()
        application.store.run(verb, DecideRejection(note, reason, Source("Hilum command line", actor.name)), actor)
    finally:
        application.close()
