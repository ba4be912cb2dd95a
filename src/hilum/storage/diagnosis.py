"""What a database says about itself to whoever looks for a fault: revision, sizes, counts; nothing of what it holds."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from hilum.storage import tables


def database_facts(connection: sa.Connection) -> dict[str, Any]:
    """Return backend, version, schema revision, and the number of rows of each table."""
    backend = connection.dialect.name
    asked = "SELECT sqlite_version()" if backend == "sqlite" else "SHOW server_version"
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    counts = {
        f"{table.name}": int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        for table in tables.metadata.sorted_tables
    }
    version = str(connection.exec_driver_sql(asked).scalar())
    return {"backend": backend, "version": version, "schema": revision, "rows": counts}


def audit_facts(connection: sa.Connection) -> dict[str, Any]:
    """Return how far the trail is sealed and sent."""
    seal, sent = tables.audit_seal, tables.audit_sent
    newest = connection.execute(
        sa.select(seal.c.number, seal.c.at).order_by(seal.c.number.desc()).limit(1)
    ).one_or_none()
    positions = connection.execute(sa.select(sent)).all()
    return {
        "newest_seal": {"number": newest.number, "at": newest.at} if newest else None,
        "sent": {row.collector: {"seal": row.seal, "rows": row.rows, "at": row.at} for row in positions},
    }
