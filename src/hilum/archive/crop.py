"""A region of a rendered picture, flipped where asked, fitted into a size (PS3.18 8.3.5.1.3)."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from hilum.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image in its pixels; without a width or height, up to the edge; negative ones mean flipped."""

    x: int = 0
    y: int = 0
    width: int | None = None
    height: int | None = None


def cropped(picture: bytes, region: Region, size: tuple[int, int] | None, format: str, quality: int) -> bytes:
    """The region of a picture that we rendered ourselves, as PNG or JPEG. Raises InvalidInput beyond its edges."""
    image = Image.open(io.BytesIO(picture))
    width = image.width - region.x if region.width is None else region.width
    height = image.height - region.y if region.height is None else region.height
    right, bottom = region.x + abs(width), region.y + abs(height)
    if not (width and height and right <= image.width and bottom <= image.height):
        raise InvalidInput("The region lies beyond the image.", field="viewport")
    part = image.crop((region.x, region.y, right, bottom))
    if width < 0:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        part = part.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if size is not None:
        scale = min(size[0] / part.width, size[1] / part.height)
        part = part.resize(
            (max(1, round(part.width * scale)), max(1, round(part.height * scale))), Image.Resampling.BILINEAR
        )
    out = io.BytesIO()
    if format == "png":
        part.save(out, "PNG", compress_level=4)
    else:
        part.save(out, "JPEG", quality=quality)
    return out.getvalue()
