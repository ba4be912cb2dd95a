"""The verbs of the department, one file per stage of an order's way; each is handed to `store.run`."""
