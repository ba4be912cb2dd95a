"""How the conductor and its players talk: one JSON object a line over stdin and stdout, a question and its answer.

A question is `{"do": verb, …}`; an answer `{"ok": true, "result": …}` or `{"ok": false, "why": sentence}`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

T = TypeVar("T")
PATIENCE = 15.0  # seconds that anything in the play may take
POLL = 0.03


class Refused(Exception):
    """The other side, or a check, said no; the message is one sentence."""


def perform(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """A player's loop: answer each line of stdin until it ends."""
    stage = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not be taken for an answer
    for line in sys.stdin:
        question = json.loads(line)
        try:
            result = verbs[question.pop("do")](**question)
            answer = {"ok": True, "result": result}
        except Exception as error:  # noqa: BLE001 - the conductor is told, and names the link
            answer = {"ok": False, "why": str(error) or type(error).__name__}
        stage.write(json.dumps(answer) + "\n")
        stage.flush()


class Player:
    """A process of the play as the conductor sees it."""

    def __init__(self, name: str, **begin: Any) -> None:
        self.name = name
        own = {key: value for key, value in os.environ.items() if not key.startswith("HILUM_")}  # nobody else's tokens
        command = [sys.executable, "-m", f"hilum.demo.{name}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        self.ask("begin", **begin)

    def ask(self, verb: str, /, within: float = 3 * PATIENCE, **arguments: Any) -> Any:
        """Put a question and wait for its answer; raises Refused with the player's sentence."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=within)
        except (OSError, queue.Empty):
            raise Refused(f"the {self.name} process did not answer to '{verb}'") from None
        if not line:
            raise Refused(f"the {self.name} process ended")
        answer = json.loads(line)
        if not answer["ok"]:
            raise Refused(f"{self.name}: {answer['why']}")
        return answer["result"]

    def leave(self) -> None:
        """End the process: closing its stdin ends its loop."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            self._answers.put(line)
        self._answers.put("")


def eventually(probe: Callable[[], T | None], otherwise: str, within: float = PATIENCE) -> T:
    """Ask until there is an answer that is not None; raises Refused with `otherwise` when time is up."""
    limit = time.monotonic() + within
    while True:
        found = probe()
        if found is not None:
            return found
        if time.monotonic() > limit:
            raise Refused(f"{otherwise} (waited {within:g} s)")
        time.sleep(POLL)


def agree(what: str, expected: object, found: object) -> None:
    """Raise Refused unless both are the same; values are of made-up people, so they may be named."""
    if expected != found:
        raise Refused(f"{what} is {found!r} where {expected!r} was expected")
