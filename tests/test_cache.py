"""The cache: nothing is lost, faults are named, and how often it was interrupted leaves no trace."""

import filecmp
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_cache
from tests.test_data import broken_files
from video_env.cache import decoding
from video_env.cache.build import build_cache
from video_env.cache.changes import add_arrays, remove
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import cache_from_arrays, derive, extract
from video_env.cache.store import Cache, CacheError
from video_env.data.annotations import Annotations, read_csv
from video_env.data.decode import read_candidates
from video_env.data.demo import DemoData, write_demo_data

SETTINGS = BuildSettings(num_candidates=6, frame_size=48, shard_size=7, processes=2)


class MeanColour:
    """An encoder that needs no network: the mean colour of each frame."""

    gflops = 0.001
    source = {"network": "mean colour"}

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        return clips.mean(axis=(2, 3)).astype(np.float16)


def demo_annotations(folder: Path) -> Annotations:
    return read_csv(folder / "annotations.csv", folder / "videos")


def same_files(one: Path, other: Path) -> bool:
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    if names != sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()):
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def test_build_stores_what_was_decoded(tmp_path: Path, demo_videos: Path) -> None:
    annotations = demo_annotations(demo_videos)
    cache = build_cache(annotations, tmp_path / "cache", SETTINGS, {"colour": MeanColour()})
    assert len(cache) == 60
    assert cache["frames"].shape == (60, 6, 48, 48, 3)
    expected = cache["frames"][[5, 40, 3]].mean(axis=(2, 3)).astype(np.float16)
    assert np.array_equal(cache["colour"][[5, 40, 3]], expected)
    assert cache["frame_index"][0].tolist() == [2, 8, 14, 20, 26, 32]
    assert cache.index["video"].tolist() == annotations.table["video"].tolist()
    assert not (tmp_path / "cache" / ".unfinished").exists()
    assert len(list(cache.verify())) == 4 * 9 + 3
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cache" / "index.parquet"), cache.index)


def test_workers_leave_no_trace(tmp_path: Path, demo_videos: Path) -> None:
    for processes in (1, 3):
        settings = BuildSettings(num_candidates=6, frame_size=48, shard_size=7, processes=processes)
        build_cache(demo_annotations(demo_videos), tmp_path / str(processes), settings)
    assert same_files(tmp_path / "1", tmp_path / "3")


def test_random_candidates_follow_from_video_and_epoch(tmp_path: Path, demo_videos: Path) -> None:
    drawn = []
    for name, epoch in (("a", 0), ("b", 0), ("c", 1)):
        settings = BuildSettings(num_candidates=6, frame_size=32, random_epoch=epoch, keep_frames=False)
        drawn.append(build_cache(demo_annotations(demo_videos), tmp_path / name, settings)["frame_index"][:])
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_build_goes_on_only_with_the_same_rows_in_the_same_order(tmp_path: Path, demo_videos: Path) -> None:
    annotations = demo_annotations(demo_videos)
    table = annotations.table.copy()
    table.loc[20, "path"] = "nowhere.mp4"
    strict = replace(SETTINGS, max_failures=0)
    with pytest.raises(CacheError, match="1 videos failed"):
        build_cache(replace(annotations, table=table), tmp_path / "cache", strict)
    with pytest.raises(CacheError, match="1 videos failed"):  # the same again, not a defect
        build_cache(replace(annotations, table=table), tmp_path / "cache", strict)
    with pytest.raises(CacheError, match="is unfinished, but with other settings: annotations"):
        build_cache(replace(annotations, table=table[::-1]), tmp_path / "cache", SETTINGS)
    assert len(build_cache(replace(annotations, table=table), tmp_path / "cache", SETTINGS)) == 59


def test_a_failure_of_another_kind_is_that_videos_alone(tmp_path: Path, demo_videos: Path) -> None:
    annotations = demo_annotations(demo_videos)
    table = annotations.table.copy()
    table.loc[3, "path"] = "x" * 300 + ".mp4"  # longer than a file system takes
    cache = build_cache(replace(annotations, table=table), tmp_path / "cache", SETTINGS)
    assert len(cache) == 59
    assert "OSError" in (tmp_path / "cache" / "failures.csv").read_text()


def hang_or_die(path: Path, *arguments: object, **options: object) -> object:
    """In place of ``read_candidates``: what decoders do to their processes on damaged files."""
    if path.stem == "train-00001":
        time.sleep(3600)
    if path.stem == "train-00002":
        os._exit(11)
    return read_candidates(path, *arguments, **options)  # type: ignore[arg-type]


def test_bad_videos_are_listed_and_the_others_go_on(
    tmp_path: Path, demo_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "read_candidates", hang_or_die)
    annotations = demo_annotations(demo_videos)
    table = annotations.table.copy()
    videos = tmp_path / "videos"
    videos.symlink_to(demo_videos / "videos")
    broken = broken_files(demo_videos / "videos", demo_videos / "videos" / "train-00000.mp4")
    for row, path in enumerate(broken.values(), start=5):
        table.loc[row, "path"] = path.name
    settings = BuildSettings(num_candidates=6, frame_size=32, shard_size=7, timeout_seconds=60)
    cache = build_cache(Annotations(table, annotations.classes, videos), tmp_path / "cache", settings)
    for path in broken.values():
        path.unlink(missing_ok=True)
    failures = pd.read_csv(tmp_path / "cache" / "failures.csv").set_index("video")["reason"]
    assert set(failures.index) == {"train-00001", "train-00002", *table["video"][5:10]}
    assert "longer than 60 seconds" in failures["train-00001"]
    assert "ended its process" in failures["train-00002"]
    assert "holds no video stream" in failures["train-00005"]
    assert "0 bytes" in failures["train-00006"]
    assert "no such file" in failures["train-00009"]
    assert len(cache) == 53
    assert not set(failures.index) & set(cache.index["video"])
    good = table["video"][20]
    fresh = build_cache(annotations, tmp_path / "fresh", settings)
    assert np.array_equal(cache["frames"][cache.row(good)], fresh["frames"][fresh.row(good)])


def test_too_many_failures_stop_the_build_and_keep_what_is_done(tmp_path: Path, demo_videos: Path) -> None:
    annotations = demo_annotations(demo_videos)
    table = annotations.table.copy()
    table.loc[[30, 31, 32], "path"] = "nowhere.mp4"
    strict = BuildSettings(num_candidates=6, frame_size=32, shard_size=7, max_failures=2)
    broken = Annotations(table, annotations.classes, annotations.videos)
    with pytest.raises(
        CacheError, match=r"3 videos failed, more than max_failures 2.*nowhere\.mp4: no such file"
    ):
        build_cache(broken, tmp_path / "cache", strict)
    with pytest.raises(CacheError, match="unfinished"):
        Cache(tmp_path / "cache")
    done = (tmp_path / "cache" / "frames" / "00000.npy").stat().st_mtime_ns
    lenient = BuildSettings(num_candidates=6, frame_size=32, shard_size=7, max_failures=3)
    assert len(build_cache(broken, tmp_path / "cache", lenient)) == 57
    assert (tmp_path / "cache" / "frames" / "00000.npy").stat().st_mtime_ns == done
    nothing = Annotations(table.loc[[30, 31, 32]], annotations.classes, annotations.videos)
    with pytest.raises(CacheError, match="none of the 3 videos"):
        build_cache(nothing, tmp_path / "nothing", lenient)


def test_other_settings_do_not_touch_a_cache(tmp_path: Path, demo_videos: Path) -> None:
    annotations = demo_annotations(demo_videos)
    build_cache(annotations, tmp_path / "cache", SETTINGS)
    with pytest.raises(CacheError, match="num_candidates 6 there, 5 asked for"):
        build_cache(
            annotations, tmp_path / "cache", BuildSettings(num_candidates=5, frame_size=48, shard_size=7)
        )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(CacheError, match="not empty"):
        build_cache(annotations, tmp_path / "other", SETTINGS)


BUILD = """
import os
import signal
import sys
from pathlib import Path
from tests.test_cache import SETTINGS, MeanColour, demo_annotations
from video_env.cache.build import build_cache

def killing(fsync, number):
    def counted(file):
        global calls
        calls += 1
        if calls == number:
            os.killpg(0, signal.SIGKILL)
        fsync(file)
    return counted

if __name__ == "__main__":
    folder, out, number, calls = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), 0
    os.fsync = killing(os.fsync, number)
    build_cache(demo_annotations(folder), out, SETTINGS, {"colour": MeanColour()})
"""


def test_killed_builds_end_byte_identical(tmp_path: Path) -> None:
    """kill -9 at ten random writes, then resume: no shard is redone, no byte differs."""
    for _ in write_demo_data(DemoData(train=120, validation=20, test=20), tmp_path):
        pass
    (tmp_path / "build.py").write_text(BUILD)
    build_cache(demo_annotations(tmp_path), tmp_path / "whole", SETTINGS, {"colour": MeanColour()})
    out, draw = tmp_path / "killed", random.Random(0)
    command = [sys.executable, str(tmp_path / "build.py"), str(tmp_path), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for _ in range(10):
        committed = set((out / ".unfinished" / "build").glob("0*.json"))
        moments = {path: path.stat().st_mtime_ns for path in committed}
        # The write is counted, not timed: each build is killed in the middle of it, on any machine.
        killed = subprocess.run([*command, str(draw.randrange(2, 12))], env=environment,
                                start_new_session=True, capture_output=True)  # fmt: skip
        assert killed.returncode == -signal.SIGKILL
        assert all(path.stat().st_mtime_ns == moment for path, moment in moments.items())
    subprocess.run([*command, "0"], env=environment, check=True, capture_output=True)
    assert same_files(tmp_path / "whole", out)


def test_adding_arrays_leaves_the_others_alone_and_resumes(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    before = {path: path.read_bytes() for path in (tmp_path / "cache" / "skim").iterdir()}
    calls: list[slice] = []

    def compute(rows: slice) -> dict[str, np.ndarray]:
        if len(calls) == 2:
            calls.append(rows)
            raise KeyboardInterrupt
        calls.append(rows)
        return {"double": 2 * cache["skim"][rows]}

    with pytest.raises(KeyboardInterrupt):
        add_arrays(cache, ("double",), compute, source={"from": "skim"})
    assert "double" not in Cache(tmp_path / "cache")
    grown = add_arrays(cache, ("double",), compute, source={"from": "skim"})
    assert [(rows.start, rows.stop) for rows in calls] == [(0, 10), (10, 20), (20, 24), (20, 24)]
    assert np.array_equal(grown["double"][:], 2 * grown["skim"][:])
    assert all(path.read_bytes() == content for path, content in before.items())
    with pytest.raises(CacheError, match="has double already"):
        add_arrays(grown, ("double",), compute, source={})


def test_indexing_is_numpys(cache: Cache) -> None:
    whole = np.concatenate([values for _, values in cache["skim"].iterate()])
    assert np.array_equal(cache["skim"][:], whole)
    assert np.array_equal(cache["skim"][-1], whole[-1])
    assert np.array_equal(cache["skim"][[22, 0, 9, 10]], whole[[22, 0, 9, 10]])
    assert np.array_equal(cache["skim"][5:15:3], whole[5:15:3])
    test = (cache.index["split"] == "test").to_numpy()
    assert np.array_equal(cache["skim"][test], whole[test])
    for bad in (24, (3, 1), [0.5], [[1]], np.array([True, False])):
        with pytest.raises(IndexError):
            cache["skim"][bad]  # type: ignore[index]


def test_removing_arrays_forgets_their_unfinished_work(tmp_path: Path) -> None:
    """An interrupted job's shards must not count once its arrays were removed."""
    cache = write_cache(tmp_path / "cache")
    values = cache["skim"][:]
    calls = 0

    def compute(rows: slice) -> dict[str, np.ndarray]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return {"copy": values[rows]}

    with pytest.raises(KeyboardInterrupt):
        add_arrays(cache, ("copy",), compute, source={})
    cache = remove(cache, ("copy",))
    cache = add_arrays(cache, ("copy",), compute, source={})
    assert np.array_equal(cache["copy"][:], values)


def test_a_cache_travels_as_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    cache = Cache("cache")
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(cache))
    assert np.array_equal(again["skim"][:], cache["skim"][:])


def spoil(path: Path, what: str) -> None:
    meta = path / "meta.json"
    record = json.loads(meta.read_text())
    if what == "version":
        meta.write_text(json.dumps({**record, "format_version": 99}))
    elif what == "no meta":
        meta.unlink()
    elif what == "half a meta":
        meta.write_text(meta.read_text()[:50])
    elif what == "missing entry":
        meta.write_text(json.dumps({"format_version": 1}))
    elif what == "truncated index":
        with (path / "index.parquet").open("r+b") as file:
            file.truncate(100)
    elif what == "short index":
        pd.read_parquet(path / "index.parquet").head(3).to_parquet(path / "index.parquet")
    elif what == "no index":
        (path / "index.parquet").unlink()
    elif what == "missing shard":
        (path / "skim" / "00001.npy").unlink()
    elif what == "truncated shard":
        with (path / "skim" / "00001.npy").open("r+b") as file:
            file.truncate(200)
    elif what == "changed byte":
        with (path / "skim" / "00001.npy").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x55")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("version", r"meta\.json: found format version 99, expected 2"),
        ("no meta", r"no meta\.json"),
        ("half a meta", r"meta\.json: damaged"),
        ("missing entry", r"meta\.json: damaged, no entry arrays"),
        ("truncated index", r"index\.parquet: damaged"),
        ("short index", r"index\.parquet: found 3 rows, expected 24"),
        ("no index", r"index\.parquet: the index is missing"),
        ("missing shard", r"skim/00001\.npy: the shard is missing"),
        ("truncated shard", r"skim/00001\.npy: the shard is damaged: found 200 bytes"),
    ],
)
def test_opening_a_spoiled_cache_names_the_file(tmp_path: Path, what: str, message: str) -> None:
    write_cache(tmp_path / "cache")
    spoil(tmp_path / "cache", what)
    with pytest.raises(CacheError, match=message):
        Cache(tmp_path / "cache")


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    spoil(tmp_path / "cache", "changed byte")
    with pytest.raises(CacheError, match=r"skim/00001\.npy: damaged: its SHA-256"):
        list(Cache(cache.path).verify())


def test_missing_things_say_what_there_is(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no array 'glance'; it has .*skim"):
        cache["glance"]
    with pytest.raises(CacheError, match="no video of split 'validation'; it has test, train"):
        cache.rows("validation")
    with pytest.raises(CacheError, match="no video 'nobody'"):
        cache.row("nobody")
    with pytest.raises(CacheError, match="no such folder"):
        Cache(tmp_path / "nowhere")


def test_derived_caches(tmp_path: Path, cache: Cache) -> None:
    fewer = derive(cache, tmp_path / "fewer", ["skim"])
    assert fewer.arrays == ("skim",)
    assert np.array_equal(fewer["skim"][:], cache["skim"][:])
    assert derive(cache, tmp_path / "fewer", ["skim"]).identity == fewer.identity
    with pytest.raises(CacheError, match="fewer: holds a cache that was not derived from"):
        derive(cache, tmp_path / "fewer", ["skim", "frames"])
    small = extract(cache, tmp_path / "small", {"train": 3, "test": 2}, frame_size=8)
    assert small["frames"].row_shape == (6, 8, 8, 3)
    assert small.index["video"].tolist() == ["video-00", "video-01", "video-02", "video-16", "video-17"]
    assert np.array_equal(small["subset_confidence"][3], cache["subset_confidence"][16])
    assert len(list(small.verify())) > 0
    with pytest.raises(CacheError, match="exists already"):
        extract(cache, tmp_path / "small", {"train": 3})
    index = cache.index.assign(label=9)
    with pytest.raises(CacheError, match="labels from 9 to 9, expected 0 to 3"):
        cache_from_arrays(tmp_path / "bad", index, {"skim": cache["skim"][:]}, list("abcd"), {})
