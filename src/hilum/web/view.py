"""Models to HTML: one environment with autoescape on, strict about names, knowing the facility's zone and clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from hilum.web import times, urls
from hilum.web.assets import load_assets
from hilum.web.differences import previous_version, section_changes
from hilum.web.models import ViewerModel
from hilum.web.timeline import draw


@dataclass(frozen=True, slots=True)
class View:
    """Renders templates for one facility. Share one between requests; it holds nothing of any of them."""

    zone: ZoneInfo
    clock: Callable[[], datetime]
    _environment: Environment = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_environment", _environment(self.zone))

    def render(self, template: str, model: object) -> str:
        """The template's HTML with `model` as `page` in it and one `now` for all its relative times."""
        return self._environment.get_template(template).render(page=model, now=self.clock())


def _environment(zone: ZoneInfo) -> Environment:
    environment = Environment(
        loader=PackageLoader("hilum.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clock=partial(times.clock, zone=zone),
        full=partial(times.full_text, zone=zone),
        duration=times.duration_text,
        day=_day,
        moment=pass_context(partial(_moment, zone=zone)),
        ago=pass_context(_ago),
        waited=pass_context(_waited),
        age=pass_context(partial(_age, zone=zone)),
    )
    environment.globals.update(
        urls=urls,
        asset=load_assets().url,
        drawing=draw,
        section_changes=section_changes,
        previous_version=previous_version,
        viewer_data=viewer_data,
    )
    return environment


def viewer_data(model: ViewerModel) -> dict[str, Any]:
    """What the viewer's script reads: series and instance URLs, sizes, windows. Text it draws comes from the page."""
    return {
        "study": model.study_instance_uid,
        "watermark": model.watermark,
        "series": [asdict(series) for series in model.series],
    }


def _day(value: date | None) -> str:
    return value.isoformat() if value else "unknown"


def _moment(context: Context, moment: datetime, zone: ZoneInfo) -> str:
    return times.moment_text(moment, zone, context["now"])


def _ago(context: Context, moment: datetime) -> str:
    return times.ago_text(moment, context["now"])


def _waited(context: Context, moment: datetime) -> str:
    return times.duration_text(max(context["now"] - moment, timedelta()))


def _age(context: Context, born: date | None, zone: ZoneInfo) -> str:
    return times.age_text(born, times.in_zone(context["now"], zone).date())
