"""A sender's message as the standard has it, by its profile: places, names of authorities, codes, and what is required.

The message itself stays as it came; what is changed is only what translation reads. A place is filled within its order:
what stands in the same ORC/OBR group goes before what stands once in the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hilum.core.errors import MissingField
from hilum.hl7.er7 import Message, Segment, Segments
from hilum.hl7.escapes import Separators, escaper
from hilum.settings import Hl7Peer

# Fields of patient identifiers (CX), whose fourth component is the assigning authority.
IDENTIFIERS: Final = (("PID", 2), ("PID", 3), ("PID", 4), ("MRG", 1), ("MRG", 4))


class Place(NamedTuple):
    """`PID-3.4.1`; without a component it is the whole field."""

    segment: str
    field: int
    component: int = 0
    subcomponent: int = 0


def place_of(path: str) -> Place:
    """Read a path of a profile, which the settings have checked."""
    name, _, numbers = path.partition("-")
    return Place(name, *(int(number) for number in numbers.split(".")))


def adapted(message: Message, peer: Hl7Peer) -> Message:
    """Return the message as translation is to read it; the same one where the profile says nothing of it."""
    if not (peer.places or peer.codes or peer.authorities):
        return message
    groups = message.groups("ORC", "OBR")
    in_groups = {id(segment) for group in groups for segment in group}
    head = Segments(tuple(segment for segment in message if id(segment) not in in_groups))
    for target, source in peer.places.items():
        to, of = place_of(target), place_of(source)
        if groups and to.segment not in {segment.name for segment in head}:
            groups = [_moved(group, to, of, message, message.separators) for group in groups]
        else:
            head = _moved(head, to, of, message, message.separators)
    segments = [segment for part in (head, *groups) for segment in part]
    for path, codes in peer.codes.items():
        segments = [_recoded(segment, place_of(path), codes, message.separators) for segment in segments]
    if peer.authorities:
        segments = [_renamed(segment, peer.authorities, message.separators) for segment in segments]
    return message.with_segments(segments)


def require_fields(message: Message, kind: str, required: Mapping[str, Sequence[str]]) -> None:
    """Raise MissingField for the first place that a message of this kind has to have and has not."""
    for path in missing_fields(message, kind, required):
        raise MissingField("A field that this sender has to give is empty.", field=path)


def missing_fields(message: Message, kind: str, required: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the places that are empty, in each segment of their name."""
    found: list[str] = []
    for key in ("*", kind.partition("^")[0], kind):
        for path in required.get(key, ()):
            place = place_of(path)
            segments = message.segments(place.segment)
            if not segments:
                found.append(path)
            for number, segment in enumerate(segments, 1):
                if not segment.get(place.field, place.component or 1, place.subcomponent or 1).strip():
                    found.append(path if number == 1 else path.replace("-", f"[{number}]-", 1))
    return list(dict.fromkeys(found))


def _moved(part: Segments, to: Place, of: Place, message: Message, separators: Separators) -> Segments:
    source = part.segment(of.segment) or message.segment(of.segment)
    encoded = _encoded(source, of, separators) if source is not None else ""
    if not encoded:
        return part
    if to.component and separators.component in encoded:
        encoded = encoded.split(separators.component, 1)[0]
    segments = list(part)
    if part.segment(to.segment) is None:
        segments.append(Segment.empty(to.segment, part[0] if len(part) else message.header))
    return Segments(
        tuple(_put(each, to, encoded, separators) if each.name == to.segment else each for each in segments)
    )


def _encoded(segment: Segment, place: Place, separators: Separators) -> str:
    """What stands at a place, escapes included."""
    first = segment.field(place.field).split(separators.repetition, 1)[0]
    if not place.component:
        return first
    parts = first.split(separators.component)
    component = parts[place.component - 1] if place.component <= len(parts) else ""
    if not place.subcomponent or not separators.subcomponent:
        return component
    pieces = component.split(separators.subcomponent)
    return pieces[place.subcomponent - 1] if place.subcomponent <= len(pieces) else ""


def _put(segment: Segment, place: Place, encoded: str, separators: Separators) -> Segment:
    """The segment with other text at a place of the first repetition."""
    repetitions = segment.field(place.field).split(separators.repetition)
    repetitions[0] = _with_part(repetitions[0], place, encoded, separators)
    return segment.with_field(place.field, separators.repetition.join(repetitions))


def _with_part(repetition: str, place: Place, encoded: str, separators: Separators) -> str:
    if not place.component:
        return encoded
    components = repetition.split(separators.component)
    components += [""] * (place.component - len(components))
    if place.subcomponent and separators.subcomponent:
        pieces = components[place.component - 1].split(separators.subcomponent)
        pieces += [""] * (place.subcomponent - len(pieces))
        pieces[place.subcomponent - 1] = encoded
        encoded = separators.subcomponent.join(pieces)
    components[place.component - 1] = encoded
    return separators.component.join(components)


def _recoded(segment: Segment, place: Place, codes: Mapping[str, str], separators: Separators) -> Segment:
    """The segment with the standard's codes in all repetitions of a field."""
    if segment.name != place.segment or not segment.field(place.field):
        return segment
    exact = place._replace(component=place.component or 1, subcomponent=place.subcomponent or 1)
    written = []
    for repetition in segment.repetitions(place.field):
        meant = codes.get(repetition.get(exact.component, exact.subcomponent).strip())
        text = repetition.encoded
        written.append(text if meant is None else _with_part(text, exact, _escaped(meant, separators), separators))
    return segment.with_field(place.field, separators.repetition.join(written))


def _renamed(segment: Segment, authorities: Mapping[str, str], separators: Separators) -> Segment:
    """The segment with our names of assigning authorities, known by name (CX.4.1) or universal identifier (CX.4.2)."""
    for name, field in IDENTIFIERS:
        if segment.name != name or not segment.field(field):
            continue
        written = []
        for repetition in segment.repetitions(field):
            ours = authorities.get(repetition.get(4)) or authorities.get(repetition.get(4, 2) or "\0")
            place = Place(name, field, 4, 1)
            text = repetition.encoded
            written.append(text if ours is None else _with_part(text, place, _escaped(ours, separators), separators))
        segment = segment.with_field(field, separators.repetition.join(written))
    return segment


def _escaped(text: str, separators: Separators) -> str:
    return escaper(separators)(text) if separators.complete else text
