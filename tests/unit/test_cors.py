"""Pages of other origins read what the settings let them, and nothing where no setting is: preflights and answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import NotAuthenticated
from hilum.serve.gate import Gate
from hilum.serve.identity import Identified
from hilum.settings import Configuration
from hilum.settings.errors import SettingsError

VIEWER, STRANGER = "https://viewer.example", "https://evil.example"
STUDIES = "/dicom-web/studies"


class Tokens:
    """Knows one token."""

    def identify(self, headers: dict[str, str], door: Door, address: str) -> Identified:
        if headers.get("authorization") != "Bearer right":
            raise NotAuthenticated
        return Identified(Actor("viewer", Role.SERVICE, ActorKind.SERVICE, door))

    def csrf_token(self, session: str) -> str:
        return ""


def ask(home: Path, settings: str, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Ask the gate; status and header fields of the answer."""
    home.mkdir(exist_ok=True)
    (home / "hilum.toml").write_text(f'[http]\nbind = "127.0.0.1:8080"\n{settings}')
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(b"[]", headers={"vary": "Accept", "etag": '"1"'})(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    gate = Gate(app, Tokens(), Configuration(home))  # type: ignore[arg-type]
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": fields,
             "client": ("127.0.0.1", 1), "scheme": "http", "server": ("127.0.0.1", 8080)}  # fmt: skip
    asyncio.run(gate(scope, receive, send))
    start = sent[0]
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}


def sharing(headers: dict[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("access-control-")}


NAMED = f'cors_origins = ["{VIEWER}"]\n'
PREFLIGHT = {"access_control_request_method": "GET", "access_control_request_headers": "authorization"}


def test_a_named_origin_asks_before_and_then_reads_by_its_token(tmp_path: Path) -> None:
    status, headers = ask(tmp_path / "h", NAMED, "OPTIONS", STUDIES, origin=VIEWER, **PREFLIGHT)
    assert status == 204 and headers["access-control-allow-origin"] == VIEWER
    assert (
        "authorization" in headers["access-control-allow-headers"] and "GET" in headers["access-control-allow-methods"]
    )
    assert "access-control-allow-credentials" not in headers and "Origin" in headers["vary"]
    status, headers = ask(tmp_path / "h", NAMED, "GET", STUDIES, origin=VIEWER, authorization="Bearer right")
    assert status == 200 and headers["access-control-allow-origin"] == VIEWER
    assert headers["cross-origin-resource-policy"] == "cross-origin" and headers["vary"] == "Accept, Origin"
    assert "warning" in headers["access-control-expose-headers"] and "link" in headers["access-control-expose-headers"]
    status, headers = ask(tmp_path / "h", NAMED, "GET", STUDIES, origin=VIEWER)
    assert status == 401 and headers["access-control-allow-origin"] == VIEWER, "the page may read why it was refused"


@pytest.mark.parametrize(
    "origin", [STRANGER, "null", VIEWER + ":444", "http://viewer.example", VIEWER.upper(), VIEWER + "/"]
)
def test_any_other_origin_gets_nothing(tmp_path: Path, origin: str) -> None:
    status, headers = ask(tmp_path / "h", NAMED, "OPTIONS", STUDIES, origin=origin, **PREFLIGHT)
    assert status == 401 and not sharing(headers)
    status, headers = ask(tmp_path / "h", NAMED, "GET", STUDIES, origin=origin, authorization="Bearer right")
    assert status == 200 and not sharing(headers), "the browser keeps it from the page"
    assert headers["cross-origin-resource-policy"] == "same-origin" and "Origin" in headers["vary"]


@pytest.mark.parametrize("origin", [VIEWER, STRANGER])
def test_without_a_setting_nothing_is_shared(tmp_path: Path, origin: str) -> None:
    status, headers = ask(tmp_path / "h", "", "OPTIONS", STUDIES, origin=origin, **PREFLIGHT)
    assert status == 401 and not sharing(headers)
    _, headers = ask(tmp_path / "h", "", "GET", STUDIES, origin=origin, authorization="Bearer right")
    assert not sharing(headers) and headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/auth/login", "/audit", "/metrics", "/dicom-webx", "/viewer/"])
def test_the_pages_are_never_shared(tmp_path: Path, path: str) -> None:
    for method, more in (("OPTIONS", PREFLIGHT), ("GET", {"authorization": "Bearer right"})):
        _, headers = ask(tmp_path / "h", NAMED, method, path, origin=VIEWER, **more)
        assert not sharing(headers), (path, method)


def test_a_login_is_sent_along_only_where_the_setting_says_so(tmp_path: Path) -> None:
    settings = NAMED + "cors_credentials = true\n"
    for method, more in (("OPTIONS", PREFLIGHT), ("GET", {"authorization": "Bearer right"})):
        _, headers = ask(tmp_path / "h", settings, method, STUDIES, origin=VIEWER, **more)
        assert headers["access-control-allow-credentials"] == "true"
        _, headers = ask(tmp_path / "h", settings, method, STUDIES, origin=STRANGER, **more)
        assert not sharing(headers)


@pytest.mark.parametrize("origin", ["*", "null", "viewer.example", "https://viewer.example/", "https://VIEWER.example",
                                    "https://a@viewer.example", "ftp://viewer.example", ""])  # fmt: skip
def test_what_is_no_origin_is_no_setting(tmp_path: Path, origin: str) -> None:
    with pytest.raises(SettingsError):
        ask(tmp_path / "h", f'cors_origins = ["{origin}"]\n', "GET", STUDIES)
