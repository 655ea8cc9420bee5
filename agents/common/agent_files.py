"""Files of saved agents: what kind of agent one holds, and its entries; and the logs of their training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger, configure

from video_env.errors import InputError
from video_env.files import delete, writing
from video_env.models.tensors import read_tensors


def read_agent(path: Path, kind: str, entries: set[str]) -> dict[str, Any]:
    """The entries of an agent's file, which is read without executing code from it.

    Args:
        path: the file.
        kind: of agent that it should hold.
        entries: that it needs.

    Raises:
        InputError: the file is missing, cannot be read, holds something else, or lacks an entry.
    """
    if not path.is_file():
        raise InputError(f"agent {path}: no such file")
    saved = read_tensors(path, what=f"agent {path}: not a readable agent, expected what its save() wrote")
    if not isinstance(saved, dict) or saved.get("agent") != kind:
        found = saved.get("agent") if isinstance(saved, dict) else type(saved).__name__
        raise InputError(f"agent {path}: found {found!r}, expected an {kind}")
    if entries - set(saved):
        missing = ", ".join(sorted(entries - set(saved)))
        raise InputError(f"agent {path}: no entry {missing}; of another version, or damaged")
    return saved


def write_agent(path: Path, saved: dict[str, Any]) -> None:
    """Write an agent's entries, or a checkpoint's, so that the file is whole or as it was before.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path) as file:
        torch.save(saved, file)


@contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Make of what is read from a file an agent: entries of other kinds than expected are the file's fault.

    Raises:
        InputError: instead of the errors that such entries lead to.
    """
    try:
        yield
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"agent {path}: of another version, or damaged ({error!r})") from error


def start_logging(folder: Path | None) -> Logger:
    """Stable-Baselines3's logger to ``progress.csv``, begun anew, and to TensorBoard; to nothing without a
    folder."""
    if folder is None:
        return Logger(None, [])
    delete(folder / "progress.csv")  # or a link of this name, which would be written through
    return configure(str(folder), ["csv", "tensorboard"])


@contextmanager
def naming_logs(folder: Path | None) -> Iterator[None]:
    """Say where logs are written if that fails, as on a full disk: the system's error does not.

    Raises:
        InputError: instead of it.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise InputError(f"{folder}: logs cannot be written: {error.strerror or error}") from error
