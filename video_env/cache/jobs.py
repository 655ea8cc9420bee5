"""Work on a cache that goes on where it was interrupted, and becomes part of the cache all at once.

Shards and networks are written where they will stay, but count only once they are recorded in
``.unfinished/JOB``, by checksum and with what the job is for: after an interruption, what was left by
other work, cut short or damaged is made anew. ``finish`` replaces ``meta.json``, which makes all of it part
of the cache in one step, and only then deletes what it replaced.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from video_env.cache.arrays import shard_path
from video_env.cache.meta import (
    NETWORK_SUFFIX,
    NETWORKS,
    UNFINISHED,
    CacheError,
    digest,
    places,
    read_meta,
    sealed,
    write_meta,
)
from video_env.errors import InputError
from video_env.files import (
    alone,
    clear_leftovers,
    delete,
    inside,
    plain_name,
    sha256_of,
    write_array,
    write_bytes,
)
from video_env.settings import difference


@contextmanager
def changing(cache: Path) -> Iterator[None]:
    """Hold a cache for one command that writes it; what the cache held before this may be old.

    Raises:
        InputError: its folder cannot be locked.
    """
    with alone(cache):
        if cache.is_dir():
            for folder in cache.iterdir():
                clear_leftovers(folder)
            for folder in _job_folders(cache):
                clear_leftovers(folder)
        yield
        _clear_finished(cache)


def require_same(out: Path, found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Raise CacheError, naming the differences, unless two records of settings agree."""
    different = difference({key: value for key, value in found.items() if key in expected}, expected)
    if different:
        raise CacheError(
            f"cache {out} {what}, but with other settings: {different}. Choose another folder or delete "
            "this one"
        )


def unfinished_settings(cache: Path, name: str) -> dict[str, Any] | None:
    """What an unfinished job is for; None if there is none.

    Raises:
        CacheError: the record is damaged.
    """
    file = cache / UNFINISHED / name / "settings.json"
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CacheError(f"{file}: damaged ({error}); delete {file.parent} to begin anew") from error
    if not isinstance(settings, dict):
        raise CacheError(f"{file}: damaged, no settings; delete {file.parent} to begin anew")
    return settings


def require_new(out: Path, name: str) -> None:
    """Raise CacheError if a folder holds anything but unfinished work of this name."""
    if (out / UNFINISHED / name).is_dir() and not (out / "meta.json").exists():
        return
    if out.is_dir() and not {entry.name for entry in out.iterdir()} - {UNFINISHED, ".lock"}:
        return
    if (out / "meta.json").exists():
        raise CacheError(f"{out}: exists already; delete it or choose another folder")
    if out.exists():
        raise CacheError(f"{out}: the folder is not empty and holds no unfinished cache")


class Job:
    """Work in ``.unfinished/NAME``: what it is for, and a record of each shard and network that is done.

    To be used by who holds the cache (``changing``), unless the same was ``finished_before``.

    Args:
        cache: the cache's folder.
        name: of the job.
        settings: all that decides its results.
        taken: places of arrays and networks that are in use, see ``place``.
        restart_if_different: begin anew where unfinished work was for other settings.

    Raises:
        CacheError: there is unfinished work for other settings, or a damaged record of what it is for.
    """

    def __init__(
        self,
        cache: Path,
        name: str,
        settings: Mapping[str, Any],
        *,
        taken: Collection[str] = (),
        restart_if_different: bool = False,
    ) -> None:
        self.cache, self.folder = cache, inside(cache, UNFINISHED, name)
        if self.folder.is_symlink():
            raise InputError(f"{self.folder}: is a link, and nothing is written through it; delete it")
        _clear_finished(cache)
        self.taken = taken
        settings = json.loads(json.dumps(settings))
        self._settings = digest(settings)
        try:
            found = unfinished_settings(cache, name)
        except CacheError:
            if not restart_if_different:
                raise
            found = None
        if found is not None and found != settings and not restart_if_different:
            require_same(cache, found, settings, "is unfinished")
        if found != settings:
            delete(self.folder)
            write_bytes(
                self.folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True).encode()
            )
        self.records: dict[int, dict[str, Any]] = {
            int(file.stem): record
            for file in sorted(self.folder.glob("[0-9]*.json"))
            if file.stem.isdecimal() and (record := self._shard_record(file)) is not None
        }
        self.networks: dict[str, str] = {}

    def place(self, name: str) -> str:
        """Where an array (a folder) or a network (a file) of this name goes: to its own name, unless what it
        replaces lies there."""
        suffix = NETWORK_SUFFIX if name.endswith(NETWORK_SUFFIX) else ""
        stem = name.removesuffix(suffix)
        others = (f"{stem}.{number}{suffix}" for number in itertools.count(2))
        return next(place for place in itertools.chain([name], others) if place not in self.taken)

    def commit(self, number: int, arrays: Mapping[str, np.ndarray], **more: Any) -> None:
        """Write one shard of each array, then the record that makes it count."""
        written = {
            name: {
                "sha256": write_array(self._shard_file(name, number), values),
                "dtype": values.dtype.str,
                "row_shape": list(values.shape[1:]),
            }
            for name, values in arrays.items()
        }
        self.records[number] = self._write_record(f"{number:05d}.json", {"arrays": written, **more})

    def network(self, name: str, make: Callable[[], bytes]) -> Path:
        """A network's file, made unless the interrupted job had made it already.

        Args:
            name: of the file, ending in ``.safetensors``.
            make: gives its contents.
        """
        file = inside(self.cache, NETWORKS, self.place(name))
        record = self._record(self.folder / f"network-{name}.json")
        if record is None or not _is_whole(file, record.get("sha256")):
            record = self._write_record(f"network-{name}.json", {"sha256": write_bytes(file, make())})
        self.networks[name] = record["sha256"]
        return file

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

    def finish(self, meta: dict[str, Any], replaced: Collection[Path] = ()) -> None:
        """Make the work part of the cache by replacing ``meta.json``; then delete what it replaced.

        Args:
            meta: the new contents.
            replaced: files and folders, relative to the cache's, that the new contents need no more.
        """
        # A call that is ended between the next two steps, or later, must neither begin anew nor leave
        # anything behind: the record says which meta.json is the work's result.
        intent = {
            "meta": sealed(meta)["sha256"],
            "job": self._settings,
            "replaced": [path.as_posix() for path in replaced],
        }
        write_bytes(self.folder / "finished.json", json.dumps(intent).encode())
        write_meta(self.cache, meta)
        _clear_finished(self.cache)

    def _shard_file(self, name: str, number: int) -> Path:
        place = self.place(name)
        return inside(self.cache, place, shard_path(self.cache / place, number).name)

    def _write_record(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        record = json.loads(json.dumps({"job": self._settings, **content}))
        text = json.dumps({"record": record, "sha256": digest(record)})
        write_bytes(self.folder / name, text.encode())
        return record

    def _record(self, file: Path) -> dict[str, Any] | None:
        """A record's content, if it is whole and of this job."""
        try:
            content = json.loads(file.read_text())
            record = content["record"]
            if content["sha256"] == digest(record) and record["job"] == self._settings:
                return dict(record)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return None

    def _shard_record(self, file: Path) -> dict[str, Any] | None:
        """A shard's record, if the shard's files are those that it recorded."""
        record = self._record(file)
        try:
            if record is not None and all(
                _is_whole(self._shard_file(plain_name(name, file, "arrays"), int(file.stem)), entry["sha256"])
                for name, entry in record["arrays"].items()
            ):
                return record
        except (InputError, KeyError, TypeError, AttributeError):
            pass
        return None


def finished_before(cache: Path, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a call for these settings made the present ``meta.json`` and was ended while it tidied up."""
    folder = cache / UNFINISHED / name
    if not (cache / "meta.json").is_file() or _replaced(cache, folder) is None:
        return False
    job = json.loads((folder / "finished.json").read_text()).get("job")
    return job == digest(json.loads(json.dumps(settings)))


def forget(cache: Path, arrays: Collection[str]) -> None:
    """Delete the unfinished work on some arrays."""
    for folder in _job_folders(cache):
        if set(folder.name.split("+")) & set(arrays):
            delete(folder)


def _is_whole(file: Path, sha256: Any) -> bool:
    return not file.is_symlink() and file.is_file() and sha256_of(file) == sha256


def _job_folders(cache: Path) -> list[Path]:
    unfinished = cache / UNFINISHED
    if unfinished.is_symlink() or not unfinished.is_dir():
        return []
    return [folder for folder in sorted(unfinished.iterdir()) if folder.is_dir() and not folder.is_symlink()]


def _replaced(cache: Path, folder: Path) -> list[Path] | None:
    """What a job replaced, if the present ``meta.json`` is its result; else None."""
    try:
        intent = json.loads((folder / "finished.json").read_text())
        meta = read_meta(cache)
        if intent["meta"] != meta["sha256"]:
            return None
        used = places(meta)
        found = [Path(text).parts[:2] for text in intent["replaced"]]
        return [
            inside(cache, *(plain_name(part, folder / "finished.json", "replaced") for part in parts))
            for parts in found
            if parts and parts[-1] not in used and (parts[:-1] == (NETWORKS,) or (cache / parts[0]).is_dir())
        ]
    except (OSError, ValueError, KeyError, TypeError):  # InputError is a ValueError
        return None


def _clear_finished(cache: Path) -> None:
    """Delete what finished jobs replaced, and their records, last the one that says so."""
    for folder in _job_folders(cache):
        replaced = _replaced(cache, folder)
        if replaced is not None:
            for path in replaced:
                delete(path)
            for file in folder.iterdir():
                if file.name != "finished.json":
                    delete(file)
            delete(folder)
        elif not any(folder.iterdir()):
            delete(folder)
    unfinished = cache / UNFINISHED
    if not unfinished.is_symlink() and unfinished.is_dir() and not any(unfinished.iterdir()):
        delete(unfinished)
