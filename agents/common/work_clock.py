"""How long work on a folder took that may be interrupted, and go on in another process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from video_env.files import delete, write_bytes


class WorkClock:
    """Seconds of work on a folder since ``start``, over all processes that worked on it.

    What an interrupted process did ends with the newest file that it left: all that was finished counts, and
    the time until somebody goes on does not. Its beginning is the time at which the clock's own file was
    written, so both are by the same clock, that of the file system.

    Args:
        file: the clock's; holds the seconds of all processes but the last.
        folder: where the work writes its files.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder
        self._before, self._begun = 0.0, 0.0

    def start(self) -> None:
        """Begin, or go on after an interruption.

        Raises:
            InputError: the clock's file cannot be written.
        """
        self._before = self._of_interrupted()
        write_bytes(self._file, json.dumps(self._before).encode())
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        """Up to now."""
        return self._before + time.perf_counter() - self._begun

    def forget(self) -> None:
        """The work is done: the file is not needed any more."""
        delete(self._file)

    def _of_interrupted(self) -> float:
        try:
            before, begun = float(json.loads(self._file.read_text())), self._file.stat().st_mtime
        except (OSError, TypeError, ValueError):
            return 0.0
        left = (
            Path(path, name).lstat().st_mtime for path, _, names in os.walk(self._folder) for name in names
        )
        return before + max(0.0, max(left, default=begun) - begun)
