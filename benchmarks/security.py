"""What security costs: a decision, a check of a token with nothing remembered, and the audit's share of `store.run`.

The limits beside the figures are the project's own: 20 µs, 150 µs and 15 %. Decision and check are measured in the
processor's time, so that neighbours on the machine do not count; the audit both so and by the clock. The run without
audit rows exists here only: its transactions write none, and everything else is the same.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks.table import show
from fixtures.stores import HL7_PEER
from fixtures.ward import request
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role, system_actor
from hilum.core.scope import Confidentiality, GrantKind, Resource
from hilum.security.keys import Keyring
from hilum.security.policy import Action, decide, scope_for
from hilum.security.seal import row_signer
from hilum.security.tokens import issue, verify
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.credentials import Bearers
from hilum.workflow.ordering import place_order

ROUNDS = int(os.environ.get("HILUM_BENCH_REPETITIONS", "5"))
ORDERS = 400
PEOPLE = 300


def main() -> None:
    """Measure all three and print one table."""
    with tempfile.TemporaryDirectory(prefix="hilum-bench-", dir=os.environ.get("HILUM_BENCH_DIR")) as folder:
        rows = [
            {"what": "decide(actor, action, resource), µs", "median": decision(), "limit": "20"},
            {"what": "scope_for(actor, action), µs", "median": scope(), "limit": "20"},
            {
                "what": "token's signature and claims, nothing remembered, µs",
                "median": token(Path(folder)),
                "limit": "",
            },
            {"what": "whole token check with SQLite, the same, µs", "median": bearer(Path(folder)), "limit": "150"},
            *audit(Path(folder)),
        ]
    show("security", f"What security costs, medians of {ROUNDS} rounds", rows)


def actors() -> list[Actor]:
    """A person of each role, limited to a facility and not."""
    return [
        Actor("a", role, ActorKind.PERSON, Door.PAGE, (Identifier("D77"),), facilities=facilities)
        for role in Role
        for facilities in ((), ("NORTH",))
    ]


def decision() -> float:
    """Every actor, action, label and grant."""
    resources = [
        Resource(label=label, related=related, granted=granted)
        for label in Confidentiality
        for related in (True, False)
        for granted in (None, *GrantKind)
    ]
    asked = list(itertools.product(actors(), Action, resources))
    return microseconds(lambda: [decide(actor, action, resource) for actor, action, resource in asked], len(asked))


def scope() -> float:
    """Every actor and action."""
    asked = list(itertools.product(actors(), Action))
    return microseconds(lambda: [scope_for(actor, action) for actor, action in asked], len(asked))


def tokens_of(keyring: Keyring, now: datetime) -> list[str]:
    """A token of each of many people."""
    return [
        issue(keyring, subject=f"user-{number}", role="radiologist", kind="user", minutes=60, now=now)
        for number in range(PEOPLE)
    ]


def token(folder: Path) -> float:
    """Signature, claims and times of tokens that were never seen before."""
    keyring, now = Keyring.open(folder / "keys"), datetime.now(UTC)
    tokens = tokens_of(keyring, now)
    return microseconds(lambda: [verify(keyring, each, now) for each in tokens], len(tokens))


def bearer(folder: Path) -> float:
    """From a token that was never seen before to the actor: as above, and how account and token stand."""
    keyring, store = Keyring.open(folder / "keys"), opened(folder / "accounts")
    try:
        for number in range(PEOPLE):
            store.run(add_account, f"user-{number}", system_actor("bench"))
        tokens = tokens_of(keyring, datetime.now(UTC))

        def check() -> None:
            bearers = Bearers(store, keyring)
            for each in tokens:
                bearers.actor(each, Door.FHIR, "127.0.0.1")

        return microseconds(check, len(tokens))
    finally:
        store.close()


def add_account(uow: UnitOfWork, name: str, actor: Actor) -> None:
    """Store an account, without the slow hash of a password."""
    uow.users.add(name, Role.RADIOLOGIST, "none", [Identifier(name)])


def microseconds(run: Callable[[], Any], count: int) -> float:
    """The median over the rounds of what one of `count` takes of the processor."""
    taken = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        run()
        taken.append((time.thread_time() - started) / count * 1e6)
    return statistics.median(taken)


def audit(folder: Path) -> list[dict[str, Any]]:
    """Orders placed per second with and without their audit rows, in turns, on one database each."""
    stores = {name: opened(folder / name) for name in ("audited", "silent")}
    rates: dict[str, list[float]] = {name: [] for name in stores}
    processor: dict[str, list[float]] = {name: [] for name in stores}
    try:
        for _ in range(ROUNDS):
            for name, store in stores.items():
                with without_audit() if name == "silent" else nullcontext():
                    started = time.process_time()
                    rates[name].append(orders_per_second(store))
                    processor[name].append(time.process_time() - started)
    finally:
        for store in stores.values():
            store.close()
    return [
        {"what": "orders/s with audit rows", "median": statistics.median(rates["audited"]), "limit": ""},
        {"what": "orders/s without (measured here only)", "median": statistics.median(rates["silent"]), "limit": ""},
        {
            "what": "audit, % of throughput by the clock",
            "median": share(rates["silent"], rates["audited"]),
            "limit": "15",
        },
        {
            "what": "audit, % of the processor's time per order",
            "median": share(processor["audited"], processor["silent"]),
            "limit": "15",
        },
    ]


def share(more: list[float], less: list[float]) -> float:
    """How much smaller, in percent, the second is: the median of the rounds, pair by pair."""
    return statistics.median(100 * (1 - b / a) for a, b in zip(more, less, strict=True))


def opened(folder: Path) -> Store:
    """A fresh SQLite database whose audit rows are signed as in production."""
    folder.mkdir()
    engine = open_engine("sqlite", folder / "hilum.db")
    migrate(engine)
    keyring = Keyring.open(folder / "keys")
    return Store(engine, row_signer(keyring.audit), lock_path=str(folder / "hilum.lock"))


def orders_per_second(store: Store) -> float:
    """Place orders of fresh patients, handed over together as a busy interface does."""
    prefix = uuid.uuid4().hex[:8]
    commands = [request(f"{prefix}{number}", f"{prefix}-{number}") for number in range(ORDERS)]
    started = time.perf_counter()
    for future in [store.submit(place_order, command, HL7_PEER) for command in commands]:
        future.result()
    return ORDERS / (time.perf_counter() - started)


@contextmanager
def without_audit() -> Iterator[None]:
    """Let no transaction collect audit rows meanwhile."""
    audit = UnitOfWork.audit
    UnitOfWork.audit = lambda *arguments, **details: None  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        UnitOfWork.audit = audit  # type: ignore[method-assign]
