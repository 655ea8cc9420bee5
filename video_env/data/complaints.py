"""What FFmpeg complains of while it reads a file: the only sign of much damage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import av

Complaints = list[tuple[int, str, str]]
"""Log entries of FFmpeg: level, who says it, what."""


@contextmanager
def listening() -> Iterator[Complaints]:
    """What FFmpeg logs as an error in this thread, meanwhile; PyAV's own settings are as before
    afterwards."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as logs:
            yield logs
    finally:
        av.logging.set_skip_repeated(skips)
        av.logging.set_level(level)


def said(complaints: Complaints) -> str:
    """The first complaint; all are taken off the list."""
    _, who, what = complaints[0]
    complaints.clear()
    # Some messages name an address in memory, which would differ from run to run.
    return f"{who}: {re.sub(r'0x[0-9a-f]+', '0x…', ' '.join(what.split()))}"[:200]


def words(error: BaseException, complaints: Complaints) -> str:
    """A decoder's own words: the same file gives the same reason every time. (``error.log`` would give those
    of the last error in the process, of whatever file.)"""
    if complaints:
        return said(complaints)
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[-200:]
