"""`hilum queue`: what waits to leave, and how a person lets it go on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.core.errors import NotFound
from hilum.delivery.queue import MOST_BYTES, Amendment, QueueTarget, park_queue, replay_queue, resend_amended
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action
from hilum.storage.store import Verb

queue = typer.Typer(help="What waits to leave.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
Target = Annotated[str, typer.Argument(metavar="DESTINATION|LANE|ID", help="A destination, a lane or one delivery.")]


@queue.command("list")
def queue_list(
    context: typer.Context,
    destination: Annotated[str, typer.Option("--destination", help="Only of this destination.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Print a line per lane that waits: destination, lane, depth, age of the oldest, state, reason, head."""
    from hilum.storage.lanes import WaitingLane, waiting_lanes

    application = open_home(context, home)
    try:
        application.store.run(record_read, Read(Action.READ_QUEUE), operator())
        now = application.store.clock()
        lanes: list[WaitingLane] = []
        with application.store.read() as db:
            while page := waiting_lanes(db, destination=destination, after=lanes[-1].lane if lanes else ""):
                lanes += page
    finally:
        application.close()
    rows = [
        {
            "destination": lane.destination,
            "lane": lane.lane,
            "depth": lane.depth,
            "oldest_seconds": round((now - lane.oldest_at).total_seconds(), 3),
            "state": lane.state,
            "reason": lane.reason,
            "head": lane.head,
        }
        for lane in lanes
    ]
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    for row in rows:
        print(
            f"{row['destination']}  {row['lane']}  {row['depth']}  {row['oldest_seconds']:.0f}s  {row['state']}  "
            f"{row['reason'] or '-'}  {row['head']}"
        )


@queue.command("replay")
def queue_replay(context: typer.Context, target: Target, home: HomeOption = None) -> None:
    """Let dead letters be sent again and held lanes go on; a superseded report version is never sent."""
    print(f"{_operate(context, target, home, replay_queue)} deliveries wait now")


@queue.command("show")
def queue_show(
    context: typer.Context,
    delivery: Annotated[str, typer.Argument(metavar="ID", help="One delivery.")],
    before: Annotated[int, typer.Option("--before", min=0, help="As it was before so many changes.")] = 0,
    home: HomeOption = None,
) -> None:
    """Write the message of a delivery as it is sent, byte for byte; to look at one is audited."""
    from hilum.storage.lanes import delivery_versions

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            versions = delivery_versions(db, delivery)
        if before >= len(versions):
            raise NotFound("There is no such delivery, or it was not changed so often.")
        shown = versions[-1 - before]
        application.store.run(record_read, Read(Action.READ_QUEUE, order_id=shown.order_id), operator())
    finally:
        application.close()
    sys.stdout.buffer.write(shown.body)


@queue.command("resend")
def queue_resend(
    context: typer.Context,
    delivery: Annotated[str, typer.Argument(metavar="ID", help="One delivery that waits for a person.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The message as it is to be sent.")],
    home: HomeOption = None,
) -> None:
    """Send a changed message in the place of a dead letter; the refused one is kept."""
    with file.open("rb") as opened:
        body = opened.read(MOST_BYTES + 1)  # one more is too many, and the verb says so
    application = open_home(context, home)
    try:
        control_id = application.store.run(resend_amended, Amendment(delivery, body), operator())
    finally:
        application.close()
    print(f"sent again as {control_id}")


@queue.command("park")
def queue_park(context: typer.Context, target: Target, home: HomeOption = None) -> None:
    """Hold a destination's lanes or one lane, or set one delivery aside so that its lane goes on."""
    print(f"{_operate(context, target, home, park_queue)} parked")


def _operate(context: typer.Context, target: str, home: Path | None, verb: Verb[QueueTarget, int]) -> int:
    application = open_home(context, home)
    try:
        done = application.store.run(verb, QueueTarget(target), operator())
    finally:
        application.close()
    if not done:
        raise NotFound(f"Nothing waits under {target}.")
    return int(done)
