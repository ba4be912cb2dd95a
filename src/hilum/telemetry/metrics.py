"""Metrics for Prometheus: a closed table of them, shared by all processes of one home through files.

Labels are closed words (a door, an outcome, a route's template, a destination's name), bounded in number; a value
that comes from outside and fits no such shape counts as `other`. `start_metrics` comes before the first metric.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    Instrument = Counter | Gauge | Histogram

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MAX_VALUES_PER_LABEL = 200
_LABEL = re.compile(r"[A-Za-z0-9/{][A-Za-z0-9_./{}:^*-]{0,79}")
# A path that carries an identifier is no template.
_MANY_DIGITS = re.compile(r"\d{4}")

_QUICK = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its kind, what it tells, and its labels."""

    kind: Literal["counter", "gauge", "histogram"]
    tells: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    # How the values of several processes become one: the sum of the living, or the latest.
    across: Literal["livesum", "livemostrecent"] = "livesum"


METRICS: dict[str, Metric] = {
    "hilum_messages_total": Metric("counter", "Messages received, by answer.", ("door", "type", "outcome")),
    "hilum_instances_total": Metric("counter", "Instances received, by answer.", ("door", "outcome")),
    "hilum_store_seconds": Metric("histogram", "From the last byte of an instance to its acknowledgement.", (), _QUICK),
    "hilum_verbs_total": Metric("counter", "Verbs run, by outcome.", ("verb", "outcome")),
    "hilum_statements_total": Metric("counter", "SQL statements and commits.", ("role", "kind")),
    "hilum_batch_size": Metric("histogram", "Verbs committed in one transaction.", (), _COUNTS),
    "hilum_lane_depth": Metric("gauge", "Messages that wait.", ("destination",), across="livemostrecent"),
    "hilum_lane_oldest_seconds": Metric(
        "gauge", "Age of the oldest message that waits.", ("destination",), across="livemostrecent"
    ),
    "hilum_delivery_seconds": Metric("histogram", "From the event to the receiver's yes.", ("destination",), _SLOW),
    "hilum_deliveries_total": Metric("counter", "Tries to deliver, by outcome.", ("destination", "outcome")),
    "hilum_route_failures_total": Metric("counter", "Events that could not be encoded or whose condition failed."),
    "hilum_job_failures_total": Metric("counter", "Background runs that failed.", ("job",)),
    "hilum_http_seconds": Metric("histogram", "Time to answer an HTTP request.", ("route", "status"), _QUICK),
    "hilum_connections_refused_total": Metric("counter", "Connections that were not let in.", ("door", "reason")),
    "hilum_associations": Metric("gauge", "Open DICOM associations."),
    "hilum_verified_total": Metric("counter", "Instances compared with their digest by the scrub.", ("outcome",)),
    "hilum_damaged_instances": Metric(
        "gauge", "Instances whose bytes are not what was received.", (), across="livemostrecent"
    ),
    "hilum_verified_timestamp_seconds": Metric(
        "gauge", "When the scrub was last through the whole archive.", (), across="livemostrecent"
    ),
}

_lock = threading.RLock()
_instruments: dict[str, Instrument] = {}
_registry: list[CollectorRegistry] = []
_seen: dict[tuple[str, str], set[str]] = {}
_found: dict[tuple[str, ...], Instrument] = {}


def start_metrics(directory: Path, *, fresh: bool = False) -> None:
    """Share the metrics of this process and its children through files; `fresh` drops those of an earlier start."""
    directory.mkdir(parents=True, exist_ok=True)
    if fresh:
        for file in directory.glob("*.db"):
            file.unlink(missing_ok=True)
    # The client chooses its kind of value once, when it is first imported, by this variable.
    os.environ[DIRECTORY_VARIABLE] = str(directory)


def process_ended(pid: int) -> None:
    """Take the gauges of a process that ended out of the sums."""
    if DIRECTORY_VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def metrics_page() -> bytes:
    """All metrics of all processes of this home, as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if DIRECTORY_VARIABLE not in os.environ:
        return generate_latest(_own_registry())
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return generate_latest(shared)


def count_message(door: str, type_: str, outcome: str) -> None:
    """A message was answered: door `hl7`, type `ORM^O01`, outcome `AA`."""
    _counter("hilum_messages_total", door=door, type=type_, outcome=outcome).inc()


def count_instance(door: str, outcome: str) -> None:
    """An instance was answered: door `dimse` or `stow`, outcome `stored`, `duplicate` or an error's code."""
    _counter("hilum_instances_total", door=door, outcome=outcome).inc()


def time_store(seconds: float) -> None:
    """An instance became durable in this time."""
    _histogram("hilum_store_seconds").observe(seconds)


def count_verb(verb: str, outcome: str) -> None:
    """A verb was committed (`done`) or refused (an error's code)."""
    _counter("hilum_verbs_total", verb=verb, outcome=outcome).inc()


def count_database(role: str, kind: Literal["statement", "commit"], count: int = 1) -> None:
    """A role's process sent statements to the database, or committed."""
    _counter("hilum_statements_total", role=role, kind=kind).inc(count)


def observe_batch(size: int) -> None:
    """So many verbs were committed in one transaction."""
    _histogram("hilum_batch_size").observe(size)


def set_lanes(destination: str, depth: int, oldest_seconds: float) -> None:
    """So many messages wait for a destination, the oldest for so long."""
    _gauge("hilum_lane_depth", destination=destination).set(depth)
    _gauge("hilum_lane_oldest_seconds", destination=destination).set(oldest_seconds)


def time_delivery(destination: str, seconds: float) -> None:
    """A message was accepted by its receiver this long after its event."""
    _histogram("hilum_delivery_seconds", destination=destination).observe(seconds)


def count_delivery(destination: str, outcome: str) -> None:
    """A try to deliver ended: accepted, transient, ambiguous, AE or AR."""
    _counter("hilum_deliveries_total", destination=destination, outcome=outcome).inc()


def count_route_failures(count: int) -> None:
    """So many deliveries could not be made from their events."""
    _counter("hilum_route_failures_total").inc(count)


def count_job_failure(job: str) -> None:
    """A background run failed; it is tried again at its next turn."""
    _counter("hilum_job_failures_total", job=job).inc()


def count_refused_connection(door: str, reason: str) -> None:
    """A peer was not let in: no certificate, an unknown title, one connection too many."""
    _counter("hilum_connections_refused_total", door=door, reason=reason).inc()


def time_http(route: str, status: int, seconds: float) -> None:
    """A request was answered; `route` is the template (`/fhir/Patient/{id}`), never the path."""
    _histogram("hilum_http_seconds", route=route, status=f"{status // 100}xx").observe(seconds)


def move_associations(by: int) -> None:
    """Associations were opened (+1) or closed (-1)."""
    _gauge("hilum_associations").inc(by)


def count_verified(outcome: str) -> None:
    """An instance was compared with its digest: `whole`, or how it is damaged."""
    _counter("hilum_verified_total", outcome=outcome).inc()


def set_damaged(count: int) -> None:
    """So many instances stand on the list as damaged."""
    _gauge("hilum_damaged_instances").set(count)


def set_verified_at(timestamp: float) -> None:
    """The scrub came through the whole archive at this time."""
    _gauge("hilum_verified_timestamp_seconds").set(timestamp)


def _own_registry() -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    with _lock:
        if not _registry:
            _registry.append(CollectorRegistry())
        return _registry[0]


def _build(name: str) -> Instrument:
    from prometheus_client import Counter, Gauge, Histogram

    metric, registry = METRICS[name], _own_registry()
    if metric.kind == "counter":
        return Counter(name, metric.tells, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(name, metric.tells, metric.labels, registry=registry, multiprocess_mode=metric.across)
    return Histogram(name, metric.tells, metric.labels, registry=registry, buckets=metric.buckets)


def _instrument(name: str) -> Instrument:
    found = _instruments.get(name)
    if found is None:
        with _lock:
            found = _instruments.get(name) or _instruments.setdefault(name, _build(name))
    return found


def _counter(name: str, **labels: str) -> Counter:
    return cast("Counter", _labelled(name, labels))


def _gauge(name: str, **labels: str) -> Gauge:
    return cast("Gauge", _labelled(name, labels))


def _histogram(name: str, **labels: str) -> Histogram:
    return cast("Histogram", _labelled(name, labels))


def _labelled(name: str, labels: dict[str, str]) -> Instrument:
    """The metric with these labels; looked up once, as one of them is counted at every statement."""
    key = (name, *labels.values())
    found = _found.get(key)
    if found is None:
        words = {label: _word(name, label, value) for label, value in labels.items()}
        found = _instrument(name).labels(**words) if labels else _instrument(name)
        if words == labels:  # what counts as `other` could be anything, and is not remembered
            _found[key] = found
    return found


def _word(name: str, label: str, value: str) -> str:
    """The value, or `other` where it has no shape of a closed word or would be one too many."""
    named_by_us = label == "destination"
    if not _LABEL.fullmatch(value) or (_MANY_DIGITS.search(value) and not named_by_us):
        return "other"
    seen = _seen.setdefault((name, label), set())
    if value not in seen:
        if len(seen) >= MAX_VALUES_PER_LABEL:
            return "other"
        seen.add(value)
    return value
