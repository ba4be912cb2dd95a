"""The sections of `hilum.toml`: one frozen model each, every key with its meaning (docs/configuration.md prints them).

Unknown keys are refused, so that a slip of the pen never becomes a silent default.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from hilum.core.event import EventName
from hilum.settings.addresses import (
    AeTitle,
    Application,
    Authority,
    BindAddress,
    CollectorAddress,
    Hl7Charset,
    HostPort,
    MessageKind,
    MessagePath,
    MllpAddress,
    Name,
    Network,
    OptionalZoneName,
    PeerCertificateName,
    Seconds,
    WebOrigin,
    WebRoot,
    ZoneName,
    check_address,
    host_and_port,
)
from hilum.settings.errors import SettingsError

MIB = 1024 * 1024
AcceptUnknown = Literal["none", "loopback"]
Filler = Literal["auto", "hilum", "external"]
RouteSend = Literal["event", "raw", "availability", "priors"]
DestinationKind = Literal["hl7", "dicom", "stow", "fhir", "webhook", "smtp", "file", "s3"]


class Section(BaseModel):
    """What all sections share: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Door(Section):
    """What every listening door has: where it listens, and how it is encrypted."""

    bind: BindAddress = Field(description="`HOST:PORT` to listen on; port 0 takes any free one.")
    tls: Literal["off", "server", "mutual"] = Field(
        default="off",
        description="`server` encrypts; `mutual` also wants a certificate that `ca` has signed from each client.",
    )
    cert: str = Field(default="tls/server.pem", description="Certificate chain, PEM; relative to the home.")
    key: str = Field(default="tls/server.key", description="Private key, PEM; relative to the home.")
    ca: str = Field(default="tls/ca.pem", description="Authorities that may sign a client's certificate, PEM.")
    crl: str = Field(default="", description="Revocation list of clients' certificates, PEM; empty for none.")
    allow_plain: bool = Field(
        default=False,
        description="Whether `hilum check` lets this door listen beyond this machine without TLS, as behind a proxy.",
    )

    @property
    def listen(self) -> HostPort:
        """The host and the port of `bind`."""
        return host_and_port(self.bind)


class HttpSettings(Door):
    """The web door: pages, DICOMweb, FHIR, CDS Hooks, health and metrics."""

    bind: BindAddress = Field(
        default="127.0.0.1:8080", description="`HOST:PORT` to listen on; port 0 takes any free one."
    )
    public_url: WebRoot = Field(
        default="",
        description="Root of the links that Hilum sends to others; empty for `bind` itself. Set it behind a proxy.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Addresses or networks of proxies: their `X-Forwarded-For` says who asks, their `Forwarded` "
        "or `X-Forwarded-Proto`, `-Host`, `-Port` and `-Prefix` where links of an answer point. From others these are "
        "ignored. `public_url` goes before them.",
    )
    cors_origins: tuple[WebOrigin, ...] = Field(
        default=(),
        description="Origins (`https://viewer.example`) whose pages may read what DICOMweb, FHIR and CDS Hooks answer; "
        "none unless named, and the pages of Hilum itself never.",
    )
    cors_credentials: bool = Field(
        default=False,
        description="Whether those pages may ask by the login of the person at the browser; else they bring a token.",
    )
    processes: int = Field(default=2, ge=1, le=64, description="How many processes answer HTTP.")
    max_body_bytes: int = Field(default=16 * MIB, ge=1024, description="Largest request body, other than STOW-RS.")
    stow_max_bytes: int = Field(default=4096 * MIB, ge=1024, description="Largest STOW-RS request.")
    max_connections: int = Field(
        default=4_000,
        ge=1,
        le=100_000,
        description="Connections at once, in all processes of a node; others are closed.",
    )
    max_connections_per_address: int = Field(
        default=1_000, ge=1, le=100_000, description="The same of one address; a proxy is one address."
    )
    header_timeout: Seconds = Field(
        default=20, description="Seconds from a connection, or the first byte of a request, to the end of its headers."
    )
    body_timeout: Seconds = Field(
        default=30, description="Seconds a client may be silent within a request's body, or not take an answer."
    )
    requests_per_second_per_address: int = Field(
        default=1_000,
        ge=0,
        description="Requests from one address, averaged over ten seconds, of a node, all processes; 0: none.",
    )
    requests_per_second_per_account: int = Field(
        default=1_000, ge=0, description="Requests under one account, likewise; 0 for no limit."
    )

    @property
    def base_url(self) -> str:
        """Root of absolute links, without a slash at its end."""
        scheme = "http" if self.tls == "off" else "https"
        return self.public_url or f"{scheme}://{self.bind}"


class DicomPeer(Section):
    """An application entity that may call, or is called by its title."""

    ae_title: AeTitle = Field(description="Its AE title.")
    address: BindAddress | None = Field(
        default=None, description="Its `HOST:PORT`; where set, calls under this title must come from that host."
    )
    certificate: PeerCertificateName = Field(
        default="",
        description="Common name or SHA-256 fingerprint of its certificate; where set, calls under this title must "
        'show it, which takes `tls = "mutual"`.',
    )
    issuer: Authority = Field(default="", description="Issuer of patient IDs that come without one.")
    charset: str = Field(
        default="ISO_IR 192",
        max_length=64,
        description="Specific Character Set of the answers it gets, `\\` between values.",
    )
    zone: OptionalZoneName = Field(
        default="", description="Time zone of its dates and times; empty for the facility's."
    )
    may_reject: bool = Field(
        default=False,
        description="Whether rejection notes that it sends act by themselves; those of others wait for a person.",
    )
    tls: bool = Field(default=False, description="Whether it is called over TLS, as the destination of a C-MOVE.")
    ca: str = Field(default="", description="Authorities that sign its certificate, PEM; empty for the system's.")
    cert: str = Field(default="", description="Certificate to show it when it is called, PEM; empty for none.")
    key: str = Field(default="", description="Private key of that certificate, PEM.")
    dimse_timeout: Seconds | None = Field(
        default=None, description="The same as in `[dicom]`, for this peer alone, whoever calls whom."
    )
    idle_timeout: Seconds | None = Field(default=None, description="The same as in `[dicom]`, for this peer alone.")
    max_associations: int | None = Field(
        default=None, ge=1, le=10_000, description="Associations at once under its title; empty for those of `[dicom]`."
    )

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")
        return self


class DicomSettings(Door):
    """The DICOM door: C-ECHO, C-STORE, C-FIND, worklist and MPPS."""

    bind: BindAddress = Field(
        default="127.0.0.1:11112", description="`HOST:PORT` to listen on; port 0 takes any free one."
    )
    ae_title: AeTitle = Field(default="HILUM", description="AE title of this archive.")
    accept_unknown: AcceptUnknown = Field(
        default="none", description="`loopback` lets an AE that is no peer call from this machine."
    )
    check_called_ae: bool = Field(
        default=True, description="Whether a call to another title than `ae_title` is rejected."
    )
    max_associations: int = Field(
        default=100, ge=1, le=10_000, description="Associations at once; more are rejected for now."
    )
    max_associations_per_peer: int = Field(
        default=50, ge=1, le=10_000, description="The same under one title from one address."
    )
    max_pdu: int = Field(default=131_072, ge=4_096, le=16 * MIB, description="Largest PDU that is accepted, bytes.")
    max_instance_bytes: int = Field(default=4096 * MIB, ge=MIB, description="Largest instance that is accepted.")
    acse_timeout: Seconds = Field(default=30, description="Seconds to wait for an association request or release.")
    dimse_timeout: Seconds = Field(default=60, description="Seconds to wait for the rest of a message.")
    idle_timeout: Seconds = Field(default=300, description="Seconds an association may be silent before it is aborted.")
    max_matches: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Matches that a C-FIND is answered at most; a query that has more ends with A700H.",
    )
    user_identity: Literal["ignore", "check", "require"] = Field(
        default="check",
        description="What becomes of a user that a caller names (PS3.7 D.3.3.7): nothing; refused unless it is one of "
        "ours by passcode or token; or every caller must name one.",
    )
    trust_user_names: Literal["none", "mutual-tls"] = Field(
        default="none", description="Whether a caller with a certificate may name a user without a passcode."
    )
    peer: tuple[DicomPeer, ...] = Field(default=(), description="The known application entities.")

    @model_validator(mode="after")
    def _titles_are_unique(self) -> Self:
        _refuse_twice([peer.ae_title for peer in self.peer], "ae_title")
        return self

    def peer_named(self, ae_title: str) -> DicomPeer | None:
        """The peer of this AE title, if it is configured."""
        return next((peer for peer in self.peer if peer.ae_title == ae_title.strip()), None)


class Hl7Peer(Section):
    """A sending application: which orders it fills and how its messages are read."""

    name: Application = Field(description="`MSH-3|MSH-4` of its messages.")
    filler: Filler = Field(
        default="auto",
        description="Who numbers its orders; `auto`: whoever brings accession and Study Instance UID, else Hilum.",
    )
    authority: Authority = Field(default="", description="Assigning authority of identifiers that come without one.")
    zone: OptionalZoneName = Field(
        default="", description="Time zone of times without an offset; empty for the facility's."
    )
    charset: Hl7Charset | Literal[""] = Field(
        default="",
        description="How to read messages without MSH-18; empty: UTF-8 where the bytes are valid, else 8859/1.",
    )
    address: MllpAddress = Field(
        default="",
        description="`mllp://HOST:PORT` for deferred application acknowledgements; empty for the same connection. "
        "Where set, its messages must come from that host.",
    )
    certificate: PeerCertificateName = Field(
        default="",
        description="Common name or SHA-256 fingerprint of its certificate; where set, its messages must come under "
        'it, which takes `tls = "mutual"`.',
    )
    answer: Literal["orr", "ack"] = Field(
        default="orr", description="Whether orders are answered by ORR/ORG/ORI or a plain ACK."
    )
    version: Literal["", "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1"] = Field(
        default="", description="HL7 version that it means to send; `hilum conformance` names messages of another."
    )
    authorities: dict[Authority, Authority] = Field(
        default={},
        max_length=200,
        description="`ITS = OURS`: what it calls an assigning authority of patient numbers (CX.4), and how we do.",
    )
    places: dict[MessagePath, MessagePath] = Field(
        default={},
        max_length=100,
        description='`"OBR-18" = "ZAC-2"`: what the standard has at the first place, this sender has at the second.',
    )
    codes: dict[MessagePath, dict[str, str]] = Field(
        default={},
        max_length=100,
        description='`"PID-8" = {W = "F"}`: codes of its own at a place, and those of the standard that they mean.',
    )
    required: dict[MessageKind, tuple[MessagePath, ...]] = Field(
        default={},
        max_length=100,
        description='`"ORM^O01" = ["PV1-19"]`: what has to be valued, else the message is refused; `"*"` is for all.',
    )


class Hl7Settings(Door):
    """The HL7 v2 door: MLLP."""

    bind: BindAddress = Field(
        default="127.0.0.1:2575", description="`HOST:PORT` to listen on; port 0 takes any free one."
    )
    accept_unknown: AcceptUnknown = Field(
        default="none", description="`loopback` lets an application that is no peer send from this machine."
    )
    max_frame_bytes: int = Field(default=16 * MIB, ge=1024, description="Largest message.")
    max_connections: int = Field(default=200, ge=1, le=10_000, description="Connections at once; more are closed.")
    max_connections_per_address: int = Field(
        default=100, ge=1, le=10_000, description="The same of one address; an interface engine is one address."
    )
    idle_timeout: Seconds = Field(default=3_600, description="Seconds a connection may be silent before it is closed.")
    frame_timeout: Seconds = Field(default=60, description="Seconds from the first byte of a message to its last.")
    peer: tuple[Hl7Peer, ...] = Field(default=(), description="The known sending applications.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _refuse_twice([peer.name for peer in self.peer], "name")
        return self

    def peer_named(self, name: str) -> Hl7Peer | None:
        """The peer of this `MSH-3|MSH-4`, if it is configured."""
        return next((peer for peer in self.peer if peer.name == name), None)


class DatabaseSettings(Section):
    """Where the one truth is kept."""

    url: str = Field(default="sqlite", repr=False, description="`sqlite` (a file in the home) or `postgresql://…`.")
    pool: int = Field(default=10, ge=1, le=200, description="Connections each process keeps to PostgreSQL.")

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url != "sqlite" and not url.startswith("postgresql://"):
            raise ValueError('is neither "sqlite" nor postgresql://…')
        return url


class RetentionRule(Section):
    """How long images are kept. A study is past its retention when every rule that it falls under says so."""

    modalities: tuple[str, ...] = Field(
        default=(), max_length=64, description="Modalities that it is about; empty for those that no other rule names."
    )
    keep_years: int = Field(ge=1, le=200, description="Years that images are kept.")
    since: Literal["study", "last-exam"] = Field(
        default="study", description="Counted from the study itself, or from the patient's latest study."
    )
    minors_until: int = Field(
        default=0,
        ge=0,
        le=120,
        description="Images of whoever was younger are kept until this age at least; an unknown birth date keeps them.",
    )


class CompressRule(Section):
    """Which images get a compressed copy, that is served in their place; the first rule that fits an image holds."""

    modality: str = Field(default="", max_length=16, description="Modality of the series; empty for all.")
    source: str = Field(default="", max_length=64, description="Name of the sender (AE title); empty for all.")
    age_days: float = Field(default=0, ge=0, le=36_500, description="Days after arrival.")
    to: Literal["htj2k", "jpeg-ls", "jpeg2000", "rle", "jpeg"] = Field(
        default="htj2k",
        description="Compression: `jpeg` (8 bits) loses always, `jpeg-ls` and `jpeg2000` if told to, the others never.",
    )
    lossy: bool = Field(
        default=False,
        description="Whether the copy loses something; it is another instance then, sent only to who names its syntax.",
    )
    quality: int = Field(default=90, ge=1, le=100, description="Quality of a lossy copy.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.lossy and self.to in ("htj2k", "rle"):
            raise ValueError(f"`{self.to}` is without loss here")
        if self.to == "jpeg" and not self.lossy:
            raise ValueError("`jpeg` takes `lossy = true`")
        return self


class ArchiveSettings(Section):
    """Where the bytes of images are kept."""

    url: str = Field(default="file", description="`file` (a folder in the home) or `s3://bucket/prefix`.")
    endpoint: WebRoot = Field(default="", description="Address of an S3 service that is not Amazon's.")
    region: str = Field(default="us-east-1", max_length=64, description="Region of the bucket.")
    access_key: SecretStr = Field(
        default=SecretStr(""), description="Access key; better from a file or the environment."
    )
    access_key_file: str = Field(default="", description="File that holds the access key.")
    secret_key: SecretStr = Field(
        default=SecretStr(""), description="Secret key; better from a file or the environment."
    )
    secret_key_file: str = Field(default="", description="File that holds the secret key.")
    coerce_on_retrieve: bool = Field(
        default=True,
        description="Instances go out with what is known of patient, order and study where they say something else.",
    )
    segment_bytes: int = Field(default=256 * MIB, ge=MIB, description="Size at which a landing segment is closed.")
    settle: bool = Field(
        default=True,
        description="Finished series move from where they landed into plain objects, ZIP files that any tool opens.",
    )
    settle_after_hours: float = Field(
        default=1, ge=0, le=87_600, description="Hours after the completion of a study until its series are settled."
    )
    verify_mb_per_second: float = Field(
        default=5, ge=0, le=10_000, description="MB a second of stored images compared with their digests; 0: none."
    )
    verify_every_days: float = Field(
        default=7, ge=0, le=3_650, description="Days between the end of one such pass over the archive and the next."
    )
    compress: tuple[CompressRule, ...] = Field(
        default=(), max_length=100, description="Which images get a compressed copy; the original is kept."
    )
    compress_mb_per_second: float = Field(
        default=5, gt=0, le=10_000, description="MB a second of stored images that are read to be compressed."
    )
    rejected_for_quality: Literal["hide", "show"] = Field(
        default="hide",
        description="Whether images are hidden that a note rejects for quality (113001), for notes from then on.",
    )

    deletion_grace_days: float = Field(
        default=30, ge=0, le=3_650, description="Days for which a deletion can be undone; then its bytes are removed."
    )
    retention: tuple[RetentionRule, ...] = Field(
        default=(), description="Rules of retention; a modality that no rule is about is kept for ever."
    )
    retention_marks: bool = Field(
        default=False,
        description="Whether what is past its retention is rejected (113039) and marked for deletion by itself; "
        "otherwise it is only listed by `hilum retention list`.",
    )

    @field_validator("url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if url != "file" and not (url.startswith("s3://") and url[len("s3://") :].split("/")[0]):
            raise ValueError('is neither "file" nor s3://bucket/prefix')
        return url

    def credentials(self, home: Path) -> tuple[str, str] | None:
        """Access key and secret key, from their files where named; None without both. Raises SettingsError."""
        access = _secret("access_key", home, self.access_key, self.access_key_file)
        secret = _secret("secret_key", home, self.secret_key, self.secret_key_file)
        return (access, secret) if access and secret else None


class FacilitySettings(Section):
    """The department itself."""

    name: str = Field(default="Radiology", max_length=64, description="Shown on pages and sent as the institution.")
    default_authority: Authority = Field(
        default="", description="Issuer of identifiers where no peer's setting names one."
    )
    zone: ZoneName = Field(default="UTC", description="Time zone of local dates and times at the edges.")


class WorklistSettings(Section):
    """The modality worklist."""

    show_started: bool = Field(default=False, description="Whether steps that have started are still answered.")


class StudySettings(Section):
    """When images make a study."""

    quiet_seconds: Seconds = Field(
        default=60, description="Seconds without a new image after which a study is complete."
    )
    quiet_seconds_of: dict[str, Seconds] = Field(
        default={},
        description="The same by modality, `{US = 20, MR = 600}`; of a study of several the longest counts.",
    )
    stored_seconds: Seconds = Field(
        default=5, description="Seconds between two `InstancesStored` of a study that goes on receiving images."
    )
    exam_patience: Seconds = Field(
        default=14_400,
        description="Seconds without a new image after which a study is complete though its exam (MPPS) is still in "
        "progress. An exam that is completed completes the study as soon as all that it lists is here.",
    )

    def quiet_of(self, modalities: Iterable[str]) -> float:
        """Seconds of quiet that complete a study of these modalities."""
        known = [self.quiet_seconds_of.get(each, self.quiet_seconds) for each in modalities]
        return max(known, default=self.quiet_seconds)

    @property
    def least_quiet(self) -> float:
        """The shortest quiet that completes any study."""
        return min(self.quiet_seconds, *self.quiet_seconds_of.values(), self.quiet_seconds)


class PriorsSettings(Section):
    """Which earlier examinations are named at ordering and at reading."""

    look_back_years: int = Field(default=5, ge=1, le=100, description="How far back a prior is relevant.")
    prefetch_most: int = Field(
        default=3, ge=1, le=50, description='How many priors of an order a route with `send = "priors"` sends at most.'
    )

    @property
    def look_back(self) -> timedelta:
        """How far back a prior is relevant."""
        return timedelta(days=365.25 * self.look_back_years)


class AuditSettings(Section):
    """Where the audit trail is sent besides being kept: a collector of DICOM audit messages (PS3.15 A.5)."""

    syslog: CollectorAddress = Field(
        default="",
        description="`tls://HOST:PORT` of a syslog collector, or `tcp://…` and `udp://…` on this machine; empty: none.",
    )
    ca: str = Field(default="", description="Authorities that sign its certificate, PEM; empty for the system's.")
    cert: str = Field(default="", description="Certificate to show it, PEM; empty for none.")
    key: str = Field(default="", description="Private key of that certificate, PEM.")
    source: str = Field(
        default="", max_length=64, description="Name under which this Hilum reports; empty for `hilum@` and the host's."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")
        return self


class LogSettings(Section):
    """The logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level written."
    )


class GiveUp(Section):
    """After how many negative answers a message is a dead letter."""

    AE: int = Field(default=3, ge=1, le=1_000, description="Tries answered by AE (or its like at another door).")
    AR: int = Field(default=1, ge=1, le=1_000, description="Tries answered by AR.")


class Destination(Section):
    """A receiver of what happens here."""

    name: Name = Field(description="The name that routes and `hilum queue` use.")
    kind: DestinationKind = Field(description="How it is spoken to.")
    address: str = Field(
        description="`mllp://HOST:PORT`, `mllps://…`, `dicom://AET@HOST:PORT`, `https://…`, `smtp://…`, `file:///…`, `s3://…`."
    )
    ack_timeout: Seconds = Field(default=10, description="Seconds to wait for its answer.")
    retry_first: Seconds = Field(default=1, description="Seconds before the first retry; doubled at each further one.")
    retry_max: Seconds = Field(default=300, description="Longest pause between two tries.")
    give_up: GiveUp = Field(default=GiveUp(), description="After how many negative answers a message is a dead letter.")
    maximum_age: float = Field(
        default=0,
        ge=0,
        le=87_600,
        description="Hours after its event from which a message that could not be delivered is a dead letter, for a "
        "person to decide on; 0: never.",
    )
    receiving: Application | Literal[""] = Field(default="", description="`MSH-5|MSH-6` of messages to it.")
    version: Literal["2.3", "2.3.1", "2.4", "2.5", "2.5.1"] = Field(default="2.5.1", description="HL7 version, MSH-12.")
    charset: Hl7Charset = Field(default="UNICODE UTF-8", description="Character set of messages to it, MSH-18.")
    retraction: Literal["W", "D"] = Field(
        default="W", description="OBX-11 of a retracted report: posted as wrong (`W`) or deleted (`D`)."
    )
    ca: str = Field(default="", description="Authorities that sign its certificate, PEM; empty for the system's.")
    cert: str = Field(default="", description="Certificate to show it, PEM; empty for none.")
    key: str = Field(default="", description="Private key of that certificate, PEM.")
    password_file: str = Field(
        default="",
        description="File with the secret that signs webhooks, the password of an smtp account or the bearer token of "
        "a stow destination, in the home.",
    )
    calling_ae_title: AeTitle | Literal[""] = Field(
        default="", description="Our title towards a dicom destination; empty for that of `[dicom]`."
    )
    commitment: bool = Field(
        default=False,
        description="Whether a dicom destination is asked for storage commitment, and images count as delivered only "
        "once it has committed itself.",
    )

    @model_validator(mode="after")
    def _address_suits_kind(self) -> Self:
        try:
            check_address(self.kind, self.address)
        except ValueError as error:
            raise ValueError(f"address {error}") from None
        if self.retry_max < self.retry_first:
            raise ValueError("retry_max is shorter than retry_first")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")
        if self.kind != "dicom" and (self.commitment or self.calling_ae_title):
            raise ValueError('commitment and calling_ae_title go with kind = "dicom" only')
        return self


class Route(Section):
    """Which events go to which destinations."""

    on: str = Field(description="The event; see Events below.")
    condition: str = Field(
        default="",
        alias="if",
        max_length=4_096,
        description="CEL over event, order, report, study, patient, message; empty: always.",
    )
    to: tuple[Name, ...] = Field(min_length=1, description="Names of destinations.")
    send: RouteSend = Field(
        default="event",
        description="`raw` forwards a received message byte for byte; `availability` tells a dicom destination which "
        "images can be retrieved here (IAN); `priors` sends the relevant priors of an order to dicom and stow "
        "destinations.",
    )
    only: str = Field(
        default="",
        max_length=4_096,
        description="CEL over study, series, instance, source, patient, header: which images go to dicom and stow "
        "destinations; empty: all.",
    )

    @field_validator("on")
    @classmethod
    def _known_event(cls, name: str) -> str:
        if name not in event_names():
            raise ValueError("is no event; the events are " + ", ".join(event_names()))
        return name

    @model_validator(mode="after")
    def _raw_needs_a_message(self) -> Self:
        if self.send == "raw" and self.on != "MessageReceived":
            raise ValueError('send = "raw" goes with on = "MessageReceived" only')
        return self


def event_names() -> tuple[str, ...]:
    """The closed list of events that a route may name."""
    return tuple(str(name) for name in EventName)


def _refuse_twice(names: list[str], key: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two peers have the same {key}")


def _secret(key: str, home: Path, value: SecretStr, file: str) -> str:
    if not file:
        return value.get_secret_value()
    try:
        return (home / file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"`archive.{key}_file` names {home / file}, which cannot be read.") from None
