"""Frames that another program chose, as an entry of an evaluation: on our recognizer, at our costs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from video_env.cache.store import Cache
from video_env.errors import InputError, require_choice
from video_env.evaluation.protocols import Entry, LooksAt
from video_env.evaluation.selections import FORMATS, Format, named

FAMILY = "selections"
SECONDS_BEYOND = 1.0
"""A time so far behind a file's end is another video's, not a matter of rounding."""


class Choice(NamedTuple):
    """What a file chooses in a video.

    Attributes:
        where: its place in the file, for messages.
        video: its id, or its number among the split's videos in the annotation file's order.
        frame_indices: numbers in the video file; None where there are only seconds.
        seconds: likewise.
    """

    where: str
    video: str | int
    frame_indices: list[Any] | None
    seconds: list[Any] | None


@dataclass(frozen=True)
class Matched:
    """Choices as candidates of a cache.

    Attributes:
        chosen: bool [V, T], of the cache's rows; False outside the split.
        asked: number of frames in the file.
        merged: of these, how many fell on a candidate that another one had fallen on.
        frames_away: float64 [asked], how far each is from its candidate, in frames of the video; NaN where
            the file has seconds and the cache does not know the rate.
    """

    chosen: np.ndarray
    asked: int
    merged: int
    frames_away: np.ndarray

    def __str__(self) -> str:
        if not self.asked:
            return "no frame chosen"
        if np.isnan(self.frames_away).all():
            return (
                f"{self.asked} frames chosen, each goes to the nearest candidate, how far is not known; "
                f"{self.merged} fell on a candidate that counted already"
            )
        exact = int((self.frames_away < 0.5).sum())
        return (
            f"{self.asked} frames chosen: {exact} are candidates, the others go to the nearest one (mean "
            f"distance {np.nanmean(self.frames_away):.1f} frames, largest {np.nanmax(self.frames_away):.1f}"
            f"); {self.merged} fell on a candidate that counted already"
        )


def match_selections(file: Path, cache: Cache, split: str, format: Format = "jsonl") -> Matched:
    """Read a file of choices, and go from each frame to the nearest candidate, of two as near the earlier.

    Args:
        file: in one of the formats of ``selections``. Of ``jsonl`` and ``csv``, ``video`` and
            ``frame_indices`` or ``timestamps_seconds`` are enough; where there are both, frames count.
        cache: whose candidates they become.
        split: whose videos are chosen in.
        format: of the file.

    Raises:
        InputError: the file cannot be read; or a video is missing, twice there or unknown, or has no such
            frame. The message names it.
        CacheError: the cache does not know its frames' numbers, or has no such split.
    """
    require_choice("format", format, FORMATS)
    rows = cache.rows(split)
    names = cache.index["video"].to_numpy(object)
    row_of = {names[row]: int(row) for row in rows}
    found: dict[int, Choice] = {}
    unknown: list[str] = []
    for choice in _choices(file, format):
        row = _row(choice, rows, row_of)
        if row is None:
            unknown.append(str(choice.video))
        elif row in found:
            raise InputError(
                f"{choice.where}: video {names[row]} again, after {found[row].where}; expected one choice"
            )
        else:
            found[row] = choice
    of = f"split {split!r} of cache {cache.path}"
    if unknown:
        raise InputError(f"selections {file}: found {named(unknown)} not in {of}")
    if missing := [names[row] for row in rows if int(row) not in found]:
        raise InputError(f"selections {file}: lacks {named(missing)} of {of}")
    chosen = np.zeros((len(cache), cache.num_candidates), bool)
    away: list[float] = []
    for row, choice in found.items():
        candidates, distances = _nearest(choice, cache, row)
        chosen[row, candidates] = True
        away += distances
    return Matched(chosen, len(away), len(away) - int(chosen.sum()), np.array(away))


class ChosenElsewhere:
    """A policy that repeats given choices: acts in FrameSelectOneStep-v0 with ``observation="index"``.

    Args:
        chosen: bool [V, T], of every row of the cache.
        gflops: 10^9 multiply-adds per video that the choosing took.
    """

    looks_at: LooksAt = "nothing"

    def __init__(self, chosen: np.ndarray, gflops: float) -> None:
        self.chosen, self.gflops = chosen, gflops

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Subsets int8 [B, T]."""
        return self.chosen[np.asarray(observation["video"])[..., 0]].astype(np.int8), state


def entry_of_choices(matched: Matched, method: str, gflops: float = 0.0) -> Entry:
    """Somebody's choices as an entry of an evaluation.

    Args:
        matched: see ``match_selections``.
        method: id and title.
        gflops: 10^9 multiply-adds per video that the choosing took, which is charged to the method.

    Raises:
        InputError: the name is empty, or the GFLOPs are no number from 0 on.
    """
    if not method.strip():
        raise InputError("method: found an empty name, expected an id")
    if not 0 <= gflops < float("inf"):
        raise InputError(f"choosing_gflops: found {gflops}, expected a number, 0 or more")
    policy = ChosenElsewhere(matched.chosen, gflops)
    return Entry(
        method, method, FAMILY, {}, 0, "FrameSelectOneStep-v0", policy, options={"observation": "index"}
    )


def _row(choice: Choice, rows: np.ndarray, row_of: dict[str, int]) -> int | None:
    if isinstance(choice.video, str):
        return row_of.get(choice.video)
    return int(rows[choice.video]) if 0 <= choice.video < len(rows) else None


def _nearest(choice: Choice, cache: Cache, row: int) -> tuple[np.ndarray, list[float]]:
    """Candidates int64 [N], and how far each frame is from its own, in frames."""
    index = cache.index
    rate = float(index["frames_per_second"].iloc[row]) if "frames_per_second" in index else float("nan")
    length = float(index["num_frames"].iloc[row]) if "num_frames" in index else float("inf")
    if choice.frame_indices is not None:
        asked = _numbers(choice, choice.frame_indices, whole=True)
        if (beyond := asked[(asked < 0) | (asked >= length)]).size:
            raise InputError(
                f"{choice.where}: frame {beyond[0]:.0f} of video {index['video'].iloc[row]}, which has "
                f"frames 0 to {length - 1:.0f}"
            )
        places, per_frame = cache["frame_index"][row].astype(np.float64), 1.0
    else:
        asked = _numbers(choice, choice.seconds or [], whole=False)
        end = length / rate if rate > 0 else float("inf")
        if (beyond := asked[(asked < 0) | (asked > end + SECONDS_BEYOND)]).size:
            raise InputError(
                f"{choice.where}: {beyond[0]:g} seconds of video {index['video'].iloc[row]}, which has "
                f"seconds 0 to {end:.3f}"
            )
        places, per_frame = cache["timestamp_seconds"][row].astype(np.float64), rate
    apart = np.abs(asked[:, None] - places)
    nearest = apart.argmin(axis=1) if len(asked) else np.zeros(0, np.int64)
    return nearest, (apart.min(axis=1) * per_frame).tolist() if len(asked) else []


def _numbers(choice: Choice, values: list[Any], *, whole: bool) -> np.ndarray:
    kinds = (int,) if whole else (int, float)
    for value in values:
        number = isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 2**53
        if not number:  # NaN and infinity are no such numbers either
            expected = "a frame's number" if whole else "seconds"
            raise InputError(f"{choice.where}: found {value!r}, expected {expected}")
    return np.array(values, np.float64)


def _choices(file: Path, format: Format) -> Iterator[Choice]:
    file = file.expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"selections {file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"selections {file}: cannot be read ({error})") from error
    try:
        yield from _READERS[format](text, f"selections {file}")
    except (json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise InputError(f"selections {file}: cannot be read as {format} ({error})") from error


def _jsonl(text: str, where: str) -> Iterator[Choice]:
    for place, one in _objects(text, where):
        yield _of_record(place, one)


def _csv(text: str, where: str) -> Iterator[Choice]:
    for number, one in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        place = f"{where}, row {number}"
        lists = {
            name: [_parsed(value, place) for value in one[name].split()]
            for name in ("frame_indices", "timestamps_seconds")
            if one.get(name) is not None
        }
        yield _of_record(place, {"video": one.get("video"), "patches": one.get("patches") or None, **lists})


def _parsed(text: str, where: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: found {text!r}, expected numbers between spaces") from None


def _of_record(where: str, record: dict[str, Any]) -> Choice:
    video = record.get("video")
    if not isinstance(video, str):
        raise InputError(f"{where}: video: found {video!r}, expected a video's id")
    if record.get("patches") is not None:
        raise InputError(f"{where}: found patches, expected chosen frames, which the recognizer sees whole")
    frames, seconds = record.get("frame_indices"), record.get("timestamps_seconds")
    if frames is None and seconds is None:
        raise InputError(f"{where}: found neither frame_indices nor timestamps_seconds")
    name, values = ("frame_indices", frames) if frames is not None else ("timestamps_seconds", seconds)
    _require_list(values, where, name)
    return Choice(where, video, frames, None if frames is not None else seconds)


def _frame_idx(text: str, where: str) -> Iterator[Choice]:
    for number, values in enumerate(_list(text, where)):
        place = f"{where}, entry {number}"
        yield Choice(place, number, _require_list(values, place, "frame numbers"), None)


def _doc_id(text: str, where: str) -> Iterator[Choice]:
    for place, one in _objects(text, where):
        video = one.get("doc_id")
        if isinstance(video, bool) or not isinstance(video, int | str):
            raise InputError(f"{place}: doc_id: found {video!r}, expected a video's number or id")
        yield Choice(place, video, _require_list(one.get("index"), place, "index"), None)


def _frame_timestamps(text: str, where: str) -> Iterator[Choice]:
    for number, one in enumerate(_list(text, where)):
        place = f"{where}, entry {number}"
        if not isinstance(one, dict) or not isinstance(one.get("id"), str):
            raise InputError(f"{place}: found {str(one)[:80]}, expected an object with id, a video's id")
        seconds = _require_list(one.get("frame_timestamps"), place, "frame_timestamps")
        yield Choice(place, one["id"], None, seconds)


def _objects(text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of lines of JSON, and the place of each."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{where}, line {number}"
            try:
                one = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{place}: no JSON ({error})") from error
            if not isinstance(one, dict):
                raise InputError(f"{place}: found {line[:80]}, expected a JSON object")
            yield place, one


def _list(text: str, where: str) -> list[Any]:
    values = json.loads(text)
    if not isinstance(values, list):
        raise InputError(f"{where}: found {text.strip()[:80]}, expected a JSON list")
    return values


def _require_list(values: Any, where: str, name: str) -> list[Any]:
    if not isinstance(values, list):
        raise InputError(f"{where}: {name}: found {values!r}, expected a list of numbers")
    return values


_READERS: dict[str, Callable[[str, str], Iterator[Choice]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "frame-idx": _frame_idx,
    "doc-id": _doc_id,
    "frame-timestamps": _frame_timestamps,
}
