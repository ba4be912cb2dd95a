"""A department under attack: raw sockets, signed-in browsers, and what must hold after each attack.

Nothing here imports `hilum`: an attacker has sockets only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import requests

from fixtures.department import Department, Patient, Placed, next_numbers

MIB = 1024 * 1024
PASSWORD = "correct horse staple 9"
# What all roles together may grow by under attack: a few instances in flight, never a body, a bomb or a list of them.
GROWTH = 250 * MIB
ROLES = ("http", "dicom", "hl7", "worker")
SCRIPTS = ("<img src=x onerror=alert(1)>", '"><script>alert(2)</script>', "{{7*7}}${7*7}", "'-alert(3)-'")


@dataclass
class Person:
    """Someone signed in by the form, with the token of their pages."""

    root: str
    session: requests.Session
    csrf: str

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(self.root + path, timeout=30, **more)

    def post(self, path: str, data: dict[str, str], **more: Any) -> requests.Response:
        more.setdefault("allow_redirects", False)
        return self.session.post(self.root + path, data={"csrf_token": self.csrf, **data}, timeout=30, **more)


@dataclass
class Besieged:
    """The department, its people, and a patient with a whole exam."""

    department: Department
    placed: Placed
    people: dict[str, Person] = field(default_factory=dict)
    # What a test may make the roles grow by at its worst moment; each test begins with GROWTH.
    allowed: int = GROWTH

    @property
    def http(self) -> str:
        return self.department.http

    @property
    def port(self) -> int:
        return int(self.http.rpartition(":")[2])

    def person(self, name: str, role: str = "radiologist") -> Person:
        """A signed-in person, made at the first use."""
        if name not in self.people:
            self.department.add_user(name, role, password=PASSWORD)
            self.people[name] = sign_in(self.http, name)
        return self.people[name]

    def ask(self, method: str, path: str, who: str = "service", **more: Any) -> requests.Response:
        """A request with a token whose path is sent as it is written here."""
        headers = {"Authorization": f"Bearer {self.department.token(who)}", **more.pop("headers", {})}
        request = requests.Request(method, self.http + "/", headers=headers, **more).prepare()
        query = request.url.partition("?")[2] if request.url else ""
        request.url = self.http + path + (f"?{query}" if query else "")
        with requests.Session() as session:
            return session.send(request, timeout=30, allow_redirects=False)

    def raw(self, data: bytes, wait: float = 10.0) -> bytes:
        """Send bytes to the HTTP port and read until the server closes or says no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            answer = b""
            try:
                while data := connection.recv(65536):
                    answer += data
                    connection.settimeout(0.5)
            except (TimeoutError, ConnectionResetError):
                pass
            return answer

    def memory(self) -> int:
        """RSS of all roles and what they started."""
        return sum(self.memory_of_roles().values())

    def memory_of_roles(self) -> dict[str, int]:
        """RSS of each role with what it started."""
        found: dict[str, int] = {}
        for process in psutil.Process(self.department.process.pid).children():  # type: ignore[union-attr]
            try:
                name = next((role for role in ROLES if role in process.cmdline()), "other")
                every = (process, *process.children(recursive=True))
                found[name] = found.get(name, 0) + sum(each.memory_info().rss for each in every)
            except psutil.NoSuchProcess:
                continue
        return found

    def failures(self, since: int) -> list[str]:
        """Lines of the log from a position on that speak of a defect; each line must be JSON of its own."""
        found = []
        for line in self.log()[since:].splitlines():
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except ValueError:
                found.append(line)
                continue
            if event.get("level") in ("error", "critical") or "exception" in event:
                found.append(line)
        return found

    def log(self) -> str:
        return (self.department.home / "server.log").read_text(encoding="utf-8")

    def still_works(self) -> None:
        """A registration, an order and a page; whatever happened before."""
        patient = Patient(next_numbers(1)[0])
        self.department.register(patient)
        self.department.place(patient)
        assert self.ask("GET", "/fhir/metadata").status_code == 200


class Watch:
    """Notes the most that each role held while it ran."""

    def __init__(self, target: Besieged) -> None:
        self.before = target.memory_of_roles()
        self.most = dict(self.before)
        self._target = target
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for role, held in self._target.memory_of_roles().items():
                self.most[role] = max(self.most.get(role, 0), held)

    def end(self) -> dict[str, int]:
        """Stop, and give by how much each role grew at its worst moment."""
        self._over.set()
        self._thread.join()
        return {role: held - self.before.get(role, 0) for role, held in self.most.items()}


def sign_in(root: str, name: str, password: str = PASSWORD) -> Person:
    session = requests.Session()
    form = session.get(f"{root}/auth/login", timeout=30)
    answer = session.post(
        f"{root}/auth/login",
        timeout=30,
        allow_redirects=False,
        data={"csrf_token": csrf_of(form.text), "user_name": name, "password": password, "next": "/"},
    )
    assert answer.status_code == 303, answer.text
    return Person(root, session, csrf_of(session.get(f"{root}/", timeout=30).text))


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def status_of(answer: bytes) -> int:
    """The status of a raw answer; 0 where the connection was closed without one."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def eventually_idle(seconds: float = 0.5) -> None:
    time.sleep(seconds)


def full_size() -> bool:
    """Whether `make soak` runs."""
    return os.environ.get("HILUM_SOAK") == "full"
