"""Logs: one JSON object a line on standard error, with nothing in it that was not allowed by name.

Text from messages, images and people never reaches a line: fields outside `ALLOWED` are dropped (their names are
listed under `dropped`), an exception is written as its type and its places in the code, and of what other libraries log
only the logger, the level and the place remain, since their texts may quote what they were handed.

Modules log as usual: `log = logging.getLogger(__name__)`, then `log.error("batch not committed", extra={"code": …})`.
The message is a constant; ruff (G) refuses one that is put together from values.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hilum.core.errors import HilumError

# The thread that ties all lines, messages and events of one chain together.
correlation: ContextVar[str] = ContextVar("correlation", default="")

# Fields that may be written. Everything here is a name of ours, a number, or a name out of the configuration;
# identifiers of patients, orders and studies are not, and neither is any text.
ALLOWED = frozenset(
    {
        "event", "level", "timestamp", "role", "pid", "logger", "correlation", "place",
        "door", "association", "contexts", "operation",
        "verb", "command", "outcome", "code", "status", "method", "route", "message_type", "sop_class",
        "transfer_syntax", "field", "setting", "revision", "event_name", "event_id", "message_id", "delivery_id",
        "peer", "ae_title", "destination", "kind", "host", "port", "signal", "exit_code", "state", "backend",
        "count", "size", "bytes", "seconds", "attempt", "tries", "depth", "age", "position", "version", "limit",
        "sqlstate", "verbs", "jobs", "child", "child_pid", "writer", "sequence", "segment",
        "exception", "stack", "causes", "dropped",
    }
)  # fmt: skip
# An event is a constant of the code: lower-case words. What looks otherwise may have been put together from data.
_EVENT_NAME = re.compile(r"(?!.*\d{3})[a-z][a-z0-9_.,:' -]{0,119}")
_MAX_TEXT = 200
KEPT_BYTES = 512 * 1024
_MAX_FRAMES = 20
_MAX_CAUSES = 5
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
OURS = "hilum"
_PACKAGES = (OURS, "site-packages")
# What every record has; the rest are the fields of `extra`.
_RECORD_KEYS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


@contextmanager
def correlated(identifier: str) -> Iterator[str]:
    """Everything logged inside carries this correlation identifier."""
    token = correlation.set(identifier)
    try:
        yield identifier
    finally:
        correlation.reset(token)


def configure(role: str, level: str = "info", *, stream: TextIO | None = None, keep: Path | None = None) -> None:
    """Send the logs of this process, and of every library in it, to standard error; uncaught exceptions too.

    The latest lines are also kept in the folder `keep`, for `hilum diagnose`.
    """
    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identify(role),
        _exceptions_as_places,
        _only_allowed,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_from_record, *processors],
        use_get_message=False,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    # Whoever calls structlog itself goes the same way, and is held to the same list.
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    if keep is not None:
        handlers.append(_kept(keep, role))
    for handler in handlers:
        handler.setFormatter(formatter)
    _take_over(handlers)
    # Libraries are heard from warning up only: below that they mostly tell what they were handed.
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))
    logging.getLogger(OURS).setLevel(_LEVELS[level])
    logging.captureWarnings(True)
    # A log line that cannot be written must not be printed with its values instead.
    logging.raiseExceptions = False
    _log_uncaught()


def _kept(folder: Path, role: str) -> logging.Handler:
    """Keep the latest lines of a process in a file that never grows beyond twice its bound."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{role}.jsonl"
    # Processes of one role share the file; each appends whole lines.
    return RotatingFileHandler(file, maxBytes=KEPT_BYTES, backupCount=1, encoding="utf-8", delay=True)


def _take_over(handlers: list[logging.Handler]) -> None:
    """Make these handlers the only ones, also for loggers that libraries have already furnished with their own."""
    root = logging.getLogger()
    root.handlers[:] = handlers
    for name in list(root.manager.loggerDict):
        child = logging.getLogger(name)
        child.handlers[:] = []
        child.propagate = True


def _identify(role: str) -> Processor:
    def identify(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
        entry["role"] = role
        entry["pid"] = os.getpid()
        if found := correlation.get():
            entry.setdefault("correlation", found)
        return entry

    return identify


def _from_record(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """Of a record of ours the constant message and its fields; of a library's only who wrote it and where."""
    record: logging.LogRecord = entry["_record"]
    kept = {key: entry[key] for key in ("_record", "_from_structlog") if key in entry}
    kept |= {"logger": record.name, "place": f"{_short(record.pathname)}:{record.lineno}", "exc_info": record.exc_info}
    if record.name.split(".")[0] != OURS:
        return {**kept, "event": "library"}
    fields = {key: value for key, value in vars(record).items() if key not in _RECORD_KEYS}
    return {**fields, **kept, "event": record.msg}


def _exceptions_as_places(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    given = entry.pop("exc_info", None)
    error = _error_of(given)
    if error is not None:
        entry["exception"] = _name_of(error)
        entry["stack"] = places(error.__traceback__)
        if causes := _causes(error):
            entry["causes"] = causes
        if isinstance(error, HilumError):
            entry.setdefault("code", error.code)
    return entry


def _error_of(given: object) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None


def _name_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _causes(error: BaseException) -> list[str]:
    """The exceptions behind one, each as its type and the place it was raised at."""
    found: list[str] = []
    seen = {id(error)}
    behind = error.__cause__ or error.__context__
    while behind is not None and id(behind) not in seen and len(found) < _MAX_CAUSES:
        seen.add(id(behind))
        raised_at = places(behind.__traceback__)
        found.append(f"{_name_of(behind)} at {raised_at[-1] if raised_at else 'unknown'}")
        behind = behind.__cause__ or behind.__context__
    return found


def places(traceback: TracebackType | None) -> list[str]:
    """The frames of a traceback as `file:line function`, outermost first; no source text, no values."""
    found: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        found.append(f"{_short(code.co_filename)}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return found[-_MAX_FRAMES:]


def _short(path: str) -> str:
    """A path from its package on: where the code is installed is nobody's business, and differs by machine."""
    parts = Path(path).parts
    for package in _PACKAGES:
        if package in parts:
            start = len(parts) - 1 - parts[::-1].index(package)
            return "/".join(parts[start if package == "hilum" else start + 1 :])
    return "/".join(parts[-2:])


def _only_allowed(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    kept: MutableMapping[str, Any] = {}
    dropped: list[str] = []
    for key, value in entry.items():
        if key.startswith("_"):
            kept[key] = value
        elif key in ALLOWED:
            kept[key] = _plain(value)
        else:
            dropped.append(key if _EVENT_NAME.fullmatch(key) else "?")
    event = entry.get("event")
    if not isinstance(event, str) or not _EVENT_NAME.fullmatch(event):
        kept["event"] = "unnamed"
    if dropped:
        kept["dropped"] = sorted(dropped)
    return kept


def shareable_line(line: bytes) -> dict[str, Any] | None:
    """Read a line of the logs and hold it to the list again; None where it is none of ours."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
        return None
    kept = dict(_only_allowed(None, "", {key: value for key, value in entry.items() if not key.startswith("_")}))
    kept.pop("host", None)
    return kept


def _plain(value: object) -> object:
    """A value as a number or a short text; an error is its code."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, HilumError):
        return value.code
    if isinstance(value, BaseException):
        return _name_of(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:_MAX_FRAMES]]
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    return type(value).__name__


def _log_uncaught() -> None:
    """Have crashes written as type and place: the interpreter's own report would print the message."""
    log = logging.getLogger(__name__)

    def crashed(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            log.error("crashed", exc_info=error)

    sys.excepthook = lambda _, error, __: crashed(error)
    sys.unraisablehook = lambda seen: crashed(seen.exc_value)
    threading.excepthook = lambda seen: crashed(seen.exc_value)
