"""The `hilum.toml` of a new home: what most people change first, with a word on each."""

from __future__ import annotations

_STARTER = """\
# Hilum's configuration. Every setting, with its meaning and default: docs/configuration.md.
# A change takes effect at the next message or association; addresses and stores at the next start.
# Any setting can come from the environment: HILUM_HTTP__BIND=127.0.0.1:8080

[facility]
name = "Radiology"
zone = "UTC"                       # e.g. "Europe/Berlin": how local times of messages and images are read
default_authority = ""             # issuer of patient identifiers that come without one

[http]
bind = "127.0.0.1:8080"
# public_url = "https://hilum.example.org"   # root of the links that are sent to others

[dicom]
bind = "127.0.0.1:11112"
ae_title = "HILUM"
accept_unknown = "loopback"        # good for a first try on one machine; "none" once the peers are named

[hl7]
bind = "127.0.0.1:2575"
accept_unknown = "loopback"        # as above

[database]
url = "sqlite"                     # or "postgresql://user@host/hilum"

[archive]
url = "file"                       # or "s3://bucket/prefix"

# A scanner. `issuer` is the issuer of the patient IDs it sends without one.
# [[dicom.peer]]
# ae_title = "CT01"
# address = "127.0.0.1:11113"
# issuer = "GENHOSP"

# A sending system, known by MSH-3|MSH-4.
# [[hl7.peer]]
# name = "EPIC|GENHOSP"
# filler = "auto"                  # auto | hilum | external: who numbers its orders
# authority = "GENHOSP"

# A receiver, and what it gets: each signed version of a report, and each change of an order's status.
# [[destination]]
# name = "ehr"
# kind = "hl7"
# address = "mllp://127.0.0.1:6661"
# receiving = "EPIC|GENHOSP"
#
# [[route]]
# on = "ReportSigned"
# if = "report.status != 'draft'"
# to = ["ehr"]
#
# [[route]]
# on = "OrderStatusChanged"
# to = ["ehr"]
"""


def starter_file() -> str:
    """The text of `hilum.toml` for a new home; it opens DICOM and HL7 to this machine, which `hilum check` names."""
    return _STARTER
