"""Configuration: `hilum.toml` in the home, overridden by the environment, checked as a whole, frozen.

Precedence: `HILUM_<SECTION>__<KEY>` over `hilum.toml` over the defaults. Whatever is unknown, contradictory or out of
range is refused with one sentence that names the key and the file; nothing is guessed.
"""

from __future__ import annotations

from hilum.settings.errors import SettingsError
from hilum.settings.identity import SecuritySettings
from hilum.settings.live import Configuration
from hilum.settings.load import Settings, home_directory
from hilum.settings.paths import HomePaths
from hilum.settings.sections import (
    ArchiveSettings,
    AuditSettings,
    CompressRule,
    DatabaseSettings,
    Destination,
    DicomPeer,
    DicomSettings,
    FacilitySettings,
    GiveUp,
    Hl7Peer,
    Hl7Settings,
    HttpSettings,
    LogSettings,
    PriorsSettings,
    Route,
    StudySettings,
    WorklistSettings,
    event_names,
)
from hilum.settings.starter import starter_file
from hilum.settings.viewing import ViewerName, ViewerSettings

__all__ = [
    "ArchiveSettings",
    "AuditSettings",
    "CompressRule",
    "Configuration",
    "DatabaseSettings",
    "Destination",
    "DicomPeer",
    "DicomSettings",
    "FacilitySettings",
    "GiveUp",
    "Hl7Peer",
    "Hl7Settings",
    "HomePaths",
    "HttpSettings",
    "LogSettings",
    "PriorsSettings",
    "Route",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "StudySettings",
    "ViewerName",
    "ViewerSettings",
    "WorklistSettings",
    "event_names",
    "home_directory",
    "starter_file",
]
