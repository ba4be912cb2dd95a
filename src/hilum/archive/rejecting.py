"""A person rejects images: the archive writes a rejection note, stores it like any other, and it acts.

The note lies beside the images in standard form, so another archive understands it, and it outlasts the index.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from hilum.archive.ingest import Ingest
from hilum.archive.key_objects import NamedInstance, NamedStudy, rejection_note
from hilum.core.actor import Actor
from hilum.workflow.rejection import RejectInstances, reject_instances
from hilum.workflow.source import Source


def reject(ingest: Ingest, command: RejectInstances, actor: Actor, source: Source, zone: ZoneInfo) -> str:
    """Put images out of use at every door and return the SOP Instance UID of the note.

    Raises MissingField without a reason, NotFound where nothing is shown that could be rejected, Forbidden.
    """
    chosen = ingest.store.run(reject_instances, command, actor)
    study = NamedStudy(**{name: str(chosen.study[name] or "") for name in NamedStudy.__slots__})
    named = [
        NamedInstance(each.series_instance_uid, each.sop_class_uid, each.sop_instance_uid, each.is_image)
        for each in chosen.instances
    ]
    at = ingest.store.clock().astimezone(zone)
    note = rejection_note(study, named, command.code, command.reason.strip(), at)
    return ingest.store_file(note, source=source, actor=actor).sop_instance_uid
