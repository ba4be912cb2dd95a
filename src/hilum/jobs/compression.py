"""Images get their compressed copies by the rules of `[[archive.compress]]`, slowly and each once.

The archive is gone through in the order of arrival; a pass goes on where it was left, also after a restart. The next
begins some minutes later, so that images grow into rules by their age.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

from hilum.archive import encoders
from hilum.archive.blobs import BlobStore
from hilum.archive.codecs import RLE_LOSSLESS
from hilum.archive.compressing import compressed_copy
from hilum.archive.render_pool import RenderPool
from hilum.archive.retrieve import location_of_row
from hilum.core.actor import system_actor
from hilum.core.errors import DeadlineExceeded, HilumError, InvalidInput, NotFound, TooLarge, Unsupported
from hilum.jobs.runner import LEASE_SECONDS, Job
from hilum.settings import CompressRule, Configuration
from hilum.storage.renditions import Image, Rendition, images_after, outlived, renditions_of
from hilum.storage.store import Store
from hilum.workflow.compression import forget_renditions, note_rendition

log = logging.getLogger(__name__)

ACTOR = system_actor("compression")
PLACE = "checkpoints/compression.json"
EACH_SECONDS = 5.0
PASS_SECONDS = 300.0
# The lease must not end within a slice; one large image may take longer, and another process then makes it as well.
SLICE_SECONDS = LEASE_SECONDS / 2
MB = 1_000_000
TRIES = 3
_OF_THE_IMAGE = (Unsupported, InvalidInput, TooLarge, DeadlineExceeded)
# What a rule names, without loss and with.
SYNTAXES = {
    ("htj2k", False): encoders.HTJ2K_RPCL,
    ("jpeg-ls", False): encoders.JPEG_LS_LOSSLESS,
    ("jpeg2000", False): encoders.JPEG_2000_LOSSLESS,
    ("rle", False): RLE_LOSSLESS,
    ("jpeg", True): encoders.JPEG_BASELINE,
    ("jpeg-ls", True): encoders.JPEG_LS_NEAR,
    ("jpeg2000", True): encoders.JPEG_2000,
}


@dataclass(slots=True)
class Compression:
    """Compresses a slice at each turn, so that over time no more than the set rate is read."""

    store: Store
    blobs: BlobStore
    configuration: Configuration
    monotonic: Callable[[], float] = time.monotonic
    pool: RenderPool = field(default_factory=lambda: RenderPool(workers=1))
    _paid_until: float = field(default=0.0, init=False)
    _rest_until: float = field(default=0.0, init=False)
    _tries: dict[str, int] = field(default_factory=dict, init=False)

    def job(self) -> Job:
        """Make the job; nothing is due without rules, while the rate is used up or a pass has just ended."""
        return Job("compression", EACH_SECONDS, self.run, due=self.due, lease="compression", last=self.pool.close)

    def due(self) -> bool:
        """Tell whether there is something to look at now."""
        now = self.monotonic()
        rules = self.configuration.refresh().archive.compress
        return bool(rules) and now >= self._paid_until and now >= self._rest_until

    def run(self) -> None:
        """Remove what has outlived its image, then make the copies of one slice."""
        self.clean()
        archive = self.configuration.current.archive
        after, begun, size = self._place(), self.monotonic(), 0
        allowed = archive.compress_mb_per_second * MB * EACH_SECONDS
        while size < allowed and self.monotonic() - begun < SLICE_SECONDS:
            with self.store.read() as connection:
                images, last = images_after(connection, after)
            if not last:
                self._rest_until, after = self.monotonic() + PASS_SECONDS, ""
                break
            for image in images:
                size += self._compress(image, archive.compress)
                after = image.stored.id
                if size >= allowed or self.monotonic() - begun >= SLICE_SECONDS:
                    break
            else:
                after = last
        self._paid_until = begun + size / (archive.compress_mb_per_second * MB)
        self.blobs.put(PLACE, orjson.dumps({"after": after}))

    def clean(self) -> None:
        """Remove copies whose image is gone."""
        with self.store.read() as connection:
            gone = outlived(connection)
        for each in gone:
            if each.object_key is not None:
                self.blobs.delete(each.object_key)
        if gone:
            self.store.run(forget_renditions, gone, ACTOR)

    def _compress(self, image: Image, rules: Sequence[CompressRule]) -> int:
        """Make the copy that a rule wants; return how many bytes were read for it."""
        rule = rule_for(image, rules, self.store.clock())
        if rule is None or (image.has_lossy if rule.lossy else image.has_lossless):
            return 0
        stored, syntax = image.stored, SYNTAXES[rule.to, rule.lossy]
        if stored.transfer_syntax_uid == syntax:
            return 0
        none = Rendition(stored.id, not rule.lossy, syntax, "", None, 0, 0)
        try:
            copy = compressed_copy(
                self.blobs, location_of_row(stored), stored.id, syntax, rule.quality, self.pool.render
            )
        except NotFound:
            return 0  # it has been moved or deleted meanwhile; the next pass knows where it is
        except HilumError as error:
            if not (isinstance(error, _OF_THE_IMAGE) or self._is_third_try(stored.id)):
                raise
            log.info("an image is not compressed", extra={"jobs": "compression", "code": error.code})
            self.store.run(note_rendition, none, ACTOR)
            return stored.object_length
        place = copy.location
        made = Rendition(stored.id, not rule.lossy, syntax, copy.digest, place.key, place.length, place.prefix)
        if not self.store.run(note_rendition, made, ACTOR):
            self._withdraw(made)
        return stored.object_length

    def _is_third_try(self, instance_id: str) -> bool:
        """Whether to give up an image by which the encoding process dies; a store may be away for a while."""
        self._tries = {instance_id: self._tries.get(instance_id, 0) + 1}
        return self._tries[instance_id] >= TRIES

    def _withdraw(self, made: Rendition) -> None:
        """Remove the bytes of a copy that was not noted, unless another process has made and noted the same."""
        with self.store.read() as connection:
            noted = renditions_of(connection, [made.instance_id], lossless=made.lossless)
        if made.instance_id not in noted and made.object_key is not None:
            self.blobs.delete(made.object_key)

    def _place(self) -> str:
        try:
            return str(orjson.loads(self.blobs.get(PLACE))["after"])
        except (NotFound, ValueError, KeyError, TypeError):  # none, or unreadable: begin anew
            return ""


def rule_for(image: Image, rules: Sequence[CompressRule], now: datetime) -> CompressRule | None:
    """The first rule that fits an image, None where none does or its time has not come."""
    for rule in rules:
        fits = rule.modality in ("", image.modality) and rule.source in ("", image.stored.peer)
        if fits:
            return rule if image.received_at <= now - timedelta(days=rule.age_days) else None
    return None
