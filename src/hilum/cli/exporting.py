"""`hilum export`: studies of the archive as a File-set with a DICOMDIR, in a folder or a zip file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hilum.cli.context import open_home, operator
from hilum.core.errors import InvalidInput, NotFound
from hilum.core.identifiers import new_uid
from hilum.security.policy import Action, scope_for

if TYPE_CHECKING:
    from hilum.app import Application
    from hilum.archive.exporting import Exported
    from hilum.storage.shown import ShownStudy

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
ZIP = ".zip"


def export(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="A folder, or a file that ends in .zip; it must not exist.")],
    study: Annotated[list[str] | None, typer.Option("--study", help="A Study Instance UID; may be repeated.")] = None,
    patient: Annotated[str, typer.Option("--patient", help="The patient's number: ID or ID^AUTHORITY.")] = "",
    dicomdir: Annotated[bool, typer.Option("--dicomdir/--no-dicomdir", help="Whether a DICOMDIR is written.")] = True,
    original: Annotated[bool, typer.Option("--original", help="The bytes as received, whatever is known now.")] = False,
    uncompressed: Annotated[
        bool, typer.Option("--uncompressed", help="Explicit VR Little Endian, as CDs want it.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Write studies as DICOM media: files with names that say nothing of anyone, and a DICOMDIR."""
    from hilum.archive.exporting import file_set, write_folder, write_zip

    if bool(study) == bool(patient):
        raise InvalidInput("Name either --study or --patient.")
    if original and uncompressed:
        raise InvalidInput("What is uncompressed is not the original.")
    application = open_home(context, home)
    try:
        studies = _studies(application, study or (), patient)
        with _progress() as progress:
            instances = progress.track(
                _instances(application, studies, original, uncompressed),
                total=_count(application, studies),
                description="exporting",
            )
            members = file_set(instances, new_uid(), with_directory=dicomdir)
            count = write_zip(members, to) if to.suffix.lower() == ZIP else write_folder(members, to)
    finally:
        application.close()
    print(f"{to}: {len(studies)} studies, {count} files")


def _studies(application: Application, uids: Sequence[str], patient: str) -> list[ShownStudy]:
    from hilum.storage.exports import studies_of_number
    from hilum.storage.retrieval import find_study

    scope = scope_for(operator(), Action.READ_IMAGES)
    with application.store.read() as connection:
        if patient:
            value, _, authority = patient.partition("^")
            found = studies_of_number(connection, value, authority, scope)
            if not found:
                raise NotFound("No study of this patient may be shown.")
            return found
        each = [find_study(connection, uid, scope) for uid in dict.fromkeys(uids)]
    if None in each:
        raise NotFound("There is no such study, or it may not be shown.")
    return [one for one in each if one is not None]


def _count(application: Application, studies: Sequence[ShownStudy]) -> int:
    from hilum.storage.retrieval import find_instances

    with application.store.read() as connection:
        return sum(len(find_instances(connection, study.id)) for study in studies)


def _instances(
    application: Application, studies: Sequence[ShownStudy], original: bool, uncompressed: bool
) -> Iterator[Exported]:
    """The instances of the studies; each study is audited before its first byte."""
    from hilum.archive.frames import instance_opener
    from hilum.archive.render_pool import RenderPool
    from hilum.dicom.coercing import Coercing
    from hilum.dicom.exporting import exported
    from hilum.dicom.rewriting import Rewriting
    from hilum.storage.retrieval import find_instances
    from hilum.workflow.reading import OpenImages, export_original, open_images
    from hilum.workflow.source import Source

    store, actor = application.store, operator()
    coercing = Coercing(store, application.blobs, application.configuration)
    pool = RenderPool()
    rewriting = Rewriting(coercing, instance_opener(application.blobs), pool.render) if uncompressed else None
    try:
        for study in studies:
            opened = OpenImages(study.id, study.order_id, study.patient_id, Source("DICOM export", actor.name))
            store.run(export_original if original else open_images, opened, actor)
            with store.read() as connection:
                rows = find_instances(connection, study.id)
            yield from exported(coercing, study, rows, original=original, uncompressed=rewriting)
    finally:
        pool.close()


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
