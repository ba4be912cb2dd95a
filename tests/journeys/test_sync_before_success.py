"""Durability as the kernel sees it: the syncs come before each success answer (kill -9 alone shows only ordering)."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmwrite

from fixtures.department import Department, Patient, accepted, next_numbers

pytestmark = [pytest.mark.timeout(300)]
STOW_TYPE = 'multipart/related; type="application/dicom"; boundary=b'
CALLS = "fsync,fdatasync,pwritev2,pwrite64,write,writev,sendto,sendmsg,recvfrom,recvmsg,read"
HANDED_ON = r"^sendto\(.*hilum\.archive\.index_queue|^sendto\(\d+<socket:\[\d+\]>, \"\\0\\0"


@contextmanager
def traced(pid: int, log: Path) -> Iterator[None]:
    """Trace a process and its threads while the body runs."""
    strace = shutil.which("strace")
    assert strace, "strace is needed to show durability"
    command = [strace, "-f", "-qq", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(log), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        time.sleep(1.0)
        assert tracer.poll() is None, tracer.stderr.read()
        yield
        time.sleep(0.3)
    finally:
        tracer.terminate()
        tracer.wait(30)


def role(own: Department, name: str) -> int:
    """The process of a role."""
    for pid in own.role_processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if name.encode() in words:
            return pid
    raise AssertionError(f"no process of role {name}")


def completed(log: Path) -> list[str]:
    """The calls in the order they ended: an unfinished call counts where it is resumed."""
    begun: dict[tuple[str, str], str] = {}
    ended = []
    for line in log.read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if "<unfinished ...>" in rest:
            begun[pid, rest.partition("(")[0]] = rest.replace("<unfinished ...>", "")
        elif rest.startswith("<..."):
            name = rest.split()[1]
            ended.append(begun.pop((pid, name), name + "(") + rest.partition("resumed>")[2])
        else:
            ended.append(rest)
    return ended


def place(calls: list[str], pattern: str, after: int = -1) -> int:
    """Where the first call that matches stands after another."""
    for index, call in enumerate(calls):
        if index > after and re.search(pattern, call):
            return index
    raise AssertionError(f"no call like {pattern} after {after}:\n" + "\n".join(calls[-80:]))


def test_the_transaction_is_synced_before_the_acknowledgement(own_department: Department, tmp_path: Path) -> None:
    own = own_department
    own.start()
    own.register(Patient(next_numbers(1)[0]))
    log = tmp_path / "hl7.strace"
    with traced(role(own, "hl7"), log):
        assert accepted(own.register(Patient(next_numbers(1)[0], "Traced")))
    calls = completed(log)
    received = place(calls, r"^(recvfrom|recvmsg|read)\(.*MSH\|")
    synced = place(calls, r"^f(data)?sync\(.*hilum\.db-wal>\)\s*= 0", received)
    answered = place(calls, r"^(sendto|sendmsg|write|writev)\(.*MSH\|", received)
    assert received < synced < answered


def test_bytes_are_synced_and_handed_to_the_indexer_before_the_store_response(
    own_department: Department, tmp_path: Path
) -> None:
    own = own_department
    own.start()
    patient = Patient(next_numbers(1)[0])
    own.register(patient)
    placed = own.place(patient)
    own.store(own.image(placed))
    log = tmp_path / "dicom.strace"
    image = own.image(placed, 2)
    with traced(role(own, "dicom"), log):
        own.store(image)
    calls = completed(log)
    landed = place(calls, r"^(pwritev2\(.*RWF_DSYNC|fdatasync\(.*archive.*= 0)")
    # The index row follows, and readers wait for it: it is made again from the synced bytes (hilum.archive.recovery).
    handed = place(calls, HANDED_ON, landed)
    # P-DATA-TF of the response; the next PDU that leaves after it is the release.
    responses = [i for i, call in enumerate(calls) if re.search(r'^(sendto|sendmsg|writev?)\(.*"\\4\\0', call)]
    assert responses, "the response was not seen"
    assert landed < handed < responses[0]
    assert len(own.qido("/instances", SOPInstanceUID=str(image.SOPInstanceUID))) == 1


def test_a_new_segment_and_its_folder_are_synced_before_it_is_used(own_department: Department, tmp_path: Path) -> None:
    own = own_department
    own.start()
    patient = Patient(next_numbers(1)[0])
    own.register(patient)
    placed = own.place(patient)
    log = tmp_path / "first.strace"
    with traced(role(own, "dicom"), log):
        own.store(own.image(placed))
    calls = completed(log)
    first = place(calls, r"^(pwritev2\(.*RWF_DSYNC|pwrite64\(.*archive)")
    folder = [i for i, call in enumerate(calls) if re.search(r"^fsync\(\d+<[^>]*archive[^>.]*>\)\s*= 0", call)]
    assert folder, "the folder of the new segment was not synced"
    answered = [i for i, call in enumerate(calls) if re.search(r'^(sendto|sendmsg|writev?)\(.*"\\4\\0', call)]
    assert folder[0] < answered[0]
    assert first < answered[0]


def test_stow_is_synced_before_its_answer(own_department: Department, tmp_path: Path) -> None:
    import requests

    own = own_department
    own.start()
    patient = Patient(next_numbers(1)[0])
    own.register(patient)
    placed = own.place(patient)
    file = tmp_path / "image.dcm"
    dcmwrite(file, own.image(placed), enforce_file_format=True)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n--b--"
    token = own.token("service")
    log = tmp_path / "http.strace"
    with traced(role(own, "http"), log):
        answer = requests.post(
            f"{own.http}/dicom-web/studies", data=body, timeout=60,
            headers={"Authorization": f"Bearer {token}", "Content-Type": STOW_TYPE},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
    calls = completed(log)
    landed = place(calls, r"^(pwritev2\(.*RWF_DSYNC|fdatasync\(.*archive.*= 0)")
    # The index row follows, and readers wait for it: it is made again from the synced bytes (hilum.archive.recovery).
    handed = place(calls, HANDED_ON, landed)
    answered = place(calls, r"^(sendto|sendmsg|write|writev)\(.*HTTP/1\.1 200")
    assert landed < handed < answered
    assert len(own.qido(f"/studies/{placed.study_uid}/instances")) == 1
