"""Caches from somebody else, damaged caches, and many of them at once."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_cache
from video_env.cache.changes import add_arrays
from video_env.cache.derive import extract
from video_env.cache.meta import sealed
from video_env.cache.store import Cache, CacheError, read_meta

ROOT = Path(__file__).parent.parent


@pytest.fixture
def own(tmp_path: Path, cache: Cache) -> Path:
    shutil.copytree(cache.path, tmp_path / "cache")
    return tmp_path / "cache"


def change(path: Path, edit: Any, *, seal: bool = True) -> None:
    meta = json.loads((path / "meta.json").read_text())
    edit(meta)
    (path / "meta.json").write_text(json.dumps(sealed(meta) if seal else meta))


@pytest.mark.parametrize("name", ["../../thesis.txt", "/tmp/thesis.txt", "a/../../../.bashrc", ".hidden", ""])
@pytest.mark.parametrize("key", ["networks", "arrays", "places"])
def test_a_cache_that_names_files_outside_itself_is_refused(own: Path, name: str, key: str) -> None:
    def edit(meta: dict[str, Any]) -> None:
        if key == "places":
            meta["places"] = {"skim": name}
        else:
            meta[key][name] = next(iter(meta[key].values()))

    change(own, edit)
    with pytest.raises(CacheError, match=r"meta\.json: .*expected a plain name"):
        Cache(own)


@pytest.mark.parametrize("folder", ["skim", "networks"])
def test_a_folder_that_is_a_link_is_refused(own: Path, folder: str) -> None:
    (own / folder).rename(own.parent / "elsewhere")
    (own / folder).symlink_to(own.parent / "elsewhere")
    with pytest.raises(CacheError, match=f"{folder}: is a link"):
        Cache(own)


@pytest.mark.parametrize(
    "entry", [{"dtype": "O"}, {"dtype": "V8"}, {"dtype": "<f2,<f4"}, {"row_shape": [10**30]}, {"row_shape":
              [-1]}, {"row_shape": [1.0]}, {"sha256": []}]
)  # fmt: skip
def test_absurd_arrays_are_refused(own: Path, entry: dict[str, Any]) -> None:
    change(own, lambda meta: meta["arrays"]["skim"].update(entry))
    with pytest.raises(CacheError, match=r"meta\.json: damaged: arrays, skim"):
        Cache(own)


def test_what_a_result_depends_on_is_sealed(own: Path) -> None:
    for edit in (
        lambda meta: meta["gflops"].update(skim=0.02),
        lambda meta: meta["classes"].reverse(),
        lambda meta: meta["arrays"]["skim"]["source"].update(weights="others"),
    ):
        before = (own / "meta.json").read_bytes()
        change(own, edit, seal=False)
        with pytest.raises(CacheError, match=r"meta\.json: damaged or changed"):
            Cache(own)
        (own / "meta.json").write_bytes(before)
    change(own, lambda meta: meta.update(failures_sha256="0" * 64))
    with pytest.raises(CacheError, match=r"failures\.csv: cannot be read"):
        list(Cache(own).verify())


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places_of(item, (*path, key)))]


def test_a_malformed_meta_is_refused_by_name_or_harmless(own: Path) -> None:
    """Any kind of JSON in any place, with a seal that fits."""
    draw, original = random.Random(0), read_meta(own)
    kinds = [None, True, -1, 0, 1.5, 10**40, float("nan"), "", "text", [], [1], {}, {"a": 1}]
    refused: list[str] = []
    for _ in range(200):
        meta = json.loads(json.dumps(original))
        *way, last = draw.choice(places_of(original)[1:])
        target = meta
        for key in way:
            target = target[key]
        if draw.random() < 0.2 and isinstance(target, dict):
            del target[last]
        else:
            target[last] = draw.choice(kinds)
        version = meta.get("format_version")
        meta = {
            **sealed(meta),
            **({"format_version": version} if last == "format_version" and not way else {}),
        }
        (own / "meta.json").write_text(json.dumps(meta))
        try:
            opened = Cache(own)
            list(opened.verify())
            _ = (
                opened.contents,
                opened.identity,
                opened.label_sets(),
                opened.gflops,
                opened.fingerprint("skim"),
            )
        except CacheError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(str(own) in message for message in refused)


def test_damaged_records_of_unfinished_work_are_made_anew(own: Path) -> None:
    whole, draw = Cache(own)["skim"][:], random.Random(0)
    records = own / ".unfinished" / "double"

    def attempt(stop: int) -> None:
        def compute(rows: slice) -> dict[str, np.ndarray]:
            if rows.start == stop:
                raise KeyboardInterrupt
            return {"double": 2 * whole[rows]}

        add_arrays(Cache(own), ("double",), compute, source={"from": "skim"})

    for kind in range(40):
        with pytest.raises(KeyboardInterrupt):
            attempt(20)
        file = draw.choice([*sorted(records.iterdir()), *sorted((own / "double").iterdir())])
        data = file.read_bytes()
        cut = draw.randrange(len(data))
        file.write_bytes([data[:cut], b"[]", b'{"record": 1, "sha256": []}', b"", b"null"][kind % 5])
    attempt(-1)
    assert np.array_equal(Cache(own)["double"][:], 2 * whole)
    list(Cache(own).verify())


def test_other_works_shards_do_not_count(own: Path) -> None:
    """Records of other weights that were left while they were being deleted."""
    whole = Cache(own)["skim"][:]

    def attempt(factor: int, stop: int) -> None:
        def compute(rows: slice) -> dict[str, np.ndarray]:
            if rows.start == stop:
                raise KeyboardInterrupt
            return {"double": factor * whole[rows]}

        add_arrays(Cache(own), ("double",), compute, source={"factor": factor})

    with pytest.raises(KeyboardInterrupt):
        attempt(2, 20)
    kept = {file: file.read_bytes() for file in (own / ".unfinished" / "double").glob("0*.json")}
    with pytest.raises(KeyboardInterrupt):
        attempt(3, 0)
    for file, data in kept.items():
        file.write_bytes(data)
    attempt(3, -1)
    assert np.array_equal(Cache(own)["double"][:], 3 * whole)


def test_arrays_travel(cache: Cache) -> None:
    for name in cache.arrays:
        again = pickle.loads(pickle.dumps(cache[name]))
        assert np.array_equal(again[:], cache[name][:])


def test_a_cache_that_may_not_be_written_opens_and_verifies(own: Path) -> None:
    # The mode alone: whoever runs this as root may write all the same.
    for folder in (own, *(path for path in own.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    before = sorted(own.parent.rglob("*"))
    try:
        assert len(list(Cache(own).verify())) > 5
        assert sorted(own.parent.rglob("*")) == before
    finally:
        for folder in (own, *(path for path in own.rglob("*") if path.is_dir())):
            folder.chmod(0o755)


MANY = """
import sys
from pathlib import Path
from video_env.cache.store import Cache
caches = [Cache(sys.argv[1]) for _ in range(300)]
total = sum(float(cache[name][:].astype(float).sum()) for cache in caches for name in ("skim", "embedding"))
print(len(list(Path("/proc/self/fd").iterdir())), total == total)
"""


def test_hundreds_of_caches_stay_open(cache: Cache) -> None:
    command = f"ulimit -n 256; exec {sys.executable} -c '{MANY}' {cache.path}"
    done = subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 128


TRAIN = """
import sys
from pathlib import Path
from video_env.cache.store import Cache
from video_env.models.train_recognizer import RecognizerTraining, train_recognizer
settings = RecognizerTraining(hidden=int(sys.argv[2]), epochs=1, least_steps=1, batch_size=8)
train_recognizer(Cache(sys.argv[1]), settings, "cpu", overwrite=True)
"""


def both_at_once(path: Path, widths: tuple[int, int]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", TRAIN, str(path), str(width)], env=environment,
                         stderr=subprocess.PIPE, text=True)
        for width in widths
    ]  # fmt: skip
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    cache = Cache(path)
    assert len(list(cache.verify())) > 5
    source = cache.meta["arrays"]["subset_confidence"]["source"]["recognizer"]
    assert source == cache.meta["networks"]["recognizer.safetensors"]


@pytest.mark.parametrize("widths", [(8, 8), (8, 9)])
def test_two_trainings_of_a_recognizer_at_once(own: Path, widths: tuple[int, int]) -> None:
    both_at_once(own, widths)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(20))
def test_two_trainings_of_a_recognizer_at_once_often(own: Path, round_: int) -> None:
    both_at_once(own, (8, 8 + round_ % 2))


BUILD = """
import sys
from pathlib import Path
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.data.annotations import read_csv
from video_env.errors import InputError
if __name__ == "__main__":
    videos, out, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    settings = BuildSettings(num_candidates=4, frame_size=size, shard_size=8, processes=1)
    try:
        build_cache(read_csv(videos / "annotations.csv", videos / "videos"), out, settings)
    except InputError as error:
        sys.exit(str(error))
"""

ADD = """
import sys
import numpy as np
from video_env.cache.changes import add_arrays
from video_env.cache.store import Cache
from video_env.errors import InputError
cache, factor = Cache(sys.argv[1]), int(sys.argv[2])
source = {"factor": factor}
try:
    add_arrays(cache, ("made",), lambda rows: {"made": factor * cache["skim"][rows]}, source=source)
except InputError as error:
    sys.exit(str(error))
"""


def ended(script: Path, *calls: list[object]) -> list[tuple[int, str]]:
    """Exit codes and messages of calls of a script that run at once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    running = [
        subprocess.Popen([sys.executable, str(script), *map(str, call)], env=environment,
                         stderr=subprocess.PIPE, text=True)
        for call in calls
    ]  # fmt: skip
    return [(process.wait(), process.stderr.read()) for process in running if process.stderr]


@pytest.mark.parametrize(
    "round_", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 20))]
)
@pytest.mark.parametrize("sizes", [(16, 16), (16, 24)])
def test_two_builds_at_once(tmp_path: Path, demo_videos: Path, sizes: tuple[int, int], round_: int) -> None:
    """With one's settings both end well; with two's one is refused with the difference, and the other's data
    stay."""
    (tmp_path / "build.py").write_text(BUILD)
    calls = [[demo_videos, tmp_path / "cache", size] for size in sizes]
    results = ended(tmp_path / "build.py", *calls)
    cache = Cache(tmp_path / "cache")
    assert len(list(cache.verify())) > 5
    assert len(cache) == 60
    if sizes[0] == sizes[1]:
        assert [code for code, _ in results] == [0, 0], results
    else:
        assert sorted(code for code, _ in results) == [0, 1], results
        winner = sizes[[code for code, _ in results].index(0)]
        assert cache["frames"].row_shape == (4, winner, winner, 3)
        assert any("frame_size" in message for code, message in results if code)


@pytest.mark.parametrize(
    "round_", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 20))]
)
def test_two_additions_at_once(own: Path, round_: int) -> None:
    """One adds its array, the other is told that it is there: no shards of one stand among the other's."""
    (own.parent / "add.py").write_text(ADD)
    results = ended(own.parent / "add.py", [own, 2], [own, 3])
    assert sorted(code for code, _ in results) == [0, 1], results
    assert any("has made already" in message for code, message in results if code)
    cache = Cache(own)
    assert len(list(cache.verify())) > 5
    factor = cache.meta["arrays"]["made"]["source"]["factor"]
    assert np.array_equal(cache["made"][:], factor * cache["skim"][:])


def test_a_cache_of_the_first_version_is_read_and_renewed(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    meta = {key: value for key, value in cache.meta.items() if key != "sha256"}
    (cache.path / "meta.json").write_text(json.dumps({**meta, "format_version": 1}))
    old = Cache(cache.path)
    assert extract(old, tmp_path / "small", {"train": 2}).meta["format_version"] == 2
