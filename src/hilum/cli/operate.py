"""Looking at a running Hilum and setting it right: trace, queue, messages, audit, check."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from hilum.cli.context import home_of, open_home, operator
from hilum.core.chain import ChainLink, chain_as_rows, chain_of
from hilum.core.errors import NotFound
from hilum.core.scope import EVERYTHING
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action

messages = typer.Typer(help="The journal of inbound messages.", no_args_is_help=True)

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def trace(
    context: typer.Context,
    accession: Annotated[str, typer.Argument(help="The order's accession number.")],
    as_json: AsJson = False,
    home: HomeOption = None,
) -> None:
    """Print the chain of an order: a line per link with time, gap, standard, peer and what happened."""
    from hilum.storage.chain import order_by_accession, order_events

    application = open_home(context, home)
    try:
        if application.follows:
            application.barrier.wait()
        with application.store.read() as db:
            order = order_by_accession(db, accession, EVERYTHING)
        if order is None:
            raise NotFound("No order has this accession number.")
        read = Read(Action.READ_ORDER, patient_id=order.patient_id, order_id=order.id)
        application.store.run(record_read, read, operator())
        with application.store.read() as db:
            chain = chain_of(order_events(db, order))
    finally:
        application.close()
    if as_json:
        _print_json({"accession": order.accession_number, "status": order.status.value, "links": chain_as_rows(chain)})
        return
    for link in chain:
        print(_line(link))


def _line(link: ChainLink) -> str:
    title = f"{int(link.link):2} {link.link.title:<24}"
    if link.at is None:
        return f"{'-':<27} {'':>10}  {title} missing"
    first, last = link.events[0], link.events[-1]
    what = first.what if last.what == first.what else f"{first.what}; {last.what} {_iso(last.event.at)}"
    # The result counts when the latest version has arrived.
    return f"{_iso(link.at)} {_gap(link.gap):>10}  {title} {first.event.standard}  {first.event.peer}  {what}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _gap(gap: timedelta | None) -> str:
    if gap is None:
        return ""
    seconds = gap.total_seconds()
    return f"+{seconds:.3f}s" if abs(seconds) < 100 else f"+{gap // timedelta(seconds=1)}s"


@messages.command("list")
def messages_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many.")] = 50,
    before: Annotated[str, typer.Option("--before", help="Go on from this id.")] = "",
    as_json: AsJson = False,
    home: HomeOption = None,
) -> None:
    """Print the newest inbound messages: time, sender, control ID, type and how each was answered."""
    from hilum.storage.journal import latest_messages

    application = open_home(context, home)
    try:
        application.store.run(record_read, Read(Action.READ_MESSAGES), operator())
        with application.store.read() as db:
            rows = latest_messages(db, limit, before)
    finally:
        application.close()
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        reason = f" {row['reason']}" if row["reason"] else ""
        print(
            f"{row['id']}  {_iso(row['received_at'])}  {row['sender']}  {row['control_id']}  {row['kind']}  "
            f"{row['outcome']}{reason}"
        )


@messages.command("show")
def messages_show(
    context: typer.Context,
    control_id: Annotated[str, typer.Argument(help="MSH-10 of the message.")],
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they came, nothing else.")] = False,
    home: HomeOption = None,
) -> None:
    """Print a message with its answer; with --raw its bytes alone."""
    from hilum.storage.journal import messages_of_control_id

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            found = messages_of_control_id(db, control_id)
        if not found:
            raise NotFound("No message came under this control ID.")
        for message in found:
            read = Read(Action.READ_MESSAGES, patient_id=message.patient_id, order_id=message.order_id)
            application.store.run(record_read, read, operator())
    finally:
        application.close()
    for message in found:
        if raw:
            sys.stdout.buffer.write(message.raw)
            continue
        print(
            f"# {_iso(message.received_at)} {message.sender} {message.kind} {message.outcome} {message.reason}".rstrip()
        )
        print(message.raw.decode("utf-8", "replace").replace("\r", "\n"))
        print("# answered")
        print(message.reply.decode("utf-8", "replace").replace("\r", "\n"))


def _print_json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def check(context: typer.Context, home: HomeOption = None) -> None:
    """Check configuration, keys, database and archive; exit 1 when something is wrong."""
    from hilum.app import Application
    from hilum.cli.checking import findings

    application = Application(home_of(context, home))
    try:
        found = list(findings(application))
    finally:
        application.close()
    for finding in found:
        print(f"{finding.weight}: {finding.text}")
    faults = sum(finding.weight == "fault" for finding in found)
    print("no faults" if not faults else f"{faults} fault{'s' if faults > 1 else ''}")
    raise typer.Exit(1 if faults else 0)
