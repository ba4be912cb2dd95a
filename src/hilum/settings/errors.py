"""The refusal of a configuration."""

from __future__ import annotations

from hilum.core.errors import HilumError


class SettingsError(HilumError):
    """The configuration cannot be used."""

    code = "settings"
