"""Who a peer is by its certificate: the common name of its subject, or the fingerprint of the certificate itself.

Both are looked at only after the handshake has proven the certificate; without one nobody is anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A proven certificate: CN of its subject, and SHA-256 of its DER form in lower-case hexadecimal."""

    common_name: str
    fingerprint: str

    def is_named(self, setting: str) -> bool:
        """Tell whether a peer's setting `certificate` (fingerprint or common name) means this one."""
        digest = fingerprint_of(setting)
        if digest:
            return hmac.compare_digest(digest, self.fingerprint)
        return bool(setting) and setting == self.common_name


def agrees(setting: str, certificate: PeerCertificate | None) -> bool:
    """Tell whether a peer with this certificate, or without any, is the one of the setting; an empty one asks none."""
    return not setting or (certificate is not None and certificate.is_named(setting))


def fingerprint_of(text: str) -> str:
    """A SHA-256 fingerprint, written with or without colons, in its plain form; empty for what is none."""
    plain = text.replace(":", "").strip().lower()
    return plain if _FINGERPRINT.fullmatch(plain) else ""


def peer_certificate(connection: ssl.SSLSocket | ssl.SSLObject) -> PeerCertificate | None:
    """The certificate that the other end of a connection has proven, or None."""
    said, der = connection.getpeercert(), connection.getpeercert(binary_form=True)
    if not said or der is None:
        return None
    subject: tuple[tuple[tuple[str, str], ...], ...] = said.get("subject", ())  # type: ignore[assignment]
    names = [value for part in subject for key, value in part if key == "commonName"]
    return PeerCertificate(names[0] if names else "", hashlib.sha256(der).hexdigest())
