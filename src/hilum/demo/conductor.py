"""Plays the connected chain against a running Hilum and says, from outside, whether every link held.

    python -m hilum.demo.conductor [--json] < cast.json

The cast is one JSON object on stdin, or in the environment variable HILUM_DEMO:

    {"http": "http://127.0.0.1:8080", "dicom": {"host": "127.0.0.1", "port": 11112, "ae_title": "HILUM"},
     "hl7": {"host": "127.0.0.1", "port": 2575}, "ehr_listen_port": 6661,
     "tokens": {"ehr": "…", "radiologist": "…", "physician": "…"},
     "radiologist": {"identifier": "…", "name": "Family^Given"},
     "physician": {"identifier": "…", "name": "Family^Given"}, "pause": false}

`physician` names the account behind the physician's token and stands in ORC-12; optional, like `senders`
(`{"ehr": "DEMOEHR|DEMOHOSP", "dictation": "DEMODICT|DEMOHOSP"}`), `seed` and `pause` (a line on stdin after each link).
Exit 0 when all was verified; 1 and `broken link: N Name: why` otherwise; 2 when the cast cannot be read.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hilum.demo import cast
from hilum.demo.detours import cancel_before_start, nothing_crossed, wrong_patient
from hilum.demo.journey import Journey, Players
from hilum.demo.play import Player, Refused
from hilum.demo.programme import BrokenLink, Programme

SENDERS = {"ehr": "DEMOEHR|DEMOHOSP", "dictation": "DEMODICT|DEMOHOSP"}
PRIOR_NODULE_MM, NODULE_MM = 8.0, 13.0


def main(arguments: list[str] | None = None) -> int:
    """Read the cast, play, and return the exit code."""
    try:
        given = _cast()
    except ValueError as error:
        sys.stderr.write(f"the cast cannot be read: {error}\n")
        return 2
    programme = Programme("--json" in (sys.argv[1:] if arguments is None else arguments), bool(given.get("pause")))
    broken: BrokenLink | None = None
    try:
        play(given, programme)
    except BrokenLink as error:
        broken = error
    return programme.verdict(broken)


def play(given: dict[str, Any], programme: Programme) -> None:
    """The whole play; raises BrokenLink at the first link that does not hold."""
    chance = Random(given.get("seed", secrets.randbits(64)))  # noqa: S311 - made-up people, not secrets
    physician = cast.person(given.get("physician") or {"identifier": "physician"})
    try:
        players = _players(given)
    except Refused as error:
        raise BrokenLink(1, f"the play could not begin: {error}") from None
    try:
        _acts(programme, players, chance, physician)
    except Refused as error:  # between two links only the scanner works
        raise BrokenLink(6, str(error)) from None
    finally:
        players.leave()


def _acts(programme: Programme, players: Players, chance: Random, physician: dict[str, str]) -> None:
    now = datetime.now().replace(microsecond=0) - timedelta(hours=1)  # so that nothing lies in the future
    then = (now - cast.PRIOR_AGE).replace(hour=9, minute=40, second=0)
    person, anatomy = cast.patient(chance), chance.randrange(10**6)

    programme.act(f"Act 1. The prior: a chest CT on {then:%Y-%m-%d}")
    order = cast.order(chance, cast.CHEST_CT, physician, then)
    prior = Journey("prior", programme, players, person, order, anatomy, PRIOR_NODULE_MM)
    prior.travel(cast.report(chance, PRIOR_NODULE_MM), "A04")

    programme.act("Act 2. Today: the follow-up, and a new family name")
    person = cast.renamed(person, chance)
    order = cast.order(chance, cast.CHEST_CT, physician, now)
    current = Journey("current", programme, players, person, order, anatomy, NODULE_MM, prior)
    current.travel(cast.report(chance, NODULE_MM, PRIOR_NODULE_MM, f"{then:%Y-%m-%d}"), "A08")

    programme.act("Act 3. Exceptions: a wrong patient ID at the console, and an order cancelled before it starts")
    stranger = f"MX{chance.randrange(10**7):07d}"
    order = cast.order(chance, cast.CHEST_RADIOGRAPH, physician, now)
    mixed = Journey("wrong patient", programme, players, person, order, anatomy, NODULE_MM)
    wrong_patient(mixed, stranger)
    other = cast.patient(chance)
    order = cast.order(chance, cast.CHEST_RADIOGRAPH, physician, now)
    cancelled = Journey("cancelled", programme, players, other, order, anatomy, NODULE_MM)
    cancelled.registration("A04")
    cancel_before_start(cancelled)
    nothing_crossed([_as_of(prior, person), current, mixed, cancelled])


def _as_of(journey: Journey, person: dict[str, str]) -> Journey:
    """The journey with its patient under the present name."""
    journey.patient = person
    return journey


def _players(given: dict[str, Any]) -> Players:
    """Start each player as a process of its own, with the addresses and the one token it is given."""
    http, hl7, tokens = given["http"].rstrip("/"), given["hl7"], given["tokens"]
    senders = SENDERS | given.get("senders", {})
    radiologist = cast.person(given["radiologist"])
    begun: list[Player] = []
    try:
        for name, begin in (
            ("ehr", {"token": tokens["ehr"], "sender": senders["ehr"], "listen_port": given["ehr_listen_port"]}),
            ("modality", {"dicom": given["dicom"], "ae_title": "DEMOCT"}),
            ("dictation", {"token": tokens["radiologist"], "sender": senders["dictation"], "radiologist": radiologist}),
            ("physician", {"token": tokens["physician"]}),
        ):
            door: dict[str, Any] = {} if name == "modality" else {"http": http}
            door |= {"hl7": hl7} if name in ("ehr", "dictation") else {}
            begun.append(Player(name, **door, **begin))
    except Refused:
        for player in begun:
            player.leave()
        raise
    return Players(*begun)


def _cast() -> dict[str, Any]:
    """The cast from HILUM_DEMO, or from stdin up to where its JSON object ends; ValueError when it is not one."""
    text = os.environ.get("HILUM_DEMO", "")
    if not text:
        for line in sys.stdin:
            text += line
            if text.count("{") == text.count("}") > 0:
                break
    given = json.loads(text)
    missing = [key for key in ("http", "dicom", "hl7", "ehr_listen_port", "tokens", "radiologist") if key not in given]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    found: dict[str, Any] = given
    return found


if __name__ == "__main__":
    sys.exit(main())
