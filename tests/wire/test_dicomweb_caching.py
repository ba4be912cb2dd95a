"""What DICOMweb lets clients keep, fetch in pieces and reach by links: ranges, ETags, gzip and the public origin."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
import requests

from fixtures.dicom_files import part10_bytes
from fixtures.dicomweb_server import JSON, Archive, open_archive, path_of
from hilum.dicom.web.negotiation import takes_gzip
from hilum.dicom.web.origin import public_root
from hilum.serve.http_server import behind_proxies
from hilum.settings.sections import HttpSettings
from hilum.storage.store import Store

ALONE = {"Accept": "application/dicom"}


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door, behind a proxy on this machine."""
    with open_archive(sqlite_store, tmp_path / "home", 'trusted_proxies = ["127.0.0.0/8"]') as opened:
        yield opened


@pytest.fixture
def unproxied(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door as the settings stand without a word."""
    with open_archive(sqlite_store, tmp_path / "plain") as opened:
        yield opened


def test_an_instance_is_fetched_in_ranges_and_put_together_again(archive: Archive) -> None:
    path = path_of(archive.scan())
    whole = archive.fetch(path, headers=ALONE)
    assert whole.headers["accept-ranges"] == "bytes" and whole.headers["content-length"] == str(len(whole.content))
    size = len(whole.content)
    got = b""
    for begin in range(0, size, 300):
        part = archive.fetch(path, status=206, headers={**ALONE, "Range": f"bytes={begin}-{begin + 299}"})
        last = min(begin + 299, size - 1)
        assert part.headers["content-range"] == f"bytes {begin}-{last}/{size}"
        got += part.content
    assert got == whole.content
    refused = archive.fetch(path, status=416, headers={**ALONE, "Range": f"bytes={size}-"})
    assert refused.headers["content-range"] == f"bytes */{size}"
    etag = whole.headers["etag"]
    archive.fetch(path, status=206, headers={**ALONE, "Range": "bytes=0-1", "If-Range": etag})
    archive.fetch(path, status=200, headers={**ALONE, "Range": "bytes=0-1", "If-Range": '"an older one"'})


def test_bytes_that_cannot_change_are_immutable_and_what_can_is_asked_again(archive: Archive) -> None:
    image = archive.scan()
    for what in ("/frames/1", "/bulkdata/pixeldata", "/rendered"):
        answer = archive.fetch(path_of(image) + what)
        assert "immutable" in answer.headers["cache-control"] and "private" in answer.headers["cache-control"]
        held = archive.fetch(path_of(image) + what, status=304, headers={"If-None-Match": answer.headers["etag"]})
        assert held.content == b""
        archive.fetch(path_of(image) + what, status=200, headers={"If-None-Match": '"another"'})
        archive.fetch(path_of(image) + what, "auditor", 403, headers={"If-None-Match": answer.headers["etag"]})
    for what in ("/studies", f"{path_of(image)}/metadata"):
        assert archive.fetch(what, headers=JSON).headers["cache-control"] == "private, no-cache"
    assert archive.fetch(path_of(image)).headers["cache-control"] == "private, no-cache"


def test_a_long_list_is_zipped_for_who_reads_gzip(archive: Archive) -> None:
    for number in range(2):
        archive.scan(StudyDescription=f"{number} " + "long " * 12, InstitutionName="General")
    first = archive.scan()
    for number in range(30):
        archive.scan(StudyInstanceUID=first.StudyInstanceUID, InstanceNumber=number)
    zipped = archive.fetch("/instances", headers=JSON)
    assert zipped.headers["content-encoding"] == "gzip" and len(zipped.json()) == 33
    plain = archive.fetch("/instances", headers={**JSON, "Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers and plain.json() == zipped.json()
    raw = requests.get(archive.dicomweb + "/instances", headers={**JSON, "X-Asker": "radiologist"}, stream=True)
    assert gzip.decompress(raw.raw.read(decode_content=False)) == plain.content


@pytest.mark.parametrize(
    ("header", "taken"),
    [("gzip", True), ("GZIP, deflate, br", True), ("br;q=1.0, gzip;q=0.8", True), ("*", True), ("", False),
     ("identity", False), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False), ("*;q=0", False)],
)  # fmt: skip
def test_gzip_goes_to_who_reads_it(header: str, taken: bool) -> None:
    request: Any = SimpleNamespace(headers={"accept-encoding": header})
    assert takes_gzip(request) is taken


FORWARDED = [
    ({"Forwarded": 'for=1.2.3.4;proto=https;host="pacs.example:444"'}, "https://pacs.example:444"),
    ({"Forwarded": "host=a.example;proto=https, host=b.example;proto=http"}, "https://a.example"),
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example"}, "https://pacs.example"),
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "p.example", "X-Forwarded-Port": "8443"},
     "https://p.example:8443"),
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "p.example:1", "X-Forwarded-Port": "443"}, "https://p.example"),
    ({"X-Forwarded-Host": "p.example", "X-Forwarded-Prefix": "/imaging/pacs/"}, "http://p.example/imaging/pacs"),
    ({"Forwarded": "host=a.example", "X-Forwarded-Host": "b.example"}, "http://a.example"),
]  # fmt: skip
UNUSABLE = [
    {"Forwarded": 'host="a b/../x"'}, {"X-Forwarded-Host": "evil/x"}, {"X-Forwarded-Proto": "javascript"},
    {"X-Forwarded-Port": "1;x"}, {"X-Forwarded-Prefix": "//evil.example"}, {"X-Forwarded-Prefix": "/a/../b"},
    {"X-Forwarded-Prefix": '/"><script>'},
]  # fmt: skip


def test_links_point_where_a_trusted_proxy_says(archive: Archive) -> None:
    image = archive.scan()
    for headers, root in FORWARDED:
        linked(archive, image, headers, root)


def linked(archive: Archive, image: pydicom.Dataset, headers: dict[str, str], root: str) -> None:
    """Check that every link of an answer to these headers begins with a root."""
    (found,) = archive.fetch(f"{path_of(image)}/metadata", headers={**JSON, **headers}).json()
    assert found["7FE00010"]["BulkDataURI"] == f"{root}/dicom-web{path_of(image)}/bulkdata/pixeldata"
    (study,) = archive.fetch("/studies", headers={**JSON, **headers}).json()
    assert study["00081190"]["Value"] == [f"{root}/dicom-web{path_of(image, 'study')}"]
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10_bytes(image) + b"\r\n--b--\r\n"
    sent = {**headers, "Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    kept = archive.ask("POST", "/dicom-web/studies", "technologist", 200, data=body, headers=sent).json()
    assert kept["00081190"]["Value"][0].startswith(f"{root}/dicom-web/studies/")


def test_who_is_no_trusted_proxy_turns_no_link(archive: Archive, unproxied: Archive) -> None:
    image = unproxied.scan()
    for headers, _ in FORWARDED:
        (found,) = unproxied.fetch(f"{path_of(image)}/metadata", headers={**JSON, **headers}).json()
        assert found["7FE00010"]["BulkDataURI"].startswith(unproxied.dicomweb + "/studies/"), headers
    for headers in UNUSABLE:
        (found,) = archive.fetch(f"{path_of(image)}/metadata", headers={**JSON, **headers}).json()
        assert found["7FE00010"]["BulkDataURI"].startswith(archive.dicomweb + "/studies/"), headers


def test_the_public_url_goes_before_every_header_and_a_far_peer_is_known_by_its_own_address() -> None:
    def asked(peer: str, http: HttpSettings, client: str = "203.0.113.9") -> str:
        url = SimpleNamespace(scheme="http")
        scope = {"peer": (peer, 1), "client": (client, 1), "server": ("10.0.0.5", 8080)}
        headers = {"host": "inner:8080", "x-forwarded-host": "outer.example"}
        request: Any = SimpleNamespace(headers=headers, url=url, scope=scope)
        return public_root(request, http)

    behind = HttpSettings(trusted_proxies=("10.0.0.0/8",))
    assert asked("10.1.2.3", behind) == "http://outer.example"
    assert asked("192.0.2.1", behind, client="10.1.2.3") == "http://inner:8080", "the client's address proves nothing"
    assert asked("10.1.2.3", HttpSettings(public_url="https://pacs.example/x")) == "https://pacs.example/x"


@pytest.mark.parametrize(
    ("trusted", "peer", "client"),
    [(("10.0.0.0/8",), "10.9.9.9", "198.51.100.7"), (("10.0.0.0/8",), "127.0.0.1", "127.0.0.1"),
     ((), "127.0.0.1", "127.0.0.1")],
)  # fmt: skip
def test_for_whom_a_proxy_asks_is_believed_of_a_trusted_one_alone(
    trusted: tuple[str, ...], peer: str, client: str
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "http", "client": (peer, 5), "headers": [(b"x-forwarded-for", b"198.51.100.7")], "scheme": "http"}
    asyncio.run(behind_proxies(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    assert seen[0]["client"][0] == client
    assert seen[0].get("peer", scope["client"])[0] == peer
