"""Worker processes that end when the one that started them does, however that ended."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker process: end at once when its parent is gone (killed, out of memory), instead of waiting
    for work for ever. As an executor's ``initializer``."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker process"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="waits for the parent's end", daemon=True).start()
