"""The Identifier of a C-FIND (PS3.4 C.4.1.1.3, K.4.1.1.3): its keys by keyword, its answer cut down to what was asked.

A key that Hilum does not know is neither matched nor answered; the pending status then says so (FF01H).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydicom.datadict import keyword_for_tag

from hilum.archive.metadata import person_name, walk_dataset
from hilum.archive.walk import Attributes
from hilum.core.errors import InvalidInput, MissingField
from hilum.dicom.character_sets import answer_charset
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response
from hilum.dicom.dimse.status import PENDING, PENDING_WARNING
from hilum.dicom.encode import Values, encode, tag_and_vr, texts_of

MAXIMUM_IDENTIFIER = 1 << 20
MAXIMUM_VALUES = 1000


@dataclass(frozen=True)
class Keys:
    """The keys of an Identifier, or of an item of it; `attributes` is their DICOM JSON."""

    attributes: Attributes

    @cached_property
    def keywords(self) -> tuple[str, ...]:
        """The keywords of all keys that have one; group lengths and private elements have none."""
        return tuple(keyword for key in self.attributes if (keyword := keyword_for_tag(int(key, 16))))

    @property
    def has_unnamed(self) -> bool:
        """Tell whether there are keys without a keyword."""
        return len(self.keywords) < len(self.attributes)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a key as text, stripped, without empty ones; a name as DICOM writes it."""
        entry = self.attributes.get(_key(keyword), {})
        values = entry.get("Value", [])
        if entry.get("vr") == "PN":
            found = [person_name({"0": {"vr": "PN", "Value": [value]}}, "0") for value in values]
        else:
            found = [str(value).strip() for value in values if value is not None and not isinstance(value, dict)]
        if len(found) > MAXIMUM_VALUES:
            raise InvalidInput("A key has more values than are taken.", field=keyword)
        return tuple(text for text in found if text)

    def text(self, keyword: str) -> str:
        """Return the first value of a key, "" when it is absent or empty."""
        return next(iter(self.texts(keyword)), "")

    def items(self, keyword: str) -> tuple[Keys, ...]:
        """Return the items of a sequence."""
        values = self.attributes.get(_key(keyword), {}).get("Value", [])
        return tuple(Keys(value) for value in values if isinstance(value, dict))

    def item(self, keyword: str) -> Keys:
        """Return the only item of a sequence, one without keys where there is none."""
        found = self.items(keyword)
        if len(found) > 1:
            # PS3.4 C.2.2.2.6: exactly one item
            raise InvalidInput("A sequence key has more than one item.", field=keyword)
        return found[0] if found else Keys({})


def read_keys(context: AssociationContext, request: Request) -> tuple[Keys, str]:
    """Return the keys of a request and its Specific Character Set. Raises InvalidInput for what can't be read."""
    if request.data_set is None or not len(request.data_set):
        raise MissingField("The request comes without an Identifier.")
    walk = walk_dataset(request.data_set.tobytes(), context.transfer_syntax)
    return Keys(walk.attributes), walk.character_set


def asked_of(keys: Keys, values: Values) -> dict[str, Any]:
    """Return of `values` what was asked for; a sequence asked for without keys inside is given whole."""
    asked: dict[str, Any] = {}
    for keyword in keys.keywords:
        if keyword not in values:
            continue
        value = values[keyword]
        if tag_and_vr(keyword)[1] == "SQ":
            inner = keys.item(keyword)
            value = [asked_of(inner, item) for item in value] if inner.attributes else list(value)
        asked[keyword] = value
    return asked


def lacks(keys: Keys, values: Values) -> bool:
    """Tell whether something was asked for that the answer does not know of."""
    return keys.has_unnamed or any(_unknown(keys, keyword, values) for keyword in keys.keywords)


def _unknown(keys: Keys, keyword: str, values: Values) -> bool:
    if keyword in _ABOUT_THE_REQUEST:
        return False
    if keyword not in values:
        return True
    if tag_and_vr(keyword)[1] != "SQ":
        return False
    inner = keys.item(keyword)
    return any(lacks(inner, item) for item in values[keyword])


_ABOUT_THE_REQUEST = frozenset({"SpecificCharacterSet", "TimezoneOffsetFromUTC", "QueryRetrieveView"})


@dataclass(frozen=True, slots=True)
class Answering:
    """How the matches of one request are put into bytes."""

    context: AssociationContext
    keys: Keys
    requested_charset: str
    configured_charset: str | None

    def pending(self, values: Values, always: Values) -> Response:
        """Return a match as a pending response: what was asked for of `values`, and `always`."""
        answer = {**asked_of(self.keys, values), **always}
        charset = answer_charset(self.configured_charset, self.requested_charset, texts_of(answer))
        if charset:
            answer["SpecificCharacterSet"] = charset.split("\\")
        status = PENDING_WARNING if lacks(self.keys, {**values, **always}) else PENDING
        return Response(status, data_set=encode(answer, self.context.transfer_syntax, charset))


def _key(keyword: str) -> str:
    return f"{tag_and_vr(keyword)[0]:08X}"
