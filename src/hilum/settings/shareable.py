"""The settings as a stranger may see them: no secret, no credential of an address, no text that may name a patient."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr

from hilum.settings.load import Settings

HIDDEN = "(hidden)"
# By its name a secret, whatever its type; the file that holds one is only a path.
_SECRET = re.compile(r"secret|password|passphrase|token|credential|access_key", re.IGNORECASE)
# Query and path of these may be capabilities, as those of webhooks often are.
_WEB = frozenset({"http", "https"})


def shareable(settings: Settings) -> dict[str, Any]:
    """Return all settings for a stranger's eyes."""
    shown = _shown("", settings)
    shown.pop("home", None)
    found: dict[str, Any] = _without_home(shown, settings.home)
    return found


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {key: _shown(key, getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, tuple | list | set | frozenset):
        return [_shown(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _shown(str(key), item) for key, item in value.items()}
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(name, str(value))


def _text(name: str, text: str) -> str:
    if text and _SECRET.search(name) and not name.endswith("_file"):
        return HIDDEN
    if name == "condition":
        # A condition may compare with the name or the number of someone.
        return f"(a condition of {len(text)} characters)" if text else ""
    return address_shown(text) if "://" in text else text


def address_shown(text: str) -> str:
    """Return an address without its credentials; of a web address without path and query too."""
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    # The AE title of dicom://AET@HOST is a name, not a credential.
    user = f"{parts.username}@" if parts.scheme in ("dicom", "dicoms") and parts.username else ""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    path = parts.path
    if parts.scheme in _WEB:
        path = "/…" if path.strip("/") else path
    return urlunsplit((parts.scheme, f"{user}{host}{port}", path, "", ""))


def _without_home(value: Any, home: Path) -> Any:
    """Where the home is says who installed it."""
    if isinstance(value, str):
        return value.replace(str(home), "HOME")
    if isinstance(value, list):
        return [_without_home(item, home) for item in value]
    if isinstance(value, dict):
        return {key: _without_home(item, home) for key, item in value.items()}
    return value
