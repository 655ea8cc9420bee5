"""The registry and what methods may say of themselves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_cache
from tests.entries import untrained
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.labels import setting_label
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job, Method, NoSettings
from video_env.evaluation.results import join_results, setting_columns, write_results


def entry(**setting: Any) -> Entry:
    return Entry("m", "m", "own", setting, 0, None, None)  # type: ignore[arg-type]


def test_every_method_of_ours_lists_its_settings_and_says_what_it_is() -> None:
    registry.load()
    families = {"heuristic", "bound", "ocsampler", "adafocus", "adafocus-v2", "stable-baselines3"}
    for id, method in registry.methods().items():
        if method.family != "own":  # other tests add some
            assert method.family in families, id
            assert method.about[0].islower() or method.about.split()[0].rstrip(":")[0].isupper(), id
    titles = [method.title for method in registry.methods().values()]
    assert len(set(titles)) == len(titles)


def test_best_fixed_subset_is_the_best_by_brute_force(cache: Cache) -> None:
    table, rows = cache["subset_confidence"][:].astype(np.float64), cache.rows("train")
    for count in (1, 2, 4):
        means = {
            frames: table[rows, sum(1 << frame for frame in frames)].mean()
            for frames in itertools.combinations(range(cache.num_candidates), count)
        }
        best = max(means, key=lambda frames: means[frames])
        chosen = evaluate(untrained("best-fixed-subset", cache, num_frames=count), cache, "test")["selected"]
        assert {tuple(frames) for frames in chosen} == {best}


def test_best_fixed_subset_needs_the_table(tmp_path: Path) -> None:
    """Of 30 candidates not even the list of subsets would fit into memory."""
    many = write_cache(tmp_path / "cache", num_candidates=30, tables=False)
    with pytest.raises(InputError, match="has no array 'subset_confidence'"):
        untrained("best-fixed-subset", many)


@pytest.mark.parametrize("id", ["CNN+LSTM", "123", "my method", "class", 'a"b', "my_method/..", ""])
def test_an_id_is_a_plain_word(id: str) -> None:
    with pytest.raises(InputError, match="expected an id of small letters"):
        registry.method(id, about="")(lambda job, settings: [])


def test_what_cannot_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    with pytest.raises(InputError, match="found train and prepare"):
        registry.method("both", about="", train=print, prepare=print)
    registry.method("my-agent", about="")(lambda job, settings: [])
    with pytest.raises(InputError, match="'my_agent': is registered already"):
        registry.method("my_agent", about="")(lambda job, settings: [])

    @registry.method("hen", about="", builds_on=("egg",))
    @registry.method("egg", about="", builds_on=("hen",))
    def circle(job: Job, settings: object) -> list[Entry]:
        return []

    with pytest.raises(InputError, match="'hen': builds on itself, by hen and egg"):
        registry.with_those_built_on(registry.find(["hen"]))


def test_files_of_methods_do_not_mix(tmp_path: Path, cache: Cache) -> None:
    method = Method(
        "mine", "mine", "own", "", NoSettings(), lambda job, settings: [], builds_on=("ocsampler",)
    )
    job = Job(cache, "test", 0, tmp_path, method=method)
    assert job.file("mine-2.pt") == tmp_path / "mine-2.pt"
    assert job.file("ocsampler-1.pt") == tmp_path / "ocsampler-1.pt"
    for name in ("agent.pt", "minefield.pt", "ppo-1.zip"):
        with pytest.raises(InputError, match="begins with the method's id"):
            job.file(name)
    with pytest.raises(InputError, match="folder: found none"):
        Job(cache, "test", 0, method=method).file("mine.pt")


def test_entries_that_a_method_may_not_give(cache: Cache) -> None:
    def given(*entries: Entry) -> list[Entry]:
        method = Method("mine", "mine", "own", "", NoSettings(), lambda job, settings: list(entries))
        return method.list_entries(Job(cache, "test", 3))

    with pytest.raises(InputError, match="gave no entries"):
        given()
    with pytest.raises(InputError, match="gave an entry of seed 0, expected 3"):
        given(entry(num_frames=1))
    one = untrained("uniform", cache, seed=3)
    with pytest.raises(InputError, match="an entry of another method, uniform"):
        given(one)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gflops": 1}, "gflops is another column"),
        ({"history": 1}, "history is another column"),
        ({"unit": 1}, "unit is another column"),
        ({"seconds_to_1": 1}, "seconds_to_1 is another column"),
        ({"stage": "01"}, "found the text '01', expected a word, or the number itself"),
        ({"stage": ""}, "found the text ''"),
        ({"stage": None}, "found None, expected a number or a word"),
        ({"stage": float("nan")}, "found nan"),
        ({"stage": (1, 2)}, "expected a number or a word"),
    ],
)
def test_settings_that_no_table_gives_back(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        entry(**setting)


def test_settings_are_plain_values() -> None:
    made = entry(num_frames=np.int64(2), cost_per_gflop=np.float32(0.5), rule="middle")
    assert made.setting == {"num_frames": 2, "cost_per_gflop": 0.5, "rule": "middle"}
    assert [type(value) for value in made.setting.values()] == [int, float, str]
    assert setting_label(made.setting) == "N = 2, λ = 0.5, rule middle"
    assert setting_label({"patch_size": "large"}) == "patch size large"


def test_a_setting_is_a_word_or_a_number_in_all_tables(tmp_path: Path, cache: Cache) -> None:
    tables = []
    for value in ("early", 3):
        one = untrained("uniform", cache)
        named = Entry(
            f"m-{value}", "m", "own", {"policy": value}, 0, one.environment, one.policy, one.options
        )
        tables.append(evaluate(named, cache, "test"))
    with pytest.raises(
        InputError, match="policy is a word for m-early in a.parquet, and a number for m-3 in b"
    ):
        join_results(tables, ["a.parquet", "b.parquet"])
    write_results(tables[0], tmp_path / "one.parquet")
    assert setting_columns(pd.read_parquet(tmp_path / "one.parquet")) == ["policy"]
