"""Waveforms of an instance as physical values: multiplex groups of channels (PS3.3 C.10.9), read as far as asked.

Samples lie interleaved, so the beginning of a recording is the beginning of its bytes: a recording of a day costs what
its first seconds do.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hilum.archive.metadata import integer, items, number, text
from hilum.archive.walk import Attributes
from hilum.core.errors import InvalidInput, Unsupported

MAX_CHANNELS = 256
MAX_BYTES = 64 << 20
Values = NDArray[np.float64]
# The bytes of the data set: offset, length → exactly that many bytes.
Reader = Callable[[int, int], bytes]

# PS3.3 C.10.9.1.6, Waveform Sample Interpretation; μ-law and A-law are sounds and not drawn.
_SAMPLES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4", "SV": "i8", "UV": "u8"}
# The leads by the numbers that MDC (2:1) and SCPECG (5.6.3-9-1) share; PS3.16 CID 3001.
_LEADS = {1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6",
          61: "III", 62: "aVR", 63: "aVL", 64: "aVF"}  # fmt: skip
STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_BY_WORD = {lead.lower(): lead for lead in STANDARD_LEADS}
_VOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "nv": 1e-6, "v": 1e3}  # to millivolts


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its name, its values in `unit`, and which standard ECG lead it is, if any. NaN is padding."""

    name: str
    lead: str
    unit: str
    values: Values


@dataclass(frozen=True, slots=True)
class Group:
    """A multiplex group: channels sampled together, of which the first `shown` seconds of `seconds` are read."""

    label: str
    frequency: float
    seconds: float
    channels: tuple[Channel, ...]

    @property
    def shown(self) -> float:
        """Seconds that were read."""
        return len(self.channels[0].values) / self.frequency


def first_group(attributes: Attributes, reader: Reader, *, big_endian: bool = False, seconds: float = 60.0) -> Group:
    """The first multiplex group, at most its first `seconds`.

    Raises Unsupported for what is no waveform or has samples that are not drawn, InvalidInput for contradictions.
    """
    item = next(items(attributes, "54000100"), None)
    if item is None:
        raise Unsupported("The instance has no waveform.", field="WaveformSequence")
    count, samples = integer(item, "003A0005") or 0, integer(item, "003A0010") or 0
    frequency = number(item, "003A001A") or 0.0
    if not (0 < count <= MAX_CHANNELS and samples > 0 and frequency > 0 and math.isfinite(frequency)):
        raise InvalidInput("The waveform does not say its channels, samples and frequency.", field="WaveformSequence")
    wanted = max(1, min(samples, int(seconds * frequency)))
    raw = _samples(item, reader, count, wanted, ">" if big_endian else "<")
    definitions = list(items(item, "003A0200"))
    channels = tuple(
        _channel(definitions[index] if index < len(definitions) else {}, index, raw[:, index]) for index in range(count)
    )
    return Group(text(item, "003A0020"), frequency, samples / frequency, channels)


def _samples(item: Attributes, reader: Reader, channels: int, wanted: int, order: str) -> Values:
    """Samples by time and channel."""
    kind = _SAMPLES.get(text(item, "54001006"))
    if kind is None:
        raise Unsupported("Samples of this kind are not drawn.", field="WaveformSampleInterpretation")
    width = int(kind[1:])
    if integer(item, "54001004") not in (None, 8 * width):
        raise InvalidInput("The samples have another width than their kind.", field="WaveformBitsAllocated")
    length = wanted * channels * width
    if length > MAX_BYTES:
        raise Unsupported("The waveform is sampled too densely to be drawn.", field="SamplingFrequency")
    entry = item.get("54001010", {})
    if "InlineBinary" in entry:
        data, order = b64decode(entry["InlineBinary"])[:length], "<"  # PS3.18 F.2.7: little endian
    elif "BulkDataURI" in entry:
        _, offset, total = entry["BulkDataURI"].split("/")
        data = reader(int(offset), min(length, int(total)))
    else:
        data = b""
    if len(data) < length:
        raise InvalidInput("The waveform is shorter than it says.", field="WaveformData")
    raw = np.frombuffer(data, np.dtype(f"{order}{kind}")).reshape(wanted, channels)
    values: Values = raw.astype(np.float64)
    padding = item.get("5400100A", {}).get("InlineBinary", "")
    if padding and len(bare := b64decode(padding)) >= width:
        values[raw == np.frombuffer(bare[:width], np.dtype(f"<{kind}"))[0]] = np.nan
    return values


def _channel(definition: Attributes, index: int, raw: Values) -> Channel:
    """A channel by its definition (PS3.3 C.10.9.1.4); without a sensitivity its values are bare numbers."""
    source = next(items(definition, "003A0208"), {})
    label = text(definition, "003A0203") or text(source, "00080104")
    sensitivity = number(definition, "003A0210")
    unit = text(next(items(definition, "003A0211"), {}), "00080100") if sensitivity is not None else ""
    values = raw
    if sensitivity is not None:
        correction = number(definition, "003A0212")
        values = raw * sensitivity * (1.0 if correction is None else correction) + (number(definition, "003A0213") or 0)
    if (factor := _VOLTS.get(unit.lower())) is not None:
        values, unit = values * factor, "mV"
    lead = _lead(text(source, "00080100"), label)
    return Channel(lead or label or f"Channel {index + 1}", lead, unit, values)


def _lead(code: str, label: str) -> str:
    match = re.search(r"(?:^2:|5\.6\.3-9-)([0-9]{1,3})\Z", code)
    if match:
        return _LEADS.get(int(match[1]), "")
    words = re.findall(r"[A-Za-z0-9]+", label.lower())
    said = next((_BY_WORD[word] for word in words if word in _BY_WORD), "")
    return said if "lead" in words or len(words) == 1 else ""
