"""What the DICOMweb door can do, as WADL (PS3.18 8.9) or as JSON, made from its own table of routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import orjson
from starlette.requests import Request
from starlette.responses import Response

from hilum.dicom.web.door import Door
from hilum.dicom.web.negotiation import accepted
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.query import CONTROL, MATCHABLE
from hilum.dicom.web.rendering import KNOWN as RENDERING
from hilum.dicom.web.wado_uri import KNOWN as WADO_URI

WADL = "application/vnd.sun.wadl+xml"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

# path, method, what it is called in PS3.18
Resources = Sequence[tuple[str, str, str]]
_MULTIPART = 'multipart/related; type="{}"'
_PICTURES = ("image/jpeg", "image/png")
MODEL = ("application/dicom+json", "application/json", _MULTIPART.format("application/dicom+xml"))
# What a resource sends, by the beginning of its name; the first that fits.
SENT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "RetrieveRendered",
        (*_PICTURES, "image/svg+xml", "text/html", "text/xml", "application/pdf", "video/*", "model/*"),
    ),
    ("RetrieveInstanceByURI", (*_PICTURES, "application/dicom", "text/html", "application/pdf")),
    ("RetrieveFrames", (_MULTIPART.format("application/octet-stream"), _MULTIPART.format("image/*"))),
    ("RetrieveBulkData", (_MULTIPART.format("application/octet-stream"), "application/octet-stream")),
    ("Store", ("application/dicom+json", "application/dicom+xml")),
    ("Search", MODEL),
)
TAKEN = tuple(_MULTIPART.format(kind) for kind in ("application/dicom", "application/dicom+json"))
LEVELS = {"Studies": "study", "Series": "series", "Instances": "instance"}


def sent_by(name: str) -> tuple[str, ...]:
    """The media types that a resource answers with."""
    if name.startswith("Delete"):
        return ()
    if name.endswith("Metadata"):
        return MODEL
    if name.endswith("Thumbnail"):
        return _PICTURES
    plain = (_MULTIPART.format("application/dicom"), "application/dicom", "application/zip")
    return next((types for beginning, types in SENT if name.startswith(beginning)), plain)


def parameters_of(name: str) -> tuple[str, ...]:
    """The parameters that a resource's address takes."""
    if name.startswith("SearchFor"):
        level = next(level for word, level in LEVELS.items() if name.endswith(word))
        return (*sorted(CONTROL), *sorted(MATCHABLE[level]))
    if name.startswith("Delete"):
        return ("reason",)
    if name == "RetrieveInstanceByURI":
        return tuple(sorted(WADO_URI))
    return tuple(sorted(RENDERING)) if "Rendered" in name or "Thumbnail" in name else ()


def capabilities(door: Door, resources: Resources) -> Callable[[Request], Response]:
    """The endpoint that describes these resources."""

    def describe(request: Request) -> Response:
        """`OPTIONS` and `GET` of the root."""
        root = door.root(request)
        for wish in accepted(request):
            if wish.covers(WADL) or wish.covers("application/xml"):
                return Response(_wadl(root, resources), media_type=WADL)
            if wish.covers("application/json") or wish.covers("application/dicom+json"):
                return Response(orjson.dumps(_document(root, resources)), media_type="application/json")
        raise NotAcceptable("Capabilities are sent as WADL or JSON.", field="Accept")

    return describe


def _path(path: str) -> str:
    return _PARAMETER.sub(r"{\1}", path)


def _document(root: str, resources: Resources) -> dict[str, Any]:
    return {
        "base": root,
        "resources": [
            {
                "path": _path(path),
                "method": method,
                "name": name,
                "parameters": parameters_of(name),
                "accepts": TAKEN if name.startswith("Store") else (),
                "sends": sent_by(name),
            }
            for path, method, name in resources
        ],
    }


def _wadl(root: str, resources: Resources) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<application xmlns="http://wadl.dev.java.net/2009/02">',
        f"  <resources base={quoteattr(root)}>",
    ]
    for path, method, name in resources:
        lines.append(f"    <resource path={quoteattr(_path(path).lstrip('/'))}>")
        lines += [
            f'      <param name={quoteattr(parameter)} style="template"/>' for parameter in _PARAMETER.findall(path)
        ]
        lines += [f"      <method name={quoteattr(method)} id={quoteattr(name)}>", "        <request>"]
        lines += [f'          <param name={quoteattr(each)} style="query"/>' for each in parameters_of(name)]
        if name.startswith("Store"):
            lines += [f"          <representation mediaType={quoteattr(kind)}/>" for kind in TAKEN]
        lines += ["        </request>", "        <response>"]
        lines += [f"          <representation mediaType={quoteattr(kind)}/>" for kind in sent_by(name)]
        lines += ["        </response>", "      </method>"]
        lines.append("    </resource>")
    return "\n".join([*lines, "  </resources>", "</application>", ""])
