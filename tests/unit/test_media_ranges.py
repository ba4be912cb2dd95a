"""What a client accepts, read by RFC 9110 12.5.1 and PS3.18 8.7: each row is a header and what follows from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hilum.dicom.web.frames import frame_form
from hilum.dicom.web.negotiation import accepted, media_ranges, model_type
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.rendering import image_type

EXPLICIT, JLS, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
REFUSED = "406"


def request(header: str | None = None, parameter: str | None = None) -> Any:
    headers = {} if header is None else {"accept": header}
    return SimpleNamespace(headers=headers, query_params={} if parameter is None else {"accept": parameter})


@pytest.mark.parametrize(
    ("header", "media_type"),
    [(None, "application/dicom+json"), ("", "application/dicom+json"), ("*/*", "application/dicom+json"),
     ("application/json", "application/json"), ("application/dicom+json", "application/dicom+json"),
     ("application/*", "application/dicom+json"),
     ("application/json, application/dicom+json;q=0.9", "application/json"),
     ("application/dicom+json;q=0.1, application/json;q=0.2", "application/json"),
     ("text/html, application/xhtml+xml, */*;q=0.8", "application/dicom+json"),
     ("APPLICATION/DICOM+JSON", "application/dicom+json"), (" application/json ;q=1", "application/json"),
     ("application/dicom+json;q=0, */*", "application/json"), ("application/dicom+json;q=0", REFUSED),
     ("application/*;q=0, */*", REFUSED), ("text/html", REFUSED), ("application/dicom+xml", "application/dicom+xml"),
     ('multipart/related; type="application/dicom+xml"', "application/dicom+xml"),
     ('multipart/related; type="application/dicom+xml", application/dicom+json;q=0.5', "application/dicom+xml"),
     ("application/dicom+xml;q=0.1, application/json", "application/json"),
     ("multipart/related; type=text/xml", REFUSED), ("image/jpeg, image/*", REFUSED),
     (";;;", "application/dicom+json"), ("nonsense", "application/dicom+json"),
     (",, application/json", "application/json"),
     ("nonsense, application/json", "application/json"), ("*/*;q=x", "application/dicom+json"),
     ("application/json;charset=utf-8", "application/json"),
     ('application/json;v="a,b", text/html', "application/json")],
)  # fmt: skip
def test_a_list_is_sent_in_the_form_that_is_liked_best(header: str | None, media_type: str) -> None:
    if media_type == REFUSED:
        with pytest.raises(NotAcceptable):
            model_type(accepted(request(header)))
    else:
        assert model_type(accepted(request(header))) == media_type


@pytest.mark.parametrize(
    ("header", "stored", "part_type", "decoded"),
    [("*/*", JLS, "image/jls", False), ("*/*", EXPLICIT, "application/octet-stream", False),
     ("multipart/related", JLS, "image/jls", False), ("multipart/*", JLS, "image/jls", False),
     ("multipart/related; type=application/octet-stream; transfer-syntax=*", JLS, "application/octet-stream", False),
     ('multipart/related; type="application/octet-stream"; transfer-syntax="*"', JLS,
      "application/octet-stream", False),
     ('multipart/related;type="application/octet-stream"', JLS, "application/octet-stream", True),
     (f'multipart/related; type="application/octet-stream"; transfer-syntax={EXPLICIT}', JLS,
      "application/octet-stream", True),
     (f"multipart/related; type=image/jls; transfer-syntax={JLS}", JLS, "image/jls", False),
     (f"multipart/related; transfer-syntax={JLS}; type=image/jls", JLS, "image/jls", False),
     ("multipart/related; type=image/*", JLS, "image/jls", False), ("application/octet-stream", JLS,
      "application/octet-stream", True), ("multipart/related; type=image/jxl, */*;q=0.1", JLS, "image/jls", False),
     (f"multipart/related; type=image/jls; transfer-syntax={J2K}", JLS, REFUSED, False),
     ("multipart/related; type=image/jxl", JLS, REFUSED, False), ("application/dicom+json", JLS, REFUSED, False),
     ('multipart/related; type="image/jls"; q=0.3, multipart/related; type="application/octet-stream"; q=0.7', JLS,
      "application/octet-stream", True)],
)  # fmt: skip
def test_frames_are_sent_in_the_form_that_is_liked_best(
    header: str, stored: str, part_type: str, decoded: bool
) -> None:
    ranges = accepted(request(header))
    if part_type == REFUSED:
        with pytest.raises(NotAcceptable):
            frame_form(ranges, stored)
    else:
        _, sent, syntax = frame_form(ranges, stored)
        assert (sent, syntax) == (part_type, EXPLICIT if decoded else stored)


@pytest.mark.parametrize(
    ("header", "parameter", "media_type"),
    [("image/png", None, "image/png"), ("image/png", "image/jpeg", "image/jpeg"), ("*/*", "image/png", "image/png"),
     ("image/jpeg;q=0, image/*", None, "image/png"), ("image/jpeg;q=0.2, image/*;q=0.8", None, "image/png"),
     ("image/jpeg;q=0.9, */*;q=0.1", None, "image/jpeg"),
     ("image/webp, image/apng, image/*, */*;q=0.8", None, "image/jpeg"),
     (None, "image/gif", REFUSED), ("image/gif", None, REFUSED), ("image/*;q=0, */*;q=0.5", None, REFUSED),
     (None, "nonsense", "image/jpeg"), ("text/html", "nonsense", REFUSED)],
)  # fmt: skip
def test_pictures_are_sent_as_header_and_parameter_say(
    header: str | None, parameter: str | None, media_type: str
) -> None:
    ranges = accepted(request(header, parameter))
    if media_type == REFUSED:
        with pytest.raises(NotAcceptable):
            image_type(ranges)
    else:
        assert image_type(ranges) == media_type


def test_who_accepts_nothing_is_sent_nothing() -> None:
    (nothing,) = accepted(request("image/png;q=0, text/html;q=0.0"))
    assert not any(nothing.covers(each) for each in ("image/png", "image/jpeg", "application/dicom", "*/*"))


@pytest.mark.parametrize(
    "text", ["a/b;" * 3000, "a/b," * 3000, '"' * 5000, "a/b;x=" + '"' * 4000, "*/*;q=" + "9" * 4000]
)
def test_a_hostile_header_is_read_in_time(text: str) -> None:
    assert len(media_ranges(text)) <= 4096
