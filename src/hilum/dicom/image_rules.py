"""The rules of the configuration over images: what is dropped or held as it comes, what is rewritten as it leaves.

Conditions see an image by its header. One that comes to no answer drops nothing, holds the image, and stops a send:
what should have been taken out must not leave.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
from pydicom.datadict import tag_for_keyword

from hilum.archive.coercion import Coercion, Provenance
from hilum.archive.walk import Attributes
from hilum.core.actor import Actor
from hilum.core.errors import HilumError, Unsupported
from hilum.delivery.conditions import ConditionFailed, RouteError, is_true
from hilum.delivery.image_rules import compile_only
from hilum.dicom.coercing import Coercing
from hilum.dicom.encode import tag_and_vr
from hilum.dicom.image_values import header_values
from hilum.dicom.overlay import overlaid_instance
from hilum.settings import Configuration, Settings
from hilum.settings.image_rules import ImageRule
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.store import Store
from hilum.workflow.receiving import DropInstance, DroppedByRule, drop_instance
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

_SLOT = re.compile(r"\{([A-Z][A-Za-z0-9]*)\}")
_compiled = lru_cache(maxsize=256)(compile_only)
Values = Mapping[str, Mapping[str, Any]]


class RuleUndecided(HilumError):
    """A rule about what is sent comes to no answer for this image, so it stays here."""

    code = "rule-undecided"


class ReceiveRules:
    """Decides of each image that comes."""

    def __init__(self, store: Store, configuration: Configuration) -> None:
        self._store = store
        self._configuration = configuration

    def admit(self, attributes: Attributes, transfer_syntax_uid: str, source: Source, actor: Actor) -> None:
        """Let an image in, or record that a rule does not. Raises DroppedByRule."""
        rules = [(number, rule) for number, rule in _rules(self._configuration.refresh(), "receive") if rule.drop]
        if not rules:
            return
        values = values_of_header(attributes, transfer_syntax_uid, source.peer)
        for number, rule in rules:
            if _holds(rule, number, values, otherwise=False):
                uid = str(values["instance"].get("sop_instance_uid", ""))
                self._store.run(drop_instance, DropInstance(number, uid), actor)
                log.warning("an image was dropped by a rule", extra={"peer": source.peer, "position": number})
                raise DroppedByRule(is_told=rule.answer == "refuse")

    def holds(self, attributes: Attributes, transfer_syntax_uid: str, source: Source) -> bool:
        """Tell whether a rule holds an image back."""
        rules = [(number, rule) for number, rule in _rules(self._configuration.refresh(), "receive") if rule.hold]
        if not rules:
            return False
        values = values_of_header(attributes, transfer_syntax_uid, source.peer)
        return any(_holds(rule, number, values, otherwise=True) for number, rule in rules)


@dataclass
class RuledCoercing(Coercing):
    """What is to change in an instance that goes to a destination: what is known, then what its rules say."""

    destination: str = ""

    def of(self, row: StoredInstance) -> Coercion | None:
        """Return all changes. Raises RuleUndecided, and Unsupported for a keyword that DICOM does not have."""
        known = super().of(row)
        settings = self.configuration.current
        rules = [each for each in _rules(settings, "send") if not each[1].to or self.destination in each[1].to]
        if not rules:
            return known
        header = self._laid(row)
        values = values_of_header(header, row.transfer_syntax_uid, row.peer)
        changed: dict[int, tuple[str, str] | None] = {}
        for _, rule in rules:
            if _meets(rule, values):
                changed |= changes_of(rule, values["header"])
        if not changed:
            return known
        if known is not None:
            return replace(known, values={**known.values, **changed})
        return Coercion(changed, Provenance(self.store.clock(), settings.dicom.ae_title, "COERCE", row.peer))

    def _laid(self, row: StoredInstance) -> Attributes:
        """The header with what is known laid over it."""
        with self.store.read() as connection:
            received: Attributes = orjson.loads(headers_of(connection, [row.id]).get(row.id) or b"{}")
        study = self._study(row.study_id)
        if study is None:
            return received
        return overlaid_instance(received, study.truth, study.study_instance_uid, row.series_instance_uid)


def changes_of(rule: ImageRule, header: Mapping[str, Any]) -> dict[int, tuple[str, str] | None]:
    """Return what a rule changes, by tag. Raises Unsupported for a keyword that DICOM does not have."""
    changed: dict[int, tuple[str, str] | None] = {}
    for keyword, text in rule.set.items():
        tag, vr = _tag(keyword)
        changed[tag] = vr, _SLOT.sub(lambda slot: _text(header.get(slot[1], "")), text)
    changed |= {_tag(keyword)[0]: None for keyword in rule.remove}
    return changed


def check_rules(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each rule that cannot be used (for `hilum check`)."""
    for number, rule in enumerate(settings.rule):
        try:
            compile_only(rule.condition, f"condition of rule[{number}]")
            changes_of(rule, {})
        except HilumError as error:
            yield error.message
        for name in rule.to:
            if settings.destination_named(name) is None:
                yield f'rule[{number}] is about "{name}", which is no destination.'


def values_of_header(attributes: Attributes, transfer_syntax_uid: str, peer: str) -> dict[str, dict[str, Any]]:
    """Return what a condition sees of an image by its header alone (DICOM JSON)."""
    header = header_values(attributes)

    def known(**keywords: str) -> dict[str, Any]:
        return {name: header[keyword] for name, keyword in keywords.items() if header.get(keyword, "") != ""}

    return {
        "study": known(study_instance_uid="StudyInstanceUID", accession_number="AccessionNumber"),
        "series": known(
            series_instance_uid="SeriesInstanceUID", modality="Modality", number="SeriesNumber",
            description="SeriesDescription", body_part="BodyPartExamined", station_name="StationName",
        ),
        "instance": {
            "transfer_syntax_uid": transfer_syntax_uid,
            **known(
                sop_instance_uid="SOPInstanceUID", sop_class_uid="SOPClassUID", number="InstanceNumber", rows="Rows",
                columns="Columns", frames="NumberOfFrames",
            ),
        },
        "source": {"peer": peer},
        "patient": known(
            identifier="PatientID", authority="IssuerOfPatientID", sex="PatientSex", birth_date="PatientBirthDate"
        ),
        "header": header,
    }  # fmt: skip


def _meets(rule: ImageRule, values: Values) -> bool:
    try:
        return is_true(_compiled(rule.condition), values)
    except (ConditionFailed, RouteError) as error:
        raise RuleUndecided from error


def _rules(settings: Settings, on: str) -> list[tuple[int, ImageRule]]:
    return [(number, rule) for number, rule in enumerate(settings.rule) if rule.on == on]


def _holds(rule: ImageRule, number: int, values: Values, *, otherwise: bool) -> bool:
    try:
        return is_true(_compiled(rule.condition), values)
    except (ConditionFailed, RouteError):
        log.error("the condition of a rule failed", extra={"position": number})
        return otherwise


def _tag(keyword: str) -> tuple[int, str]:
    if tag_for_keyword(keyword) is None:
        raise Unsupported(f"A rule names {keyword}, which is no attribute of DICOM.")
    return tag_and_vr(keyword)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\\".join(_text(each) for each in value if not isinstance(each, dict))
    return f"{value:g}" if isinstance(value, float) else str(value)
