"""Files of torch.save, written whole and read as data: the one place that calls ``torch.load``."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import IO, Any

import torch

from video_env.errors import InputError
from video_env.files import writing


def read_tensors(file: Path | IO[bytes], *, what: str) -> Any:
    """What a file of torch.save holds: tensors, numbers and text in dicts and lists, on the CPU. Reading
    never executes code from it.

    Args:
        file: its path, or the open file.
        what: it is, for the error.

    Raises:
        InputError: it cannot be read, or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocol, in the words of torch's own developers
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise InputError(f"{what}: {_why(error)}") from None


def write_tensors(path: Path, saved: dict[str, Any]) -> None:
    """Write what ``read_tensors`` reads, so that the file is whole or as it was before.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path) as file:
        torch.save(saved, file)


def _why(error: Exception) -> str:
    """In our words, as torch advises to read such a file unsafely."""
    found = re.search(r"\bGLOBAL (\S+)", str(error))
    if found:
        return f"holds pickled code ({found[1]}), which is never run; expected tensors, numbers and text"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "holds a pickle of more than tensors, numbers and text, which is never run, or is damaged"
    return f"not a readable file of torch.save ({type(error).__name__})"
