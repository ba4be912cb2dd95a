"""Where things are in the home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HomePaths:
    """The files and folders of one home; nothing here creates them."""

    home: Path

    @property
    def file(self) -> Path:
        """The configuration, `hilum.toml`."""
        return self.home / "hilum.toml"

    @property
    def profiles(self) -> Path:
        """The profiles of HL7 senders, a file each."""
        return self.home / "profiles"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.home / "hilum.db"

    @property
    def archive(self) -> Path:
        """The images, when they are kept as files."""
        return self.home / "archive"

    @property
    def keys(self) -> Path:
        """The secrets that live outside the database."""
        return self.home / "keys"

    @property
    def seals(self) -> Path:
        """The latest seal of the audit trail, kept outside the database."""
        return self.home / "seals"

    @property
    def tls(self) -> Path:
        """What `hilum tls init` writes."""
        return self.home / "tls"

    @property
    def run(self) -> Path:
        """What belongs to the running processes only: locks and metrics."""
        return self.home / "run"

    @property
    def positions(self) -> Path:
        """How far the index is behind what each receiver has made durable."""
        return self.run / "index"

    def within(self, name: str) -> Path:
        """A file that a setting names: as it is when absolute, else in the home."""
        return self.home / name
