"""A prediction of a video file is what the evaluation says of that video in a cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.adafocus.methods import patches_in
from compare.command_line.main import main
from tests.entries import untrained
from video_env.cache.store import Cache
from video_env.data import demo
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.prediction import EntryOf, Prediction, agent_from, predict, reading_of
from video_env.models.encoders import CacheEncoder, PatchEncoder

ONE_EPOCH = ("--length.epochs", 1)
QUICK_STAGES = [
    f"--{stage}.length.epochs=1" for stage in ("networks", "random-patches", "policy", "fine-tuning")
]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for _ in demo.write_demo_data(demo.DemoData(train=16, validation=8, test=6), folder):
        pass
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """A cache of small networks that saw little, and an agent of each kind."""
    out = tmp_path_factory.mktemp("agents")
    cache = out / "cache"
    data = ["--videos", videos / "videos", "--annotations", videos / "annotations.csv"]
    size = ["--num-candidates", 5, "--frame-size", 48, "--skim", "none", "--embedding", "none"]
    small = [
        "--small.backbone.epochs",
        1,
        "--small.backbone.least-steps",
        1,
        "--small.backbone.batch-size",
        8,
    ]
    small += ["--small.skim.epochs", 1, "--small.skim.least-steps", 1, "--least-steps", 1, "--epochs", 1]
    assert run("cache", "build", *data, "--out", cache, *size) == 0
    assert run("train", "recognizer", cache, "--network", "small", "--hidden", 16, *small) == 0
    assert run("train", "ocsampler", cache, "--out", out / "ocsampler.pt", *ONE_EPOCH) == 0
    quick = ["--steps", 64, "--num-envs", 4, "--hyperparameters", "n_steps", 16, "batch_size", 16]
    for name in ("ppo", "maskable-ppo"):
        assert run("train", "sb3", cache, "--out", out / f"{name}.zip", "--algorithm", name, *quick) == 0
    adafocus = out / "adafocus"
    assert run("train", "adafocus", cache, "--out", adafocus, "--patch-size", 20, *QUICK_STAGES) == 0
    patches = ["--algorithm", "ppo", "--environment", "PatchSelect-v0", *quick]
    assert run("train", "sb3", adafocus / "cache", "--out", out / "patch-ppo.zip", *patches) == 0
    second = ["--patch-size", 20, "--focus", "small", "--focus-weights", "random", *ONE_EPOCH]
    assert run("train", "adafocus-v2", cache, "--out", out / "v2", *second) == 0
    return out


POLICIES = {
    "ocsampler": "ocsampler.pt", "ppo": "ppo.zip", "maskable-ppo": "maskable-ppo.zip",
    "adafocus": "adafocus/agent.pt", "patch-ppo": "patch-ppo.zip", "adafocus-v2": "v2/agent.pt",
}  # fmt: skip
OF_PATCHES = ("adafocus", "patch-ppo")
UNTRAINED = ("uniform", "motion", "single-frame-confidence")


def policy_of(name: str, folder: Path) -> tuple[EntryOf, Cache]:
    cache = Cache(folder / "cache")
    if name in UNTRAINED:
        return (lambda on: untrained(name, on)), cache
    on = patches_in(cache, folder / "adafocus") if name in OF_PATCHES else cache
    return agent_from(folder / POLICIES[name], device="cpu"), on


@pytest.mark.parametrize("name", [*POLICIES, *UNTRAINED])
def test_it_says_what_the_evaluation_says(name: str, folder: Path, videos: Path) -> None:
    entry_of, cache = policy_of(name, folder)
    table = evaluate(entry_of(cache), cache, "test", "cpu").set_index("video")
    files = {
        str(videos / "videos" / cache.index["path"][row]): cache.index["video"][row]
        for row in cache.rows("test")
    }
    for said in predict([*files], cache, entry_of, device="cpu"):
        assert isinstance(said, Prediction)
        row = table.loc[files[said.video]]
        own = cache.row(files[said.video])
        assert said.label == row["prediction"]
        assert np.flatnonzero(said.chosen).tolist() == row["selected"]
        assert said.gflops == pytest.approx(row["gflops"], rel=1e-12)
        np.testing.assert_allclose(said.probabilities, row["scores"], atol=2e-3)
        np.testing.assert_array_equal(said.frame_indices, cache["frame_index"][own][row["selected"]])
        np.testing.assert_allclose(said.timestamps_seconds, said.frame_indices / 12, atol=1e-3)
        if "patches" in row:
            assert said.patches is not None
            np.testing.assert_allclose(said.patches.ravel(), row["patches"], atol=1e-6)
        np.testing.assert_array_equal(said.frames, cache["frames"][own])


def test_a_budget_is_that_of_the_evaluation(
    folder: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, agent, out = folder / "cache", folder / "v2" / "agent.pt", tmp_path / "exit.parquet"
    assert run("evaluate", "adafocus-v2", cache, "--agent", agent, "--gflops", 0.004, "--out", out) == 0
    expected = pd.read_parquet(out).set_index("video")["gflops"]
    assert expected.nunique() > 1  # some are left early
    capsys.readouterr()
    files = sorted((videos / "videos").glob("test-*"))
    assert run("predict", *files, "--policy", agent, "--cache", cache, "--gflops", 0.004, "--json-lines") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["gflops"] for one in said] == pytest.approx([expected[file.stem] for file in files])
    assert run("predict", files[0], "--policy", folder / "ppo.zip", "--cache", cache, "--gflops", 1) != 0
    assert "gflops: found 1.0; it means nothing with an agent of the kind sb3" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ocsampler", "adafocus", "uniform"])
def test_networks_run_on_what_is_looked_at_alone(
    name: str, folder: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where pixels enter them: 2 of 5 frames are embedded, one patch in each frame."""
    looked: dict[str, int] = {}
    whole, at = CacheEncoder.__call__, PatchEncoder.at

    def encode(self: CacheEncoder, clips: np.ndarray) -> np.ndarray:
        looked[self.network.name] = looked.get(self.network.name, 0) + clips.shape[0] * clips.shape[1]
        return whole(self, clips)

    def encode_at(self: PatchEncoder, frames: np.ndarray, positions: np.ndarray) -> np.ndarray:
        looked["patches"] = looked.get("patches", 0) + len(frames)
        return at(self, frames, positions)

    monkeypatch.setattr(CacheEncoder, "__call__", encode)
    monkeypatch.setattr(PatchEncoder, "at", encode_at)
    entry_of, cache = policy_of(name, folder)
    files = sorted((videos / "videos").glob("test-*"))[:3]
    assert len(list(predict(files, cache, entry_of, device="cpu"))) == 3
    expected = {
        "ocsampler": {"small_skim": 15, "small": 6}, "adafocus": {"small_glance": 15, "patches": 15},
        "uniform": {"small": 6},
    }  # fmt: skip
    assert looked == expected[name]


def test_the_command(folder: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = sorted((videos / "videos").glob("test-*"))[:2]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(good.read_bytes()[:300])
    command = ["predict", good, broken, "/nowhere.mp4", other, "--cache", folder / "cache"]
    capsys.readouterr()
    pictures = tmp_path / "pictures"
    assert run(*command, "--policy", folder / "ocsampler.pt", "--json-lines", "--picture", pictures) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["video"] for line in lines] == [str(good), str(other)]
    assert all(sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-3) for line in lines)
    assert all(line["gflops"] > 0 and line["seconds"] > 0 for line in lines)
    assert err.count("\n") == 2
    assert str(broken) in err
    assert "/nowhere.mp4: no such file" in err
    assert {file.name for file in pictures.iterdir()} == {f"{good.stem}.png", f"{other.stem}.png"}
    one = [
        "predict",
        good,
        "--cache",
        folder / "adafocus" / "cache",
        "--policy",
        folder / POLICIES["adafocus"],
    ]
    assert run(*one, "--picture", tmp_path / "one.png") == 0
    assert f"{good}: " in capsys.readouterr().out
    assert (tmp_path / "one.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy", "none.pt"], "agent none.pt: no such file"),
        (["--policy", "annotations.csv"], "annotations.csv: found no agent, expected one of "),
        (["--policy", "wishes"], "policy wishes: expected a file of an agent, or one of uniform"),
        (["--policy", "oracle", "--num-frames", "2"], "policy oracle: is a bound"),
        (["--policy", "uniform"], "num_frames: found none"),
        (["--policy", "uniform", "--num-frames", "6"], "num_frames: found 6, expected 1 to 5"),
        (["--policy", "early-exit"], "found videos without labels, which no method can learn from"),
        (["--policy", "adafocus/agent.pt"], "has no array 'glance'"),
        (["--policy", "uniform", "--num-frames", "2", "--picture", "a.gif"], "a name that ends in .png"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(
    arguments: list[str], says: str, folder: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"annotations.csv": videos, "adafocus/agent.pt": folder}
    arguments = [str(places[one] / one) if one in places else one for one in arguments]
    video = next((videos / "videos").glob("test-*"))
    capsys.readouterr()
    assert run("predict", video, "--cache", folder / "cache", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_cache_of_features_from_elsewhere_is_refused(cache: Cache) -> None:
    with pytest.raises(InputError, match="does not say how its videos were read"):
        reading_of(cache)
    with pytest.raises(InputError, match="does not say how its videos were read"):
        list(predict(["a.mp4"], Cache(PACKAGED_CACHE), lambda on: untrained("uniform", on)))
