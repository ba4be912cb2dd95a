"""Fixtures that every test may ask for; the servers start only when a test asks for them."""

from fixtures.department import department, own_department
from fixtures.postgres import migrated_postgres_url, postgres_server, postgres_template, postgres_url
from fixtures.s3 import s3_bucket, s3_server
from fixtures.stores import sqlite_store, store

__all__ = [
    "department",
    "migrated_postgres_url",
    "own_department",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "s3_bucket",
    "s3_server",
    "sqlite_store",
    "store",
]
