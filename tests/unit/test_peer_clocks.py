"""`hilum check` on clocks: of those who speak HTTP, and of modalities; a clock that is right is not spoken of."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fixtures.certificates import Authority
from fixtures.ward import Ward
from hilum.cli.checking_clocks import clock_findings
from hilum.core.identifiers import made_at, new_id
from hilum.security.peer_clocks import HttpPeer, clocks_of
from hilum.settings import Settings
from hilum.storage.store import Store


@contextmanager
def http_peer(
    ahead: timedelta, context: ssl.SSLContext | None = None, pause: float = 0, date: str | None = None
) -> Iterator[int]:
    """A server whose clock is this far ahead; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            time.sleep(pause)
            self.send_response_only(401)
            said = format_datetime(datetime.now(UTC) + ahead, usegmt=True) if date is None else date
            self.send_header("Date", said)
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_peer_that_speaks_http_is_asked_for_its_time_also_where_it_refuses_us(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    held = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.cert, held.key)
    with http_peer(timedelta(hours=1), context) as early, http_peer(timedelta(minutes=-3)) as late:
        found = clocks_of(
            [
                HttpPeer("early", f"https://localhost:{early}/hook", authority.ca),
                HttpPeer("not trusted", f"https://localhost:{early}/hook"),
                HttpPeer("late", f"http://127.0.0.1:{late}"),
            ]
        )
    assert set(found) == {"early", "late"}
    assert abs(found["early"] + timedelta(hours=1)) < timedelta(seconds=2)
    assert abs(found["late"] - timedelta(minutes=3)) < timedelta(seconds=2)


def test_who_is_silent_slow_or_tells_no_time_is_left_out_and_not_waited_for() -> None:
    with http_peer(timedelta(), pause=5) as slow, http_peer(timedelta(), date="noon") as odd:
        began = time.monotonic()
        peers = [HttpPeer("slow", f"http://127.0.0.1:{slow}"), HttpPeer("odd", f"http://127.0.0.1:{odd}")]
        assert clocks_of([*peers, HttpPeer("nobody", "http://127.0.0.1:9")], seconds=0.5) == {}
        assert time.monotonic() - began < 2


def test_destinations_and_providers_whose_clocks_are_off_are_named(tmp_path: Path, sqlite_store: Store) -> None:
    with http_peer(timedelta(minutes=5)) as early, http_peer(timedelta()) as right:
        (tmp_path / "hilum.toml").write_text(
            f'[[destination]]\nname = "hook"\nkind = "webhook"\naddress = "http://127.0.0.1:{early}/in"\n'
            f'[[destination]]\nname = "fine"\nkind = "webhook"\naddress = "http://127.0.0.1:{right}/in"\n'
            f'[[security.oidc]]\nname = "campus"\nissuer = "http://127.0.0.1:{early}"\nclient_id = "hilum"\n'
        )
        said = [found.text for found in clock_findings(sqlite_store, Settings.load(tmp_path))]
    assert len(said) == 2, said
    assert said[0].startswith('The clock of OpenID provider "campus" is ')
    assert said[1].startswith('The clock of destination "hook" is ')
    assert all(text.endswith(" s ahead of ours, by the Date of its answer.") for text in said)


@pytest.mark.parametrize(("off", "which"), [(-300, "behind"), (300, "ahead of"), (-5, "")])
def test_a_modality_whose_clock_is_off_is_named_by_the_start_of_its_exams(
    tmp_path: Path, sqlite_store: Store, off: int, which: str
) -> None:
    ward = Ward(sqlite_store)
    now = datetime.now(UTC)
    # One exam that was told of long after it: the quickest counts.
    for number, seconds in enumerate((off, -4000)):
        ward.start(uid=f"1.2.{number}", started_at=now + timedelta(seconds=seconds))
    said = [found.text for found in clock_findings(sqlite_store, Settings.load(tmp_path))]
    assert [which in text and "MPPS" in text for text in said] == ([True] if which else [])


def test_an_identifier_tells_when_it_was_made() -> None:
    assert abs(made_at(new_id()) - datetime.now(UTC)) < timedelta(seconds=2)
