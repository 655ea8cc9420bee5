"""Choices travel: what one program writes another reads, and scores the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compare.command_line.main import main
from tests.entries import untrained
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.chosen_elsewhere import entry_of_choices, match_selections
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.results import join_results
from video_env.evaluation.selections import FORMATS, Format, write_selections


@pytest.fixture(scope="module")
def packaged() -> Cache:
    return Cache(PACKAGED_CACHE)


@pytest.fixture(scope="module")
def results(packaged: Cache) -> pd.DataFrame:
    return join_results([evaluate(untrained("random", packaged, num_frames=3), packaged, "test")])


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_comes_back_as_the_same_rows(
    format: Format, packaged: Cache, results: pd.DataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "chosen"
    write_selections(packaged, results, file, format)
    matched = match_selections(file, packaged, "test", format)
    assert (matched.asked, matched.merged) == (3 * len(results), 0)
    assert matched.frames_away.max() < 0.02  # seconds are rounded to milliseconds
    found = evaluate(entry_of_choices(matched, "theirs", 0.25), packaged, "test")
    for name in ("video", "prediction", "correct", "confidence", "selected", "frames"):
        assert found[name].tolist() == results[name].tolist(), name
    np.testing.assert_allclose(found["gflops"], results["gflops"] + 0.25)


def test_files_are_what_other_programs_read(packaged: Cache, results: pd.DataFrame, tmp_path: Path) -> None:
    """Each read as its own readers do it."""
    rows = packaged.rows("test")
    frames = [
        packaged["frame_index"][int(row)][chosen].tolist()
        for row, chosen in zip(rows, results["selected"], strict=True)
    ]
    rate = float(packaged.index["frames_per_second"].iloc[rows[0]])
    text = {}
    for format in FORMATS:
        write_selections(packaged, results, tmp_path / format, format)
        text[format] = (tmp_path / format).read_text()
    first = json.loads(text["jsonl"].splitlines()[0])
    assert (first["frame_indices"], first["frames_per_second"]) == (frames[0], pytest.approx(rate))
    assert first["timestamps_seconds"] == pytest.approx(np.array(frames[0]) / rate, abs=1e-3)
    table = list(csv.DictReader(text["csv"].splitlines()))
    assert [[int(one) for one in row["frame_indices"].split()] for row in table] == frames
    assert json.loads(text["frame-idx"]) == frames
    lines = [json.loads(line) for line in text["doc-id"].splitlines()]
    assert lines == [{"doc_id": number, "index": chosen} for number, chosen in enumerate(frames)]
    stamps = json.loads(text["frame-timestamps"])
    assert [one["id"] for one in stamps] == packaged.index["video"].to_numpy()[rows].tolist()
    assert stamps[0]["frame_timestamps"] == first["timestamps_seconds"]


def test_frames_go_to_the_nearest_candidate(packaged: Cache, tmp_path: Path) -> None:
    """By brute force over all candidates, for any frames of the file."""
    rows, generator = packaged.rows("test"), np.random.default_rng(0)
    length = int(packaged.index["num_frames"].min())
    asked = generator.integers(length, size=(len(rows), 5))
    (tmp_path / "a.json").write_text(json.dumps(asked.tolist()))
    matched = match_selections(tmp_path / "a.json", packaged, "test", "frame-idx")
    away = []
    for row, frames in zip(rows, asked, strict=True):
        candidates = packaged["frame_index"][int(row)].tolist()
        best = {min(range(len(candidates)), key=lambda t: (abs(candidates[t] - one), t)) for one in frames}
        assert set(np.flatnonzero(matched.chosen[row])) == best
        away += [min(abs(one - there) for there in candidates) for one in frames]
    assert matched.frames_away.tolist() == away
    assert matched.merged == 5 * len(rows) - matched.chosen.sum() > 0


def test_several_choices_need_a_format_with_room(
    packaged: Cache, results: pd.DataFrame, tmp_path: Path
) -> None:
    other = evaluate(untrained("uniform", packaged), packaged, "test")
    both = join_results([results, other])
    write_selections(packaged, both, tmp_path / "both.jsonl")
    with pytest.raises(InputError, match="found 2 choices for each video"):
        write_selections(packaged, both, tmp_path / "x", "frame-idx")
    with pytest.raises(InputError, match=r"line 9: video .* again, after .*line 1; expected one choice"):
        match_selections(tmp_path / "both.jsonl", packaged, "test")
    with pytest.raises(InputError, match="the results lack 1 video"):
        write_selections(packaged, results.iloc[1:], tmp_path / "x", "doc-id")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("format", "change", "says"),
    [
        ("jsonl", lambda lines: lines[1:], r"lacks 1 video \("),
        ("jsonl", lambda lines: [*lines, {"video": "nobody", "frame_indices": []}], r"1 video \(nobody\) not in"),
        ("jsonl", lambda lines: [{**lines[0], "frame_indices": [10**6]}, *lines[1:]], "line 1: frame 1000000 of"),
        ("jsonl", lambda lines: [{**lines[0], "frame_indices": [-1]}, *lines[1:]], "line 1: frame -1 of"),
        ("jsonl", lambda lines: [{**lines[0], "frame_indices": [0.5]}, *lines[1:]], "found 0.5, expected a frame"),
        ("jsonl", lambda lines: [{**lines[0], "frame_indices": [True]}, *lines[1:]], "found True"),
        ("jsonl", lambda lines: [{**lines[0], "frame_indices": 3}, *lines[1:]], "found 3, expected a list"),
        ("jsonl", lambda lines: [{**lines[0], "patches": [[0, 0]]}, *lines[1:]], "found patches"),
        ("jsonl", lambda lines: [{"video": lines[0]["video"]}, *lines[1:]], "found neither frame_indices nor"),
        ("jsonl", lambda lines: [[1], *lines[1:]], r"line 1: found \[1\], expected a JSON object"),
        (
            "jsonl",
            lambda lines: [{"video": lines[0]["video"], "timestamps_seconds": [99.0]}, *lines[1:]],
            "line 1: 99 seconds of",
        ),
        (
            "jsonl",
            lambda lines: [{"video": lines[0]["video"], "timestamps_seconds": [float("nan")]}, *lines[1:]],
            "found nan, expected seconds",
        ),
        ("doc-id", lambda lines: [{"doc_id": 99, "index": [0]}], r"1 video \(99\) not in"),
        ("doc-id", lambda lines: [{"doc_id": None, "index": [0]}], "doc_id: found None"),
        ("frame-idx", lambda lines: [{"doc_id": 0}], "entry 0: frame numbers|expected a JSON list"),
        ("frame-timestamps", lambda lines: [{"id": 3}], "expected a JSON list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    format: Format, change, says: str, packaged: Cache, results: pd.DataFrame, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "chosen"
    write_selections(packaged, results, file)
    lines = change([json.loads(line) for line in file.read_text().splitlines()])
    file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=says):
        match_selections(file, packaged, "test", format)


def test_from_command_to_command(packaged: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> int:
        return main([str(one) for one in arguments])

    ours, file, theirs = tmp_path / "ours.parquet", tmp_path / "aks.json", tmp_path / "theirs.parquet"
    assert run("evaluate", "uniform", packaged.path, "--num-frames", 2, "--out", ours) == 0
    frames = ["--format", "frame-idx"]
    assert run("selections", packaged.path, "--results", ours, "--out", file, *frames) == 0
    command = ["evaluate", "selections", packaged.path, "--selections", file, "--out", theirs, *frames]
    assert run(*command, "--choosing-gflops", 1.5) == 0
    assert "16 frames chosen: 16 are candidates" in capsys.readouterr().out
    before, after = pd.read_parquet(ours), pd.read_parquet(theirs)
    assert set(after["method"]) == {"aks"}
    assert (after["prediction"] == before["prediction"]).all()
    np.testing.assert_allclose(after["gflops"], before["gflops"] + 1.5)
    assert run("curve", ours, theirs, "--out", tmp_path / "curve") == 0
    assert run(*command, "--choosing-gflops", -1) == 2
    assert "choosing_gflops: found -1.0, expected a number, 0 or more" in capsys.readouterr().err
