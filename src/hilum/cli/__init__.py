"""The command line: every command of `hilum`, with exit codes 0 (done), 1 (refused or found wanting), 2 (usage)."""

from __future__ import annotations

import gc
import sys

from hilum.core.errors import HilumError


def main() -> None:
    """Run the command line; a refusal is one sentence on standard error."""
    # Nothing of what is imported is garbage: not to look for it is a tenth of the start, and of each later collection.
    gc.disable()
    from hilum.cli.commands import cli

    gc.freeze()
    gc.enable()
    try:
        cli()
    except HilumError as error:
        sys.stderr.write(f"hilum: {error.message}\n")
        sys.exit(1)
