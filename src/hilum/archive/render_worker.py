"""The rendering process of a RenderPool: reads jobs from a socket until it is closed."""

from __future__ import annotations

import resource
import sys
from multiprocessing.connection import Connection

from hilum.archive.render import render
from hilum.archive.render_pool import DONE, from_messages, refusal
from hilum.core.errors import HilumError, InvalidInput, TooLarge

MEMORY_BYTES = 4 << 30
MAX_MESSAGE = 1 << 30


def main(descriptor: int) -> None:
    """Answer jobs one after the other."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold an image of a patient
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    line = Connection(descriptor)
    while True:
        try:
            messages = [line.recv_bytes(MAX_MESSAGE) for _ in range(3)]
        except (EOFError, OSError):
            return
        line.send_bytes(answer(*messages))


def answer(wishes: bytes, header: bytes, frame: bytes) -> bytes:
    """The image, or the refusal; whatever happens inside stays inside."""
    try:
        return DONE + render(from_messages(wishes, header, frame))
    except HilumError as error:
        return refusal(error)
    except MemoryError:
        return refusal(TooLarge("The image needs more memory than rendering has."))
    except Exception:  # noqa: BLE001 - the worker must live, and its text could hold patient data
        return refusal(InvalidInput("The image can't be rendered."))


if __name__ == "__main__":
    main(int(sys.argv[1]))
