"""`hilum route`: what the routes and rules would do with a message or an image, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import InvalidInput

if TYPE_CHECKING:
    from hilum.app import Application
    from hilum.delivery.rehearsal import Rehearsed
    from hilum.storage.store import Verb

route = typer.Typer(help="Where things would go.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
LARGEST = 64 * 1024 * 1024
LOOPBACK = "127.0.0.1"


@route.command("test")
def route_test(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An HL7 v2 message or a DICOM file.")],
    sender: Annotated[
        str, typer.Option("--from", help="AE title that a DICOM file is taken to come from; else what it says itself.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Print which events a message or an image would raise, which routes match, and what would leave as what."""
    content = _content(file)
    application = open_home(context, home)
    try:
        lines = list(_hl7(application, content) if _is_hl7(content) else _dicom(application, content, sender))
    finally:
        application.close()
    for line in lines:
        print(orjson.dumps(line).decode() if as_json else _words(line))


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}).") from None
    if len(content) > LARGEST:
        raise InvalidInput(f"{file} is larger than {LARGEST} bytes.")
    return content


def _is_hl7(content: bytes) -> bool:
    return content.lstrip(b"\x0b\r\n ")[:3] == b"MSH"


def _hl7(application: Application, content: bytes) -> Iterator[dict[str, Any]]:
    from hilum.hl7.reception import open_envelope, receive
    from hilum.workflow.inbound import receive_message

    settings, now = application.settings, application.store.clock()
    message = content.strip(b"\x0b\x1c\r\n ") + b"\r"
    envelope = open_envelope(message.replace(b"\r\n", b"\r").replace(b"\n", b"\r"), LOOPBACK, settings)
    reception = receive(envelope, settings, frozenset({LOOPBACK}), now)
    events, (received,) = _rehearsed(application, [(receive_message, reception.command)], reception.actor)
    if received.repeated:
        yield {"note": "The same message was applied before, so it would only be answered again."}
    elif received.reason:
        yield {"note": f"The message would be refused: {received.reason}."}
    yield from _told(events)


def _dicom(application: Application, content: bytes, sender: str) -> Iterator[dict[str, Any]]:
    from hilum.dicom.rehearsal import departing_values, rehearsal_of

    what = rehearsal_of(application.ingest, content, application.settings, sender, application.store.clock())
    if what.dropped_by is not None:
        yield {"note": f"rule[{what.dropped_by}] would drop the image."}
        return
    if what.command.held:
        yield {"note": "A rule would hold the image's series back until a person releases it."}
    actor = Actor(what.peer, Role.SERVICE, ActorKind.PEER, Door.DIMSE)
    steps: list[tuple[Verb[Any, Any], Any]] = list(what.steps)
    events, (recorded, _) = _rehearsed(application, steps, actor)
    if recorded != "stored":
        yield {"note": f"The image would be {recorded}: nothing new would happen."}
    yield from _told(events)
    yield from departing_values(what, application.settings)


def _rehearsed(
    application: Application, steps: list[tuple[Verb[Any, Any], Any]], actor: Actor
) -> tuple[list[Rehearsed], list[Any]]:
    from hilum.delivery.rehearsal import Rehearse, rehearse
    from hilum.delivery.rules import Rules

    settings = application.settings
    command = Rehearse(steps, actor, settings, Rules.of(settings), application.encoders())
    return application.store.run(rehearse, command, operator())


def _told(events: list[Rehearsed]) -> Iterator[dict[str, Any]]:
    for each in events:
        if not each.departures:
            yield {"event": each.event, "to": None}
        for leaving in each.departures:
            yield {
                "event": each.event,
                "to": leaving.destination,
                "as": leaving.kind,
                "state": leaving.state,
                "reason": leaving.reason,
                "routes": list(leaving.routes),
            }


def _words(line: dict[str, Any]) -> str:
    if "note" in line:
        return str(line["note"])
    if line["to"] is None:
        return f"{line['event']}: no route"
    routes = ", ".join(f"route[{number}]" for number in line["routes"])
    how = "" if line["state"] == "waiting" else f" ({line['state']}: {line['reason']})"
    return f"{line['event']}: {routes} -> {line['to']} as {line['as']}{how}"
