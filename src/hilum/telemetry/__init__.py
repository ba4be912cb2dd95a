"""Logs and metrics: what operators see, and never patient data.

A log line is an event name with fields of an allow-list; messages, arguments and local variables of exceptions are not
written. A metric's labels are closed words, bounded in number.
"""

from __future__ import annotations

from hilum.telemetry.logs import configure, correlated, correlation, shareable_line
from hilum.telemetry.metrics import (
    METRICS,
    METRICS_CONTENT_TYPE,
    count_database,
    count_delivery,
    count_instance,
    count_job_failure,
    count_message,
    count_refused_connection,
    count_route_failures,
    count_verb,
    count_verified,
    metrics_page,
    move_associations,
    observe_batch,
    process_ended,
    set_damaged,
    set_lanes,
    set_verified_at,
    start_metrics,
    time_delivery,
    time_http,
    time_store,
)

__all__ = [
    "METRICS",
    "METRICS_CONTENT_TYPE",
    "configure",
    "correlated",
    "correlation",
    "count_database",
    "count_delivery",
    "count_instance",
    "count_job_failure",
    "count_message",
    "count_refused_connection",
    "count_route_failures",
    "count_verb",
    "count_verified",
    "metrics_page",
    "move_associations",
    "observe_batch",
    "process_ended",
    "set_damaged",
    "set_lanes",
    "set_verified_at",
    "shareable_line",
    "start_metrics",
    "time_delivery",
    "time_http",
    "time_store",
]
