"""``meta.json``: what a cache says of itself, checked before anything in it is used.

It is sealed by the SHA-256 of its own contents, so that a changed cost or class name is found whenever the
cache is opened. A seal keeps nobody out who means harm, so every name in it is checked too, and every value
for its kind.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from video_env.errors import InputError
from video_env.files import plain_name, write_bytes

# Version 1 had no seal and no places; it is read as it is, and becomes 2 when it is next written.
FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)

UNFINISHED = ".unfinished"
NETWORKS = "networks"
NETWORK_SUFFIX = ".safetensors"
_ENTRIES = {
    "arrays", "build", "classes", "frame_size", "gflops", "index_sha256", "networks", "num_candidates",
    "shard_rows",
}  # fmt: skip
_OWN_FILES = {NETWORKS, "meta.json", "index.parquet", "failures.csv"}
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST_ROWS = 2**40


class CacheError(InputError):
    """A cache that cannot be used; the message names the file, what was found and what was expected."""


def read_meta(path: Path) -> dict[str, Any]:
    """The contents of ``meta.json``, checked.

    Raises:
        CacheError: there is no cache, it is unfinished, of another format version, or damaged.
    """
    file = path / "meta.json"
    if not path.is_dir():
        raise CacheError(f"cache {path}: no such folder", needs="cache")
    if not file.is_file():
        unfinished = (path / UNFINISHED).is_dir()
        raise CacheError(
            f"cache {path}: unfinished; build it again with the same settings, which goes on where it stopped"
            if unfinished
            else f"cache {path}: no meta.json in it, so it is no cache",
            needs=None if unfinished else "cache",
        )
    try:
        meta = json.loads(file.read_text())
        version = meta["format_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{file}: damaged, no readable format version ({error})") from error
    if version not in _READABLE or isinstance(version, (bool, float)):
        raise CacheError(
            f"{file}: found format version {version}, expected {FORMAT_VERSION}; build the cache again "
            "with this version of video-env"
        )
    check_meta(meta, file)
    if version != 1 and meta["sha256"] != seal(meta):
        raise CacheError(
            f"{file}: damaged or changed: its contents' SHA-256 is {seal(meta)[:12]}…, expected "
            f"{meta['sha256'][:12]}…"
        )
    return meta


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Seal ``meta.json`` and replace it in one step: this is what makes a change part of the cache."""
    meta = sealed(meta)
    check_meta(meta, path / "meta.json")
    write_bytes(path / "meta.json", (json.dumps(meta, indent=1, sort_keys=True) + "\n").encode())


def sealed(meta: dict[str, Any]) -> dict[str, Any]:
    """As it is written: of the present format version, and with its seal."""
    meta = {**meta, "format_version": FORMAT_VERSION}
    return {**meta, "sha256": seal(meta)}


def seal(meta: dict[str, Any]) -> str:
    """The SHA-256 of the contents without the seal itself, hexadecimal."""
    return digest({key: value for key, value in meta.items() if key != "sha256"})


def digest(value: Any) -> str:
    """Tells two values of JSON apart, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def place_of(meta: dict[str, Any], name: str) -> str:
    """Where an array (a folder) or a network (a file in ``networks``) lies: under its own name, unless it
    replaced another while that was still in use."""
    return str(meta.get("places", {}).get(name, name))


def places(meta: dict[str, Any]) -> set[str]:
    """All places that are in use."""
    return {place_of(meta, name) for name in (*meta["arrays"], *meta["networks"])}


def check_meta(meta: dict[str, Any], file: Path) -> None:
    """Check every entry's kind and every name.

    Raises:
        CacheError: names the file, the entry and what was expected.
    """

    def require(ok: Any, key: str, value: Any, expected: str) -> None:
        if not ok:
            found = repr(value)
            found = found if len(found) <= 80 else found[:80] + "…"
            raise CacheError(f"{file}: damaged: {key}: found {found}, expected {expected}")

    def entry(key: str, kind: type, expected: str) -> Any:
        require(isinstance(meta[key], kind) and not isinstance(meta[key], bool), key, meta[key], expected)
        return meta[key]

    needed = _ENTRIES | ({"sha256"} if meta.get("format_version") != 1 else set())
    if needed - set(meta):
        raise CacheError(f"{file}: damaged, no entry {', '.join(sorted(needed - set(meta)))}")
    optional: dict[str, tuple[type, str]] = {
        "training": (dict, "settings by network"), "versions": (dict, "versions by package"),
        "places": (dict, "places by name"), "failures_sha256": (str, "a SHA-256"),
    }  # fmt: skip
    for key, (kind, expected) in optional.items():
        if key in meta:
            entry(key, kind, expected)
    sums = ["index_sha256", *(["failures_sha256"] if "failures_sha256" in meta else [])]
    if meta.get("format_version") != 1:
        sums.append("sha256")
    for key in sums:
        require(_is_sum(entry(key, str, "a SHA-256")), key, meta[key], "64 hexadecimal digits")
    rows = entry("shard_rows", list, "the number of rows of each shard")
    require(all(_is_count(count) for count in rows), "shard_rows", rows, "counts of rows")
    require(0 < sum(rows) <= _MOST_ROWS, "shard_rows", rows, "at least one row")
    for key in ("num_candidates", "frame_size"):
        require(_is_count(entry(key, int, "a count")), key, meta[key], "a count")
    classes = entry("classes", list, "names of classes")
    require(all(isinstance(name, str) for name in classes), "classes", classes, "names of classes")
    gflops = entry("gflops", dict, "costs by part")
    require(all(_is_cost(cost) for cost in gflops.values()), "gflops", gflops, "numbers, 0 or more")
    build = entry("build", dict, "what the cache was built from")
    require(isinstance(build.get("annotations"), str), "build", build, "an entry annotations")
    for name, array in entry("arrays", dict, "arrays by name").items():
        _check_name(name, file, "arrays")
        require(not name.endswith(NETWORK_SUFFIX), "arrays", name, "the name of an array, not of a network")
        _check_array(array, f"arrays, {name}", rows, require)
    for name, sha256 in entry("networks", dict, "checksums by network").items():
        _check_name(name, file, "networks")
        require(_is_sum(sha256), f"networks, {name}", sha256, "64 hexadecimal digits")
        require(name.endswith(NETWORK_SUFFIX), "networks", name, f"a name that ends in {NETWORK_SUFFIX}")
    for name, place in meta.get("places", {}).items():
        require(name in meta["arrays"] or name in meta["networks"], "places", name, "an array or network")
        _check_name(place, file, f"places, {name}")
    where = [place_of(meta, name) for name in (*meta["arrays"], *meta["networks"])]
    require(len(set(where)) == len(where), "places", sorted(where), "one for each array and network")
    require(not set(where) & _OWN_FILES, "places", sorted(where), f"none of {', '.join(sorted(_OWN_FILES))}")


def _check_array(
    array: Any, key: str, rows: list[int], require: Callable[[Any, str, Any, str], None]
) -> None:
    require(isinstance(array, dict), key, array, "an array's entry")
    kind = array.get("dtype")
    try:
        plain = isinstance(kind, str) and np.dtype(kind).kind in "fiub" and np.dtype(kind).names is None
    except (TypeError, ValueError, SyntaxError):
        plain = False
    require(plain, f"{key}, dtype", kind, "a kind of number, as <f2")
    shape = array.get("row_shape")
    fine = isinstance(shape, list) and len(shape) < 32 and all(_is_count(side) for side in shape)
    require(fine and math.prod(shape) <= _MOST_ROWS, f"{key}, row_shape", shape, "counts")
    sums = array.get("sha256")
    require(isinstance(sums, list) and len(sums) == len(rows), f"{key}, sha256", sums, f"{len(rows)} of them")
    fits = all(_is_sum(sha256) if count else sha256 == "" for sha256, count in zip(sums, rows, strict=True))
    require(fits, f"{key}, sha256", sums, "64 hexadecimal digits for each shard that has rows")
    require(isinstance(array.get("source", {}), dict), f"{key}, source", array.get("source"), "entries")


def _check_name(name: Any, file: Path, key: str) -> None:
    try:
        plain_name(name, file, key)
    except InputError as error:
        raise CacheError(str(error)) from error


def _is_sum(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_ROWS


def _is_cost(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
