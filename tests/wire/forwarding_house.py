"""A department that forwards images: its DICOM door, router and lanes at work, in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dicom_door import SETTINGS, Department, department

from hilum.core.actor import system_actor
from hilum.delivery.lanes import Lanes
from hilum.delivery.ports import Sender
from hilum.delivery.router import Router
from hilum.dicom.image_sender import ImageSender
from hilum.dicom.stow_sender import StowSender
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.workflow.images import CompleteStudy, complete_study

TESTER = system_actor("test")
ROUTE = '[[route]]\non = "StudyCompleted"\nto = ["{name}"]\n{more}\n'


def to(name: str, kind: str, address: str, *, route: str = "", more: str = "", on: str = "StudyCompleted") -> str:
    """Settings of a destination and the route that leads there."""
    return (
        f'[[destination]]\nname = "{name}"\nkind = "{kind}"\naddress = "{address}"\n'
        f"ack_timeout = 5\nretry_first = 0.05\nretry_max = 0.2\n{more}\n"
        f'[[route]]\non = "{on}"\nto = ["{name}"]\n{route}\n'
    )


@dataclass
class House:
    """The department and its routes."""

    hilum: Department

    def complete(self, study_instance_uid: str) -> None:
        """Let a study have been quiet for long enough."""
        for row in self.hilum.rows(tables.study, tables.study.c.study_instance_uid == study_instance_uid):
            self.hilum.store.run(complete_study, CompleteStudy(row.id, timedelta(0)), TESTER)

    def states(self) -> list[tuple[str, str]]:
        """State and reason of each delivery, in order."""
        with self.hilum.store.read() as db:
            query = sa.select(tables.delivery.c.state, tables.delivery.c.reason).order_by(tables.delivery.c.position)
            return [(row.state, row.reason) for row in db.execute(query)]

    def sent(self, destination: str) -> list[Any]:
        """What a destination is noted to have taken."""
        return self.hilum.rows(tables.image_sent, tables.image_sent.c.destination == destination)


@contextlib.contextmanager
def forwarding(folder: Path, destinations: str, peers: str = SETTINGS) -> Iterator[House]:
    """A department whose destinations are sent to while it is open."""
    folder.mkdir(parents=True, exist_ok=True)
    with department(folder, peers + destinations) as hilum:
        configuration = Configuration(folder)
        senders: dict[str, Sender] = {
            "dicom": ImageSender(hilum.store, configuration, hilum.blobs),
            "stow": StowSender(hilum.store, configuration, hilum.blobs),
        }
        lanes = Lanes(hilum.store, configuration, {}, senders, chance=lambda: 0.0)
        router = Router(hilum.store, configuration, {}, on_routed=lanes.wake)
        lanes.start()
        router.start()
        try:
            yield House(hilum)
        finally:
            router.stop()
            assert lanes.stop()
            for sender in senders.values():
                sender.close()
