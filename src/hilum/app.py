"""Wires everything, once per process: configuration, keys, database and archive into doors, pages and workers.

What a process does not need it does not build: the imports of each role stand in the function that makes it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hilum import telemetry
from hilum.core.errors import InvalidInput
from hilum.core.identifiers import new_id
from hilum.security.audit import ReadLog
from hilum.security.live_keys import LiveKeyring
from hilum.security.live_tls import door_context
from hilum.security.seal import row_signer
from hilum.settings import Configuration, Settings
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store

if TYPE_CHECKING:
    from hilum.archive.barrier import IndexBarrier
    from hilum.archive.blobs import BlobStore
    from hilum.archive.index_queue import IndexQueue
    from hilum.archive.ingest import Ingest
    from hilum.archive.landing import Landing
    from hilum.delivery.ports import Encoder, Sender
    from hilum.serve.composition import ASGIApp

ROLES = ("http", "dicom", "hl7", "worker")
# Started by the role `dicom` for itself.
INDEXER = "indexer"
# The kinds of destination that `Application.senders` brings something to.
SENDER_KINDS = ("dicom", "file", "hl7", "smtp", "stow", "webhook")


class Application:
    """One process's view of a home."""

    def __init__(self, home: Path | str | None = None, role: str = "cli") -> None:
        """Read the configuration of a home for a process of `role`. Raises SettingsError."""
        self.configuration = Configuration(home)
        self._role = role

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self.configuration.current

    @property
    def home(self) -> Path:
        """The folder that holds configuration, database, archive and keys."""
        return self.configuration.home

    @cached_property
    def keyring(self) -> LiveKeyring:
        """The keys of this home, made at the first start; each is the one in force when it is used."""
        return LiveKeyring(self.home)

    @cached_property
    def store(self) -> Store:
        """The database, its schema as it stands."""
        settings = self.settings
        settings.paths.run.mkdir(parents=True, exist_ok=True)
        engine = open_engine(
            settings.database.url, settings.paths.database, pool_size=settings.database.pool, role=self._role
        )
        return Store(
            engine,
            lambda row: row_signer(self.keyring.audit)(row),
            lock_path=str(settings.paths.run / "commit.lock"),
            threads=settings.database.pool,
            observe=_observe,
        )

    @cached_property
    def blobs(self) -> BlobStore:
        """The archive's bytes: a folder of the home, or a bucket."""
        from hilum.archive.blobs import S3Settings, open_store

        archive = self.settings.archive
        access, secret = archive.credentials(self.home) or (None, None)
        s3 = S3Settings(archive.endpoint or None, archive.region, access, secret)
        return open_store(archive.url, self.settings.paths.archive, s3)

    @cached_property
    def landing(self) -> Landing:
        """Where this process makes received instances durable."""
        from hilum.archive.landing import open_landing

        return open_landing(self.blobs, new_id(), segment_bytes=self.settings.archive.segment_bytes)

    @cached_property
    def ingest(self) -> Ingest:
        """The one way into the archive, for every door."""
        from hilum.archive.ingest import Ingest
        from hilum.dicom.image_rules import ReceiveRules

        return Ingest(
            self.store,
            self.blobs,
            self.landing,
            lambda: self.configuration.refresh().archive.rejected_for_quality == "hide",
            ReceiveRules(self.store, self.configuration),
        )

    @property
    def follows(self) -> bool:
        """Tell whether the index follows behind the answers: where all processes share this machine's disk."""
        return self.settings.archive.url == "file" and self.settings.database.url == "sqlite"

    @cached_property
    def barrier(self) -> IndexBarrier:
        """Where readers wait for the index."""
        from hilum.archive.barrier import IndexBarrier

        return IndexBarrier(self.settings.paths.positions)

    @cached_property
    def queue(self) -> IndexQueue:
        """The way from this process, which receives, to the one that indexes what it received."""
        from hilum.archive.index_queue import IndexQueue

        return IndexQueue(self.settings.paths.positions, f"{self._role}-{new_id()}", self._start_indexer)

    def _start_indexer(self, descriptor: int) -> subprocess.Popen[bytes]:
        """Start the process that puts into the index what this one receives, given one end of a socket."""
        command = [sys.executable, "-m", "hilum.cli", "run", INDEXER, "--socket", str(descriptor)]
        environment = {**os.environ, **supervised_environment(self.home)}
        return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, env=environment)

    @cached_property
    def read_log(self) -> ReadLog:
        """What was read here lately, so that it is audited once."""
        return ReadLog(self.store)

    def prepare(self) -> None:
        """Make the home's folders and bring the schema up to date; safe when several processes start at once."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        migrate(self.store.engine)

    def http(self) -> ASGIApp:
        """Everything that answers HTTP, behind the one gate."""
        from hilum import fhir, web
        from hilum.dicom import web as dicomweb
        from hilum.fhir import cds_hooks
        from hilum.serve import health, openapi
        from hilum.serve.auth_routes import auth_routes
        from hilum.serve.composition import compose
        from hilum.serve.identity import Authenticator
        from hilum.web.view import View

        zone = ZoneInfo(self.settings.facility.zone)
        view = View(zone, self.store.clock)
        routes = [
            *health.routes(self.store),
            *auth_routes(self.store, self.configuration, self.keyring, view),
            *dicomweb.routes(self.store, self.configuration, self.read_log, self.ingest, self.blobs),
            *fhir.routes(self.store, self.configuration, self.read_log),
            *cds_hooks.routes(self.store, self.configuration),
            *web.routes(self.store, self.configuration, self.read_log, view, self.ingest),
        ]
        return compose(
            [*routes, openapi.route(routes)],
            Authenticator(self.store, self.keyring, timedelta(minutes=self.settings.security.idle_minutes)),
            self.configuration,
            self.barrier if self.follows else None,
        )

    def encoders(self) -> dict[str, Encoder]:
        """What turns an event into bytes, per kind of destination."""
        from hilum.delivery.senders import encoders
        from hilum.hl7.messages_out import encode_hl7

        return {"hl7": encode_hl7, **encoders()}

    def senders(self) -> dict[str, Sender]:
        """What brings bytes to a receiver, per kind of destination."""
        from hilum.delivery.senders import senders
        from hilum.dicom.image_sender import ImageSender
        from hilum.dicom.stow_sender import StowSender
        from hilum.hl7.sender import MllpSender

        return {
            "hl7": MllpSender(self.home),
            "dicom": ImageSender(self.store, self.configuration, self.blobs),
            "stow": StowSender(self.store, self.configuration, self.blobs),
            **senders(self.home),
        }

    def close(self) -> None:
        """Finish what this process holds."""
        if "queue" in self.__dict__:
            self.queue.close()
        if "landing" in self.__dict__:
            self.landing.close()
        if "store" in self.__dict__:
            self.store.close()


def run_role(role: str, home: Path | None, descriptor: int | None = None) -> None:
    """Run one role in the foreground until SIGTERM."""
    application = Application(home, role)
    paths = application.settings.paths
    telemetry.configure(role, application.settings.log.level, keep=paths.run / "log")
    telemetry.start_metrics(paths.run / "metrics")
    application.prepare()
    try:
        _RUN[role](application, descriptor)
    finally:
        application.close()


def _run_http(application: Application, descriptor: int | None) -> None:
    from hilum.archive.index_queue import QueueOnDemand
    from hilum.security.connections import ConnectionLog
    from hilum.serve.http_server import Bounds, serve_http
    from hilum.serve.roles import listen_on

    door = application.settings.http
    if application.follows:
        application.ingest.index_behind(QueueOnDemand(lambda: application.queue))
    listening = socket.socket(fileno=descriptor) if descriptor is not None else listen_on(*door.listen)
    host, port = listening.getsockname()[:2]
    serve_http(
        application.http(),
        listening,
        door_context(application.configuration, "http"),
        f"{host}:{port}",
        Bounds(
            door.max_connections,
            door.max_connections_per_address,
            door.header_timeout,
            door.body_timeout,
            door.trusted_proxies,
        ),
        ConnectionLog(application.store),
        application.settings.paths.run,
    )


def _run_dicom(application: Application, descriptor: int | None) -> None:
    from hilum.dicom.door import DicomDoor
    from hilum.serve.roles import run_until_stopped

    settings = application.settings.dicom
    if application.follows:
        application.ingest.index_behind(application.queue)
    door = DicomDoor(
        application.store,
        application.configuration,
        application.ingest,
        ssl=door_context(application.configuration, "dicom"),
        keys=application.keyring,
        barrier=application.barrier,
    )
    door.start()
    run_until_stopped(f"{settings.ae_title}@{door.address}", door)


def _run_indexer(application: Application, descriptor: int | None) -> None:
    from hilum.archive.indexer import Indexer

    if descriptor is None:
        raise InvalidInput("The indexer is started by the role that receives.")
    with socket.socket(fileno=descriptor) as source:
        Indexer(application.ingest, source).run()


def _run_hl7(application: Application, descriptor: int | None) -> None:
    from hilum.hl7.door import Hl7Door
    from hilum.serve.roles import run_listening

    run_listening(
        Hl7Door(application.store, application.configuration, ssl=door_context(application.configuration, "hl7"))
    )


def _run_worker(application: Application, descriptor: int | None) -> None:
    from hilum.jobs.compression import Compression
    from hilum.jobs.deletion import deletions
    from hilum.jobs.orphans import orphans
    from hilum.jobs.retention import retention
    from hilum.jobs.scrub import Scrub
    from hilum.jobs.settling import settling
    from hilum.jobs.worker import Worker
    from hilum.serve.roles import run_until_stopped

    jobs = [
        Scrub(application.store, application.blobs, application.configuration).job(),
        deletions(application.store, application.blobs),
        Compression(application.store, application.blobs, application.configuration).job(),
        retention(application.ingest, application.configuration),
    ]
    jobs.append(settling(application.ingest, application.configuration))
    if application.follows:
        jobs.append(orphans(application.ingest, application.barrier))
    worker = Worker(
        application.store,
        application.configuration,
        application.encoders(),
        application.senders(),
        application.keyring,
        jobs,
    )
    worker.start()
    run_until_stopped("", worker)


_RUN = {"http": _run_http, "dicom": _run_dicom, "hl7": _run_hl7, "worker": _run_worker, INDEXER: _run_indexer}


def _observe(verb: str, outcome: str, seconds: float) -> None:
    telemetry.count_verb(verb, outcome)


def supervised_environment(home: Path) -> dict[str, str]:
    """The environment of a role's process."""
    return {
        "HILUM_HOME": str(home),
        "HILUM_SUPERVISED": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(home / "run" / "metrics"),
        # One thread for numeric libraries: the doors are parallel already.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
