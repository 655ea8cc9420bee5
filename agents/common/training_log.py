"""The log of an agent's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stable_baselines3.common.logger import Logger, configure

from video_env.errors import InputError
from video_env.files import delete


class TrainingLog:
    """Stable-Baselines3's ``progress.csv``, and TensorBoard's events; begun anew with the first entry.

    Args:
        folder: where they go; None: nothing is logged.
        prefix: of the names of all values.
    """

    def __init__(self, folder: Path | None, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._logger: Logger | None = None

    def __call__(self, epoch: int, report: Mapping[str, float]) -> None:
        """Write a row.

        Args:
            epoch: number of epochs done.
            report: values by name.

        Raises:
            InputError: it cannot be written, as on a full disk; the system's error would not say where.
        """
        if self._folder is None:
            return
        if self._logger is None:
            delete(self._folder / "progress.csv")  # or a link of this name, which would be written through
            self._logger = configure(str(self._folder), ["csv", "tensorboard"])
        for name, value in report.items():
            self._logger.record(f"{self._prefix}/{name}", value)
        try:
            self._logger.dump(epoch)
        except OSError as error:
            if error.filename is not None:
                raise
            raise InputError(f"{self._folder}: logs cannot be written: {error.strerror or error}") from error
