"""Addresses, zones and names as they stand in `hilum.toml`: checked when the file is read, not when they are used."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

# Which address schemes each kind of destination takes.
SCHEMES: dict[str, tuple[str, ...]] = {
    "hl7": ("mllp", "mllps"),
    "dicom": ("dicom", "dicoms"),
    "stow": ("http", "https"),
    "fhir": ("http", "https"),
    "webhook": ("http", "https"),
    "smtp": ("smtp", "smtps"),
    "file": ("file",),
    "s3": ("s3",),
}
NEEDS_PORT = frozenset({"mllp", "mllps", "dicom", "dicoms"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_SHA256 = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}")

# HL7 table 0211, the alternate character sets that Hilum reads and writes (MSH-18).
HL7_CHARSETS = ("ASCII", *(f"8859/{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)), "UNICODE UTF-8")


class HostPort(NamedTuple):
    """A host and a port; the host of an IPv6 address stands without its brackets."""

    host: str
    port: int


def host_and_port(text: str) -> HostPort:
    """Read `HOST:PORT` or `[IPv6]:PORT`; port 0 asks the system for a free one. Raises ValueError."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", text)
    if found is None:
        raise ValueError('is not of the form "HOST:PORT"')
    if int(found[2]) > 65535:
        raise ValueError("has a port above 65535")
    return HostPort(found[1].strip("[]"), int(found[2]))


def _host_port_text(text: str) -> str:
    host_and_port(text)
    return text


def _zone_name(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise ValueError('is not a time zone name such as "Europe/Berlin" or "UTC"') from None
    return text


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError('is not an address or network such as "10.0.0.1" or "10.0.0.0/8"') from None
    return text


def _optional_zone_name(text: str) -> str:
    return _zone_name(text) if text else text


def _ae_title(text: str) -> str:
    # PS3.5 6.2, AE: 16 characters of the default repertoire, no backslash, not only spaces.
    if not re.fullmatch(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?", text):
        raise ValueError("is not an AE title: 1 to 16 ASCII characters without backslash")
    return text


def _hl7_charset(text: str) -> str:
    if text not in HL7_CHARSETS:
        raise ValueError("is none of " + ", ".join(HL7_CHARSETS))
    return text


def _application(text: str) -> str:
    # MSH-3|MSH-4 and MSH-5|MSH-6: two HD fields of at most 227 characters.
    if text.count("|") != 1 or len(text) > 455 or not text.split("|")[0] or any(ord(letter) < 32 for letter in text):
        raise ValueError('is not of the form "APPLICATION|FACILITY"')
    return text


def _certificate_name(text: str) -> str:
    # A distinguished name or a colon-separated digest of another length is a slip that would let nobody in.
    if len(text) > 128 or not text.isprintable() or "=" in text or (":" in text and not _SHA256.fullmatch(text)):
        raise ValueError("is neither the common name of a certificate nor its SHA-256 fingerprint")
    return text


def _mllp_address(text: str) -> str:
    if text:
        check_address("hl7", text)
    return text


def _web_root(text: str) -> str:
    if text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("is not an http or https address")
    return text.rstrip("/")


def _web_origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError('is not an origin such as "https://viewer.example": scheme, host and port, and nothing else')
    if parts.username is not None or text != text.lower():
        raise ValueError("is not written as browsers send it: in small letters and without a user")
    return text


def _collector_address(text: str) -> str:
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("tls", "tcp", "udp") or not parts.hostname or parts.path or parts.query or parts.username:
        raise ValueError("is not of the form tls://HOST:PORT")
    host_and_port(parts.netloc)
    # What a message says of a patient must not be read on the way (RFC 5425, BCP 195).
    if parts.scheme != "tls" and parts.hostname not in LOOPBACK:
        raise ValueError("is plain; only tls:// leaves this machine")
    return text


def check_address(kind: str, address: str) -> None:
    """Raise ValueError, in words that follow the name of the setting, unless the address suits the kind."""
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES[kind]:
        allowed = " or ".join(f"{scheme}://" for scheme in SCHEMES[kind])
        raise ValueError(f'must begin with {allowed} for kind "{kind}"')
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number up to 65535") from None
    if kind == "file":
        if not parts.path:
            raise ValueError("names no folder")
        return
    if not parts.hostname:
        raise ValueError("names no bucket" if kind == "s3" else "names no host")
    if parts.scheme in NEEDS_PORT and not port:
        raise ValueError("names no port")
    if kind == "dicom":
        _check_called_ae(parts.username)
    elif parts.password is not None:
        raise ValueError("holds a password, which belongs into password_file")


def _check_called_ae(title: str | None) -> None:
    if not title:
        raise ValueError("names no AE title: dicom://AET@HOST:PORT")
    _ae_title(title)


BindAddress = Annotated[str, AfterValidator(_host_port_text)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
OptionalZoneName = Annotated[str, AfterValidator(_optional_zone_name)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Hl7Charset = Annotated[str, AfterValidator(_hl7_charset)]
Application = Annotated[str, AfterValidator(_application)]
PeerCertificateName = Annotated[str, AfterValidator(_certificate_name)]
CollectorAddress = Annotated[str, AfterValidator(_collector_address)]
MllpAddress = Annotated[str, AfterValidator(_mllp_address)]
WebOrigin = Annotated[str, AfterValidator(_web_origin)]
Network = Annotated[str, AfterValidator(_network)]
WebRoot = Annotated[str, AfterValidator(_web_root)]
# A field of a message and its parts, as in `PID-3.4` or `OBX-5`; a repetition cannot be named.
MessagePath = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2}-[1-9][0-9]{0,2}(?:\.[1-9][0-9]?){0,2}$")]
MessageKind = Annotated[str, Field(pattern=r"^(?:\*|[A-Z][A-Z0-9]{2}(?:\^[A-Z][A-Z0-9]{2})?)$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Authority = Annotated[str, Field(max_length=227, pattern=r"^[^|^~\\\x00-\x1f]*$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
