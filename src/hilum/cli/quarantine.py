"""`hilum quarantine`: what the archive holds that is no usable instance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action

quarantine = typer.Typer(help="Bytes in the archive that are no usable instance.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]


@quarantine.command("list")
def quarantine_list(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Print a line per entry: id, when it was found, torn or refused, why, where, who sent it and when."""
    from hilum.storage.quarantine import Unusable, unusable

    application = open_home(context, home)
    found: list[Unusable] = []
    try:
        application.store.run(record_read, Read(Action.MANAGE_QUARANTINE), operator())
        with application.store.read() as db:
            while page := unusable(db, found[-1].id if found else ""):
                found += page
    finally:
        application.close()
    if as_json:
        rows = [
            {
                "id": each.id, "found_at": each.found_at, "kind": each.kind, "reason": each.reason,
                "object": each.object_key, "offset": each.object_offset, "peer": each.peer,
                "received_at": each.received_at,
            }
            for each in found
        ]  # fmt: skip
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    for each in found:
        print(
            f"{each.id}  {each.found_at:%Y-%m-%dT%H:%M:%SZ}  {each.kind}  {each.reason}  "
            f"{each.object_key}@{each.object_offset}  {each.peer}  {each.received_at}".rstrip()
        )


@quarantine.command("resolve")
def quarantine_resolve(
    context: typer.Context,
    item_id: Annotated[str, typer.Argument(metavar="ID", help="The entry's id.")],
    reason: Annotated[str, typer.Option("--reason", help="What was done about it; kept with the entry.")],
    home: HomeOption = None,
) -> None:
    """Take an entry off the list; the bytes stay where they are."""
    from hilum.workflow.quarantine import ResolveQuarantine, resolve_quarantine

    application = open_home(context, home)
    try:
        application.store.run(resolve_quarantine, ResolveQuarantine(item_id, reason), operator())
    finally:
        application.close()
