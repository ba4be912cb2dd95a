"""Profiles of senders as files: each `profiles/NAME.toml` of the home is an `[[hl7.peer]]`: a new sender needs no code.

A file may be kept under version control and tested by itself. One that is wrong makes the whole configuration wrong,
in a sentence that names it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hilum.settings.errors import SettingsError
from hilum.settings.sections import Hl7Peer

MOST_PROFILES = 500
MOST_BYTES = 1024 * 1024
FileState = tuple[str, int, int, int]


def profile_files(folder: Path) -> list[Path]:
    """The profiles of a folder by name; none where there is no folder. Raises SettingsError."""
    try:
        found = sorted(each for each in folder.iterdir() if each.suffix == ".toml" and not each.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be read ({error.strerror}).") from None
    if len(found) > MOST_PROFILES:
        raise SettingsError(f"{folder}: holds more than {MOST_PROFILES} profiles.")
    return found


def profile_content(folder: Path) -> dict[Path, bytes]:
    """The bytes of all profiles. Raises SettingsError."""
    content: dict[Path, bytes] = {}
    for file in profile_files(folder):
        try:
            with file.open("rb") as stream:
                content[file] = stream.read(MOST_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read ({error.strerror}).") from None
        if len(content[file]) > MOST_BYTES:
            raise SettingsError(f"{file}: is larger than {MOST_BYTES} bytes.")
    return content


def profile_states(folder: Path) -> tuple[FileState, ...]:
    """What changes when a profile does: names, times, sizes."""
    states = []
    try:
        for file in profile_files(folder):
            found = file.stat()
            states.append((file.name, found.st_mtime_ns, found.st_size, found.st_ino))
    except (OSError, SettingsError):
        return ()
    return tuple(states)


def read_profiles(content: Mapping[Path, bytes]) -> list[dict[str, Any]]:
    """The profiles as settings, each checked by itself. Raises SettingsError."""
    return [_read(file, raw) for file, raw in content.items()]


def _read(file: Path, raw: bytes) -> dict[str, Any]:
    try:
        values = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file}: is not TOML: {error}.") from None
    try:
        Hl7Peer(**values)
    except (ValidationError, TypeError) as error:
        raise SettingsError(f"{file}: {_what(error)}") from None
    return values


def _what(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "is no profile."
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no setting `{place}`."
    said = first["msg"].removeprefix("Value error, ")
    return f"`{place}`: {said}." if place else f"{said}."
