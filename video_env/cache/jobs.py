"""Work on a cache, shard by shard, that goes on where it was interrupted.

A shard is first written under temporary names and then committed by one small record,
``.unfinished/JOB/00000.json``, that holds the checksums of its files and whatever else belongs to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from video_env.cache.store import CacheError, shard_path
from video_env.files import write_array, write_bytes


def require_same(out: Path, found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    different = [key for key in expected if found.get(key) != expected[key]]
    if different:
        raise CacheError(
            f"cache {out} {what}, but with other settings: "
            + "; ".join(f"{key} {found.get(key)!r}, now {expected[key]!r}" for key in different)
            + ". Choose another folder or delete this one"
        )


class Job:
    """Work on shards in ``.unfinished/NAME``: what it is for, and a record of each committed shard."""

    def __init__(
        self, cache: Path, name: str, settings: dict[str, Any], *, restart_if_different: bool = False
    ) -> None:
        self.cache = cache
        self.folder = cache / ".unfinished" / name
        settings_file = self.folder / "settings.json"
        if settings_file.is_file():
            found = json.loads(settings_file.read_text())
            if found != settings and restart_if_different:
                shutil.rmtree(self.folder)
            else:
                require_same(cache, found, settings, "is unfinished")
        if not settings_file.is_file():
            write_bytes(settings_file, json.dumps(settings, indent=1, sort_keys=True).encode())
        self.records: dict[int, dict[str, Any]] = {
            int(file.stem): record
            for file in sorted(self.folder.glob("[0-9]*.json"))
            if self._is_there(int(file.stem), record := json.loads(file.read_text()))
        }

    def _is_there(self, number: int, record: dict[str, Any]) -> bool:
        return all(shard_path(self.cache / name, number).is_file() for name in record["arrays"])

    def commit(self, number: int, arrays: Mapping[str, np.ndarray], **more: Any) -> None:
        """Write one shard of each array, then the record that makes it count."""
        written = {
            name: {
                "sha256": write_array(shard_path(self.cache / name, number), values),
                "dtype": values.dtype.str,
                "row_shape": list(values.shape[1:]),
            }
            for name, values in arrays.items()
        }
        record = {"arrays": written, **more}
        write_bytes(self.folder / f"{number:05d}.json", json.dumps(record).encode())
        self.records[number] = json.loads(json.dumps(record))

    def array_entries(self, source: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The finished arrays as ``meta.json`` describes them; an empty shard has no checksum."""
        records = [self.records[number]["arrays"] for number in sorted(self.records)]
        return {
            name: {
                "dtype": first["dtype"],
                "row_shape": first["row_shape"],
                "sha256": [arrays[name]["sha256"] if arrays else "" for arrays in records],
                "source": source,
            }
            for name, first in next(filter(None, records)).items()
        }

    def remove(self) -> None:
        shutil.rmtree(self.folder)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
