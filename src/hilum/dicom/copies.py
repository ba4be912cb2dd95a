"""The compressed copies of stored instances, as every door of DICOM serves them (`jobs.compression` makes them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hilum.settings import Configuration
from hilum.storage.renditions import as_copy, renditions_of
from hilum.storage.retrieval import StoredInstance
from hilum.storage.store import Store


@dataclass(frozen=True, slots=True)
class Copies:
    """Finds them; where no rule is set there are none to be looked for."""

    store: Store
    configuration: Configuration

    def of(self, rows: Sequence[StoredInstance], *, lossless: bool = True) -> dict[str, StoredInstance]:
        """Return instances with the bytes of their copies, by their ids."""
        if not self.configuration.current.archive.compress:
            return {}
        with self.store.read() as connection:
            found = renditions_of(connection, [row.id for row in rows], lossless=lossless)
        return {row.id: as_copy(row, found[row.id]) for row in rows if row.id in found}
