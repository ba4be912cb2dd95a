"""Rendering in processes of their own: decoders are native code and the bytes are strangers'.

A worker that crashes, hangs or grows costs one request and is replaced; it can't take a role of Hilum with it. Workers
start when first needed, talk over a socket pair in plain bytes (never pickles, in either direction), leave no core
dumps, and end with their parent.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import orjson

from hilum.archive.native import PixelLayout
from hilum.archive.render import FORMATS, RenderJob
from hilum.archive.rendered_cache import MOST_BYTES, RenderedCache, key_of
from hilum.archive.voi import Window
from hilum.core import errors
from hilum.core.errors import DeadlineExceeded, HilumError, Unavailable

WORKERS = 2
SECONDS = 30.0
JOBS_PER_WORKER = 1000  # then a fresh one takes over, so that leaks of codecs stay small
MAX_ANSWER = 256 << 20
DONE, REFUSED = b"\x00", b"\x01"


def to_messages(job: RenderJob) -> list[bytes]:
    """A job as three messages: wishes, header, frame."""
    wishes = {
        "header_syntax": job.header_syntax,
        "frame_syntax": job.frame_syntax,
        "layout": asdict(job.layout),
        "number": job.number,
        "window": asdict(job.window) if job.window else None,
        "size": job.size,
        "format": job.format,
        "quality": job.quality,
    }
    return [orjson.dumps(wishes), job.header, job.frame]


def from_messages(wishes: bytes, header: bytes, frame: bytes) -> RenderJob:
    """The job of three messages."""
    asked: dict[str, Any] = orjson.loads(wishes)
    asked["layout"] = PixelLayout(**asked["layout"])
    asked["window"] = Window(**asked["window"]) if asked["window"] else None
    asked["size"] = tuple(asked["size"]) if asked["size"] else None
    return RenderJob(header=header, frame=frame, **asked)


def refusal(error: HilumError) -> bytes:
    """An error as a worker's answer."""
    return REFUSED + orjson.dumps([type(error).__name__, error.message, error.field])


def _raise(answer: bytes) -> None:
    name, message, field = orjson.loads(answer)
    kind = getattr(errors, name, Unavailable)
    raise kind(message, field=field)


class _Worker:
    """One rendering process and the line to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hilum.archive.render_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._line = Connection(ours.detach())
        self.jobs = 0

    @property
    def pid(self) -> int:
        """The process, for tests and health pages."""
        return self._process.pid

    def ask(self, messages: list[bytes], end: float) -> bytes:
        """The worker's answer; raises EOFError or OSError when it died, DeadlineExceeded when it took too long."""
        self.jobs += 1
        for message in messages:
            self._line.send_bytes(message)
        if not self._line.poll(max(0.0, end - time.monotonic())):
            raise DeadlineExceeded("The image took too long to render.")
        return self._line.recv_bytes(MAX_ANSWER)

    def end(self) -> None:
        """Kill it; it holds nothing."""
        self._line.close()
        self._process.kill()
        self._process.wait()


class RenderPool:
    """A bounded number of rendering processes for many threads."""

    def __init__(self, workers: int = WORKERS, seconds: float = SECONDS, kept_bytes: int = MOST_BYTES) -> None:
        self._seconds = seconds
        self._cache = RenderedCache(kept_bytes)
        self._free = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    def render(self, job: RenderJob, seconds: float | None = None) -> bytes:
        """Render in a worker, waiting for a free one within the time for both; what was rendered lately is kept.

        Raises as `render` does, Unavailable when the worker died or all are busy, DeadlineExceeded when it hung.
        """
        if job.format not in FORMATS:
            return self._rendered(to_messages(job), seconds)
        messages = to_messages(job)
        key = key_of(messages)
        image = self._cache.get(key)
        if image is None:
            image = self._rendered(messages, seconds)
            self._cache.put(key, image)
        return image

    def _rendered(self, messages: list[bytes], seconds: float | None) -> bytes:
        end = time.monotonic() + (self._seconds if seconds is None else min(seconds, self._seconds))
        if not self._free.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Unavailable("All rendering processes are busy.")
        try:
            answer = self._ask(messages, end)
        finally:
            self._free.release()
        if answer[:1] == REFUSED:
            _raise(answer[1:])
        return answer[1:]

    def _ask(self, messages: list[bytes], end: float) -> bytes:
        worker = self._take()
        healthy = False
        try:
            answer = worker.ask(messages, end)
            healthy = worker.jobs < JOBS_PER_WORKER
        except (EOFError, OSError) as error:
            raise Unavailable("The rendering process died on this image.") from error
        finally:
            self._give_back(worker, healthy)
        return answer

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise Unavailable("Rendering is closing.")
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: _Worker, healthy: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if healthy and not self._closed:
                self._idle.append(worker)
                return
        worker.end()

    def close(self) -> None:
        """End all workers; those under way answer Unavailable."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.end()
