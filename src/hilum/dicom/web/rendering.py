"""What a request wishes of a rendered resource (PS3.18 8.3.5): window, viewport, quality, refused where they are none.

A parameter that the standard does not know is refused by its name; one that it knows and that is not obeyed here is
named in a Warning, as it asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from hilum.archive.crop import Region
from hilum.archive.voi import Window
from hilum.core.errors import InvalidInput
from hilum.dicom.web.negotiation import MediaRange
from hilum.dicom.web.problems import NotAcceptable

FORMATS = {"image/jpeg": "jpeg", "image/png": "png"}
KNOWN = frozenset({"accept", "charset", "annotation", "window", "viewport", "quality", "iccprofile"})
# PS3.18 8.3.5.1.4
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?(?:[eE][+-]?[0-9]{1,2})?\Z")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SIDE = re.compile(r"[1-9][0-9]{0,4}\Z")
_PLACE = re.compile(r"[0-9]{1,5}\Z")
_EXTENT = re.compile(r"-?[1-9][0-9]{0,4}\Z")


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a rendered resource is wished; `unheeded` are parameters of the standard that are not obeyed."""

    window: Window | None = None
    size: tuple[int, int] | None = None
    region: Region | None = None
    quality: int = 90
    unheeded: tuple[str, ...] = ()

    def warning(self, root: str) -> dict[str, str]:
        """The header field that says what is not obeyed (PS3.18 8.3.5.1)."""
        if not self.unheeded:
            return {}
        return {"warning": f'299 {root} "These parameters are not supported: {", ".join(self.unheeded)}"'}


def read_wishes(parameters: Mapping[str, str]) -> Wishes:
    """The wishes of a request's parameters. Raises InvalidInput with the name of what is wrong."""
    for name in parameters:
        if name not in KNOWN:
            shown = name if _NAME.match(name) else "one of those given"
            raise InvalidInput(f"There is no rendering parameter {shown}.", field=shown)
    size, region = viewport_of(parameters.get("viewport"))
    unheeded = [name for name in ("annotation", "iccprofile") if parameters.get(name, "no") not in ("", "no")]
    return Wishes(
        window_of(parameters.get("window")), size, region, quality_of(parameters.get("quality")), tuple(unheeded)
    )


def image_type(ranges: list[MediaRange], offered: tuple[str, ...] = ("image/jpeg", "image/png")) -> str:
    """Which of the offered types is accepted best; the first of them where all are. Raises NotAcceptable."""
    for wish in ranges:
        for media_type in offered:
            if not wish.multipart and wish.covers(media_type):
                return media_type
    raise NotAcceptable(f"This is rendered as {' or '.join(offered)}.", field="Accept")


def window_of(text: str | None) -> Window | None:
    """`window=CENTER,WIDTH[,FUNCTION]`. Raises InvalidInput."""
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    function = _FUNCTIONS.get(parts[2].lower() if len(parts) == 3 else "linear")
    if len(parts) not in (2, 3) or function is None or not all(_NUMBER.match(part) for part in parts[:2]):
        raise InvalidInput("window is center, width and linear, linear-exact or sigmoid.", field="window")
    return Window(float(parts[0]), float(parts[1]), function)


def viewport_of(text: str | None) -> tuple[tuple[int, int] | None, Region | None]:
    """`viewport=WIDTH,HEIGHT[,X,Y,WIDTH,HEIGHT]`: the box that is filled, and the region of the image that fills it.

    Of the region every number may be left out; a negative width or height flips it. Raises InvalidInput.
    """
    if not text:
        return None, None
    parts = [part.strip() for part in text.split(",")]
    sides, rest = parts[:2], parts[2:]
    places, extents = rest[:2], rest[2:]
    if (
        len(parts) not in (2, 4, 6)
        or not all(_SIDE.match(part) for part in sides)
        or not all(_PLACE.match(part) for part in places if part)
        or not all(_EXTENT.match(part) for part in extents if part)
    ):
        raise InvalidInput(
            "viewport is width and height in pixels, then x, y, width and height of the region.", field="viewport"
        )
    size = int(sides[0]), int(sides[1])
    if not any(rest):
        return size, None
    x, y = (int(part or 0) for part in places)
    width, height = (int(part) if part else None for part in extents or ("", ""))
    return size, Region(x, y, width, height)


def quality_of(text: str | None) -> int:
    """`quality=1` to `100`. Raises InvalidInput."""
    if not text:
        return 90
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise InvalidInput("quality is a number from 1 to 100.", field="quality")
    return int(text)


def parameters_of(request: Request) -> dict[str, str]:
    """The parameters of an address, each once. Raises InvalidInput with the name of one that is given twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            shown = name if _NAME.match(name) else "A parameter"
            raise InvalidInput(f"{shown} is given more than once.", field=shown)
        found[name] = value
    return found
