"""Where the videos are that a list names: by path, or by a name that begins a file's or a folder's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from video_env.data.annotations import inside_folder
from video_env.data.frames_folder import is_image
from video_env.errors import InputError


class ListedFiles:
    """The video files and folders of frames below a folder.

    Args:
        folder: of the videos.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"videos folder {folder}: no such folder")
        self._folder = folder

    def find(self, names: Sequence[str]) -> str:
        """Path, relative to the folder, of the first of these names that is there; empty if none is.

        A name is a path, or a file's name with or without its ending, wherever it lies.

        Raises:
            InputError: several files have the name.
        """
        for name in names:
            inside = inside_folder(os.path.relpath(name, self._folder) if Path(name).is_absolute() else name)
            if inside and (self._folder / inside).exists():
                return inside
        for name in names:
            last = Path(name).name
            for key in dict.fromkeys((last, Path(last).stem)):
                found = self._by_name.get(key, [])
                if len(found) > 1:
                    raise InputError(
                        f"videos folder {self._folder}: {found[0]} and {found[1]} could both be {name}"
                    )
                if found:
                    return found[0]
        return ""

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths by file name and by stem; a folder that holds images is one video."""
        found: dict[str, list[str]] = {}
        for folder, inner, files in os.walk(self._folder, followlinks=True):
            here = Path(folder).relative_to(self._folder)
            if here.parts and any(map(is_image, files)):
                inner.clear()
                found.setdefault(here.name, []).append(str(here))
                continue
            for file in files:
                for key in dict.fromkeys((file, Path(file).stem)):
                    found.setdefault(key, []).append(str(here / file))
        return found
