"""The only SQL: tables, the unit of work, `store.run`, named queries, leases and migrations."""
