"""The images of one study, as the viewer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.web.models.frame import Patient


@dataclass(frozen=True, slots=True)
class Window:
    label: str
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the patient's directions lie at the image's edges (R, L, A, P, H, F and pairs of them)."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, slots=True)
class ViewerInstance:
    """One instance in display order; `url` is its WADO-RS resource. A window of its own beats the series'."""

    url: str
    number: int
    rows: int
    columns: int
    frames: int = 1
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class ViewerSeries:
    """`presets` answer keys 1 to 6.

    `window` is the one all instances have by themselves, unless they say another. Where neither says one the server
    fits it to the values, and `guess` is where dragging starts. Both are None for colour, which has no window.
    `negative` is MONOCHROME1: the lowest value is white.
    """

    series_instance_uid: str
    number: int
    modality: str
    description: str
    thumbnail_url: str
    instances: tuple[ViewerInstance, ...]
    window: Window | None = None
    presets: tuple[Window, ...] = ()
    edges: Edges | None = None
    guess: Window | None = None
    negative: bool = False

    @property
    def frame_count(self) -> int:
        return sum(instance.frames for instance in self.instances)


@dataclass(frozen=True, slots=True)
class ViewerModel:
    """One study in the viewer. `label` tells current from prior; `watermark` lies across unproven images."""

    study_instance_uid: str
    label: str
    patient: Patient
    study_description: str
    study_at: datetime | None
    accession_number: str
    series: tuple[ViewerSeries, ...]
    watermark: str = ""
    study_instance_uids: tuple[str, ...] = ()

    @property
    def instance_count(self) -> int:
        return sum(len(series.instances) for series in self.series)
