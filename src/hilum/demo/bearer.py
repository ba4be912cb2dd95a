"""HTTP with a bearer token, as the demo's outside systems use FHIR, DICOMweb and CDS Hooks; standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any

from hilum.demo.play import PATIENCE, POLL, Refused

FHIR, DICOM = "application/fhir+json", "application/dicom+json"


@dataclass(frozen=True)
class Answer:
    """What came back: status, media type and body, and the address it came from after redirects."""

    status: int
    media_type: str
    body: bytes
    address: str


@dataclass(frozen=True)
class Server:
    """One server and the token that speaks for this player; the token goes nowhere else."""

    root: str
    token: str

    def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "*/*") -> Answer:
        """GET a path under the root, or an absolute address that must lead there."""
        address = self._address(path)
        if query:
            address += "?" + urllib.parse.urlencode(query)
        return self._ask(urllib.request.Request(address, headers={"Accept": accept}))  # noqa: S310 - http(s) by _address

    def json(self, path: str, query: Mapping[str, str] | None = None, accept: str = FHIR) -> Any:
        """GET and decode JSON; an empty body (204) is None."""
        answer = self.get(path, query, accept)
        return json.loads(answer.body) if answer.body else None

    def post(self, path: str, content: object, media_type: str = "application/json") -> Any:
        """POST JSON and decode the JSON that answers."""
        headers = {"Accept": media_type, "Content-Type": media_type}
        body = json.dumps(content).encode()
        request = urllib.request.Request(self._address(path), data=body, headers=headers)  # noqa: S310 - as in get
        answer = self._ask(request)
        return json.loads(answer.body) if answer.body else None

    def search(self, resource: str, **parameters: str) -> list[dict[str, Any]]:
        """The resources of a FHIR search, without those included beside them."""
        query = {name.replace("_", "-"): value for name, value in parameters.items()}
        bundle = self.json(f"/fhir/{resource}", query)
        entries = [entry["resource"] for entry in bundle.get("entry", [])]
        return [found for found in entries if found["resourceType"] == resource]

    def dicom(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The matches of a QIDO-RS search."""
        return self.json(f"/dicom-web/{path}", query, DICOM) or []

    def open_link(self, address: str) -> str:
        """Open a page as a browser would; Refused when it asks to log in or shows nothing. Returns where it led."""
        answer = self.get(address, accept="text/html,*/*")
        if "/auth/" in answer.address or "/login" in answer.address:
            raise Refused("the link leads to a login page although a token was shown")
        if len(answer.body) < 100:
            raise Refused("the link leads to an empty page")
        return answer.address

    def _address(self, path: str) -> str:
        if path.startswith("/"):
            return self.root + path
        if not path.startswith(self.root + "/"):
            raise Refused("a link leads to another server")
        return path

    def _ask(self, request: urllib.request.Request) -> Answer:
        """Ask, and again while nobody listens, as a client does across a restart of the server."""
        request.add_header("Authorization", f"Bearer {self.token}")
        what = f"{request.get_method()} {urllib.parse.urlsplit(request.full_url).path}"
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as reply:  # noqa: S310 - as in get
                    media_type = str(reply.headers.get("Content-Type", ""))
                    return Answer(reply.status, media_type, reply.read(), reply.geturl())
            except urllib.error.HTTPError as error:
                raise Refused(f"{what} answered {error.code} {error.reason}") from None
            except OSError as error:
                if time.monotonic() > limit:
                    raise Refused(f"{what}: {getattr(error, 'reason', error)}") from None
                time.sleep(POLL)


def first_part(answer: Answer) -> bytes:
    """The first part of a multipart/related answer (PS3.18 8.7.1), or the body when it is not multipart."""
    if not answer.media_type.startswith("multipart/"):
        return answer.body
    head = f"Content-Type: {answer.media_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    boundary = BytesParser().parsebytes(head).get_boundary()
    if boundary is None:
        raise Refused("a multipart answer without a boundary")
    _, _, after = (b"\r\n" + answer.body).partition(b"\r\n--" + boundary.encode() + b"\r\n")
    part, _, _ = after.partition(b"\r\n--" + boundary.encode())
    return part.partition(b"\r\n\r\n")[2]


def strings(node: Any) -> list[str]:
    """Every string inside a piece of JSON."""
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for child in children for text in strings(child)]


def launch_links(node: Any) -> list[str]:
    """Every link in a piece of JSON that opens images in the viewer."""
    return [text for text in strings(node) if text.startswith("http") and "/viewer/launch" in text and " " not in text]
