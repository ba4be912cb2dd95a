"""The paper of a waveform as SVG, at true size when printed, and as PNG or JPEG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from html import escape

from PIL import Image, ImageDraw, ImageFont

from hilum.archive.waveform_layout import Paper

PIXELS_PER_MM = 8.0
MAX_SIDE = 8192
THIN, THICK, INK, WORDS = "#f6d5d5", "#e8a3a3", "#101010", "#303030"


def paper_svg(paper: Paper, title: str) -> str:
    """The paper as an SVG document that needs nothing else; `title` is read out where it can't be seen."""
    left, top, right, bottom = paper.grid
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t"',
        f' width="{paper.width:.2f}mm" height="{paper.height:.2f}mm"',
        f' viewBox="0 0 {paper.width:.2f} {paper.height:.2f}">',
        f'<title id="t">{escape(title)}</title>',
        f'<rect width="{paper.width:.2f}" height="{paper.height:.2f}" fill="#fff"/>',
        *(
            f'<path d="{lines}" stroke="{colour}" stroke-width="{width}" fill="none"/>'
            for lines, colour, width in _grid_paths(left, top, right, bottom)
        ),
        f'<g fill="none" stroke="{INK}" stroke-width="0.25" stroke-linejoin="round">',
        *(f'<polyline points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in curve)}"/>' for curve in paper.curves),
        f'</g><g font-family="sans-serif" fill="{WORDS}">',
        *(
            f'<text x="{t.x:.2f}" y="{t.y:.2f}" font-size="{t.size}">{escape(_legal(t.words))}</text>'
            for t in paper.texts
        ),
        "</g></svg>\n",
    ]
    return "".join(parts)


def _legal(words: str) -> str:
    """The words without characters that XML can't hold."""
    return "".join(letter for letter in words if letter.isprintable())


def _grid_paths(left: float, top: float, right: float, bottom: float) -> Iterator[tuple[str, str, float]]:
    thin: list[str] = []
    thick: list[str] = []
    for number, x in _lines(left, right):
        (thick if number % 5 == 0 else thin).append(f"M{x:.2f} {top:.2f}V{bottom:.2f}")
    for number, y in _lines(top, bottom):
        (thick if number % 5 == 0 else thin).append(f"M{left:.2f} {y:.2f}H{right:.2f}")
    yield "".join(thin), THIN, 0.1
    yield "".join(thick), THICK, 0.15


def _lines(first: float, last: float) -> Iterator[tuple[int, float]]:
    for number in range(math.floor(last - first + 1e-6) + 1):
        yield number, first + number


def paper_picture(
    paper: Paper, *, format: str = "png", size: tuple[int, int] | None = None, quality: int = 90
) -> bytes:
    """The paper as PNG or JPEG; `size` is the width and height it must fit in, else 8 pixels are a millimetre."""
    scale = PIXELS_PER_MM
    if size is not None:
        scale = min(size[0] / paper.width, size[1] / paper.height)
    drawn = min(max(scale, 4.0), MAX_SIDE / paper.width, MAX_SIDE / paper.height)
    image = _drawn(paper, drawn)
    if not math.isclose(drawn, scale):
        small = (max(1, round(paper.width * scale)), max(1, round(paper.height * scale)))
        if small[0] < image.width:
            image = image.resize(small, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if format == "png":
        image.save(out, "PNG", compress_level=6, dpi=(scale * 25.4, scale * 25.4))
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _drawn(paper: Paper, scale: float) -> Image.Image:
    image = Image.new("RGB", (max(1, round(paper.width * scale)), max(1, round(paper.height * scale))), "#fff")
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = paper.grid
    for every, colour in ((1, THIN), (5, THICK)):
        for number, x in _lines(left, right):
            if number % every == 0:
                draw.line([(x * scale, top * scale), (x * scale, bottom * scale)], colour)
        for number, y in _lines(top, bottom):
            if number % every == 0:
                draw.line([(left * scale, y * scale), (right * scale, y * scale)], colour)
    width = max(1, round(0.25 * scale))
    for curve in paper.curves:
        draw.line([(x * scale, y * scale) for x, y in curve], INK, width, joint="curve" if width > 2 else None)
    for text in paper.texts:
        font = ImageFont.load_default(text.size * scale)
        draw.text((text.x * scale, text.y * scale), _drawable(text.words), WORDS, font, anchor="ls")
    return image


def _drawable(words: str) -> str:
    """The words as far as the built-in font has their letters; the SVG has them all."""
    return _legal(words).encode("latin-1", "replace").decode("latin-1")
