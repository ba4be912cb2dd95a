"""Logs carry what is allowed and nothing else; metrics of all processes stand on one page."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hilum import telemetry
from hilum.core.errors import Conflict
from hilum.telemetry import logs, metrics

NAME = "Mustermann^Erika"
log = logging.getLogger("hilum.example")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Logs of this test; what the test runner itself had set up is put back."""
    root, ours = logging.getLogger(), logging.getLogger("hilum")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    stream = io.StringIO()
    telemetry.configure("http", "debug", stream=stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]
    logging.captureWarnings(False)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    structlog.reset_defaults()


def only(lines: io.StringIO) -> dict[str, Any]:
    written = lines.getvalue().splitlines()
    assert len(written) == 1
    entry: dict[str, Any] = json.loads(written[0])
    return entry


def test_a_line_is_one_json_object_that_says_who_when_and_what(lines: io.StringIO) -> None:
    log.info("association rejected", extra={"ae_title": "CT01", "count": 3})
    entry = only(lines)
    assert entry["event"] == "association rejected"
    assert (entry["ae_title"], entry["count"]) == ("CT01", 3)
    assert (entry["role"], entry["pid"], entry["level"]) == ("http", os.getpid(), "info")
    assert entry["timestamp"].endswith("Z")
    assert entry["place"].startswith("unit/test_telemetry.py:")


def test_a_field_that_is_not_allowed_is_dropped_and_named(lines: io.StringIO) -> None:
    log.info("patient registered", extra={"patient_name": NAME, "code": "ok"})
    entry = only(lines)
    assert NAME not in lines.getvalue()
    assert entry["dropped"] == ["patient_name"]
    assert entry["code"] == "ok"


@pytest.mark.parametrize("message", [f"registered {NAME}", "accession 20240101 is known", "x" * 200, 7, {"a": NAME}])
def test_a_message_put_together_from_data_is_not_written(lines: io.StringIO, message: object) -> None:
    log.warning(message)
    assert only(lines)["event"] == "unnamed"
    assert NAME not in lines.getvalue()


def test_arguments_of_a_message_are_not_written(lines: io.StringIO) -> None:
    log.warning("registered %s", NAME)
    log.warning("registered %s and %s", NAME)
    written = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [entry["level"] for entry in written] == ["warning", "warning"]
    assert NAME not in lines.getvalue()


def test_an_exception_is_its_type_and_places_without_message_or_locals(lines: io.StringIO) -> None:
    def parse(text: str) -> int:
        return int(text)

    try:
        try:
            parse(NAME)
        except ValueError as error:
            raise LookupError(NAME) from error
    except LookupError:
        log.exception("message not applied")
    entry = only(lines)
    assert NAME not in lines.getvalue()
    assert entry["exception"] == "LookupError"
    assert entry["stack"][0].startswith("unit/test_telemetry.py:")
    assert entry["causes"][0].startswith("ValueError at unit/test_telemetry.py:")


def test_an_error_of_ours_brings_its_code(lines: io.StringIO) -> None:
    log.error("refused", exc_info=Conflict(NAME))
    assert only(lines)["code"] == "conflict"
    assert NAME not in lines.getvalue()


def test_exceptions_that_cause_each_other_end(lines: io.StringIO) -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    log.error("refused", exc_info=first)
    assert len(only(lines)["causes"]) == 1


def test_of_a_library_only_the_place_is_written(lines: io.StringIO) -> None:
    library = logging.getLogger("pynetdicom.example")
    library.warning("C-STORE of %s", NAME, extra={"code": NAME})
    library.error(f"failed for {NAME}", exc_info=ValueError(NAME))
    written = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [entry["event"] for entry in written] == ["library", "library"]
    assert written[1]["exception"] == "ValueError"
    assert NAME not in lines.getvalue()


def test_a_library_is_heard_from_warning_up(lines: io.StringIO) -> None:
    logging.getLogger("sqlalchemy.engine").info("INSERT …")
    assert lines.getvalue() == ""


def test_structlog_itself_is_held_to_the_same_list(lines: io.StringIO) -> None:
    structlog.get_logger("hilum.example").info("patient registered", name_of_patient=NAME, code="ok")
    assert only(lines)["code"] == "ok"
    assert NAME not in lines.getvalue()


def test_a_warning_of_the_interpreter_keeps_its_text_to_itself(lines: io.StringIO) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(f"odd value {NAME}", stacklevel=1)
    assert only(lines)["logger"] == "py.warnings"
    assert NAME not in lines.getvalue()


def test_a_crashed_thread_is_written_without_its_message(lines: io.StringIO) -> None:
    def work() -> None:
        raise RuntimeError(NAME)

    thread = threading.Thread(target=work)
    # The test runner has hooks of its own; the one that configure() set is asked for directly.
    thread.start()
    thread.join()
    entry = only(lines)
    assert (entry["event"], entry["exception"]) == ("crashed", "RuntimeError")
    assert NAME not in lines.getvalue()


def test_a_crashed_process_prints_neither_message_nor_source(tmp_path: Path) -> None:
    program = f"from hilum import telemetry\ntelemetry.configure('dicom')\nraise ValueError({NAME!r})\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stderr)["exception"] == "ValueError"
    assert NAME not in done.stderr


def test_the_correlation_is_on_every_line_inside_and_gone_after(lines: io.StringIO) -> None:
    with telemetry.correlated("01ABC"):
        log.info("inside")
    log.info("after")
    inside, after = (json.loads(line) for line in lines.getvalue().splitlines())
    assert inside["correlation"] == "01ABC"
    assert "correlation" not in after


def test_long_values_are_cut_and_objects_become_their_type(lines: io.StringIO) -> None:
    log.info("odd", extra={"code": "x" * 10_000, "peer": Path("/secret"), "count": [1, Conflict(NAME), KeyError(NAME)]})
    entry = only(lines)
    assert len(entry["code"]) <= 200
    assert entry["peer"] == type(Path()).__name__
    assert entry["count"] == [1, "conflict", "KeyError"]


def test_nothing_that_identifies_a_patient_is_allowed() -> None:
    forbidden = {"patient", "name", "identifier", "accession", "birth", "uid", "control", "text", "message", "reason"}
    ours = {"event_name", "message_id", "message_type"}
    assert [key for key in logs.ALLOWED - ours if forbidden & set(key.split("_"))] == []


METRICS_PROGRAM = """
import sys
from pathlib import Path
from hilum import telemetry
telemetry.start_metrics(Path(sys.argv[1]), fresh=sys.argv[2] == "fresh")
telemetry.count_message("hl7", "ORM^O01", "AA")
telemetry.move_associations(2)
telemetry.set_lanes("ehr", 5, 1.5)
print(telemetry.metrics_page().decode())
"""


def page_of_a_process(directory: Path, mode: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", METRICS_PROGRAM, str(directory), mode], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_one_page_shows_the_metrics_of_all_processes(tmp_path: Path) -> None:
    page_of_a_process(tmp_path, "fresh")
    page = page_of_a_process(tmp_path, "joined")
    assert 'hilum_messages_total{door="hl7",outcome="AA",type="ORM^O01"} 2.0' in page
    assert 'hilum_lane_depth{destination="ehr"} 5.0' in page


def test_a_fresh_start_forgets_the_metrics_before_it(tmp_path: Path) -> None:
    page_of_a_process(tmp_path, "fresh")
    page = page_of_a_process(tmp_path, "fresh")
    assert 'hilum_messages_total{door="hl7",outcome="AA",type="ORM^O01"} 1.0' in page


def test_the_associations_of_a_process_that_ended_are_not_counted(tmp_path: Path) -> None:
    program = METRICS_PROGRAM + "\nimport os; telemetry.process_ended(os.getpid()); print('---')\n"
    program += "print(telemetry.metrics_page().decode())\n"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "fresh"], capture_output=True, text=True, check=True
    )
    before, after = done.stdout.split("---")
    assert "hilum_associations 2.0" in before
    assert "hilum_associations 2.0" not in after


def test_every_metric_of_the_table_is_counted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.DIRECTORY_VARIABLE, raising=False)
    telemetry.count_message("hl7", "ADT^A04", "AA")
    telemetry.count_instance("dimse", "stored")
    telemetry.time_store(0.01)
    telemetry.count_verb("place_order", "done")
    telemetry.observe_batch(3)
    telemetry.count_database("hl7", "commit")
    telemetry.set_lanes("ehr", 1, 2.0)
    telemetry.time_delivery("ehr", 0.2)
    telemetry.count_delivery("ehr", "accepted")
    telemetry.count_route_failures(1)
    telemetry.count_job_failure("sealer")
    telemetry.time_http("/fhir/Patient/{id}", 200, 0.01)
    telemetry.move_associations(1)
    telemetry.count_refused_connection("dimse", "certificate-expired")
    telemetry.count_verified("whole")
    telemetry.set_damaged(0)
    telemetry.set_verified_at(1.0)
    page = telemetry.metrics_page().decode()
    for name in telemetry.METRICS:
        assert f"\n{name}" in page
    assert 'hilum_http_seconds_count{route="/fhir/Patient/{id}",status="2xx"}' in page


@pytest.mark.parametrize(
    "hostile", [NAME + " x", "1.2.840.113619.2", "/fhir/Patient/12345", "\n", "", "x" * 100, "Ünal"]
)
def test_a_label_from_outside_that_is_no_closed_word_is_other(hostile: str) -> None:
    assert metrics._word("hilum_messages_total", "type", hostile) == "other"


def test_the_number_of_values_of_a_label_is_bounded() -> None:
    words = {metrics._word("example", "type", f"T{number}") for number in range(1_000)}
    assert len(words) == metrics.MAX_VALUES_PER_LABEL + 1
    assert "other" in words


def test_reading_the_telemetry_does_not_import_the_metrics_client() -> None:
    program = "import sys, hilum.telemetry; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Every `log.warning(…)` of the program, with its place."""
    for file in sorted(Path(telemetry.__file__).parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log.", "logger.", "_log.")):
                yield f"{file.name}:{node.lineno}", node


def test_everything_the_program_logs_is_allowed_and_named() -> None:
    lost = []
    for place, call in log_calls():
        message = call.args[0] if call.args else None
        if not isinstance(message, ast.Constant) or not logs._EVENT_NAME.fullmatch(str(message.value)):
            lost.append(f"{place}: the message")
        for extra in (word.value for word in call.keywords if word.arg == "extra"):
            keys = [ast.literal_eval(key) for key in extra.keys if key] if isinstance(extra, ast.Dict) else []
            lost += [f"{place}: {key}" for key in keys if key not in logs.ALLOWED]
    assert not lost, f"these would not be written: {lost}"
