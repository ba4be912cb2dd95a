"""The images of one or more studies of a person as the viewer reads them, by their DICOMweb resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from hilum.core.study import MatchState, Study
from hilum.storage.pages import StudyShown, images_of
from hilum.web.models import Patient, ViewerInstance, ViewerModel, ViewerSeries, Window
from hilum.web.windows import Header, edges_of, guessed_window, is_colour, is_negative, own_window, presets_for

# An image says itself how many frames it has, and one that lies would stop the page's script. No scanner makes so many.
MAXIMUM_FRAMES = 100_000
WATERMARKS = {MatchState.UNVERIFIED: "Unverified", MatchState.CONFLICT: "Identity conflict"}


def viewer_model(
    connection: Any,
    studies: Sequence[StudyShown],
    patient: Patient,
    zone: ZoneInfo,
    *,
    label: str,
    description: str,
    accession_number: str,
) -> ViewerModel | None:
    """The viewer of studies that belong together; None where they have nothing to see."""
    if not studies:
        return None
    uids = {shown.study.id: shown.study.study_instance_uid for shown in studies}
    series_rows, instance_rows = images_of(connection, list(uids))
    instances = {key: list(rows) for key, rows in groupby(instance_rows, key=lambda row: row.series_id)}
    series = [
        _series(f"/dicom-web/studies/{uids[row.study_id]}/series/{row.series_instance_uid}", row, instances[row.id])
        for row in series_rows
        if row.id in instances
    ]
    first = studies[0].study
    return ViewerModel(
        first.study_instance_uid,
        label,
        patient,
        description or first.description,
        performed_at(first, zone),
        accession_number,
        tuple(series),
        next((WATERMARKS[shown.study.match_state] for shown in studies if shown.study.match_state in WATERMARKS), ""),
        tuple(uids.values()),
    )


def performed_at(study: Study, zone: ZoneInfo) -> datetime | None:
    """When the study began by its images, whose clock is the facility's; None where they do not say it rightly."""
    digits = study.study_date[:8] + (study.study_time[:6] or "000000").ljust(6, "0")
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=zone)
    except ValueError:
        return None


def _series(root: str, row: Any, rows: Sequence[Any]) -> ViewerSeries:
    headers = [_header(each.header) for each in rows]
    first = headers[0]
    colour = is_colour(first)
    windows = [None if colour else own_window(header) for header in headers]
    shared = windows[0] if all(windows) else None
    instances = tuple(
        ViewerInstance(
            f"{root}/instances/{each.sop_instance_uid}",
            each.number if each.number is not None else place,
            each.rows,
            each.columns or each.rows,
            frames,
            window if window != shared else None,
        )
        for place, (each, window, frames) in enumerate(zip(rows, windows, _believed(rows), strict=True), 1)
    )
    return ViewerSeries(
        row.series_instance_uid,
        row.number or 0,
        row.modality,
        row.description,
        f"{instances[len(instances) // 2].url}/thumbnail",
        instances,
        shared,
        () if colour else presets_for(row.modality, _first(windows)),
        edges_of(first),
        None if colour else _first(windows) or guessed_window(first),
        is_negative(first),
    )


def _believed(rows: Sequence[Any]) -> list[int]:
    """How many frames of each image are offered: what it says, as far as a page can hold them all; at least one."""
    left = MAXIMUM_FRAMES
    believed = []
    for each in rows:
        believed.append(max(1, min(each.frames, left)))
        left -= believed[-1]
    return believed


def _header(stored: bytes) -> Header:
    """What the image says of itself; an unreadable header hides no image, it only says nothing of windows."""
    try:
        header = orjson.loads(stored)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _first(windows: Iterable[Window | None]) -> Window | None:
    return next((window for window in windows if window is not None), None)
