"""Fixtures that every test may ask for; the servers start only when a test asks for them."""

from fixtures.postgres import postgres_server, postgres_url
from fixtures.s3 import s3_bucket, s3_server

__all__ = ["postgres_server", "postgres_url", "s3_bucket", "s3_server"]
