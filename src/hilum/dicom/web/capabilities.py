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

WADL = "application/vnd.sun.wadl+xml"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

# path, method, what it is called in PS3.18
Resources = Sequence[tuple[str, str, str]]


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
        "resources": [{"path": _path(path), "method": method, "name": name} for path, method, name in resources],
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
        lines.append(f"      <method name={quoteattr(method)} id={quoteattr(name)}/>")
        lines.append("    </resource>")
    return "\n".join([*lines, "  </resources>", "</application>", ""])
