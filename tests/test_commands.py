"""The real path as a user walks it: mp4 files → decord → cache → environment → agent → curve."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

from compare.command_line.main import COMMANDS, main
from video_env.cache.derive import extract
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.agent_kinds import AGENT_KINDS
from video_env.evaluation.results import read_results
from video_env.evaluation.selections import write_selections

SMALL = [
    "--least-steps", 1, "--small.backbone.epochs", 1, "--small.backbone.least-steps", 1,
    "--small.backbone.batch-size", 8, "--small.skim.epochs", 1, "--small.skim.least-steps", 1,
]  # fmt: skip
"""Small networks and a recognizer, hardly trained."""


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_own_videos_to_a_curve(tmp_path: Path, demo_videos: Path) -> None:
    cache, agents, results = tmp_path / "cache", tmp_path / "agents", tmp_path / "results"
    data = ["--videos", demo_videos / "videos", "--annotations", demo_videos / "annotations.csv"]
    run("cache", *data, "--out", cache, "--num-candidates", 6, "--frame-size", 48, "--skim", "none", "--embedding", "none")  # fmt: skip
    run("train", "recognizer", cache, "--network", "small", "--hidden", 16, "--epochs", 2, *SMALL)
    assert Cache(cache).arrays == (
        "embedding", "frame_index", "frames", "skim", "subset_confidence", "subset_prediction", "timestamp_seconds",
    )  # fmt: skip
    run("cache", "verify", cache)
    run("train", "ocsampler", cache, "--out", agents / "ocsampler.pt", "--length.epochs", 2)
    run(
        "train",
        "sb3",
        cache,
        "--out",
        agents / "ppo.zip",
        "--steps",
        256,
        "--num-envs",
        16,
        "--hyperparameters",
        "batch_size",
        32,
    )
    for name in ("uniform", "oracle"):
        run("evaluate", name, cache, "--num-frames", 2, "--out", results / f"{name}.parquet")
    for kind, file in (("ocsampler", "ocsampler.pt"), ("sb3", "ppo.zip")):
        run("evaluate", kind, cache, "--agent", agents / file, "--out", results / f"{kind}.parquet")
    run("curve", results, "--out", tmp_path / "curve")
    summary = pd.read_csv(tmp_path / "curve" / "summary.csv")
    assert set(summary["method"]) == {"uniform", "oracle", "ocsampler", "ppo"}
    assert (tmp_path / "curve" / "curve.png").is_file()
    assert (agents / "ocsampler" / "progress.csv").is_file()
    run("selections", cache, "--results", results / "uniform.parquet", "--out", tmp_path / "selections.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "selections.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    # Six candidates of 36 frames at 12 per second; uniform takes the second and the fifth.
    assert lines[0]["frame_indices"] == [8, 26]
    assert lines[0]["timestamps_seconds"] == pytest.approx([8 / 12, 26 / 12], abs=1e-3)
    with pytest.raises(InputError, match="expected the cache that the tables were made on"):
        write_selections(Cache(PACKAGED_CACHE), read_results(results / "uniform.parquet"), tmp_path / "s")
    beyond = read_results(results / "uniform.parquet")
    beyond["selected"] = [[6]] * len(beyond)
    with pytest.raises(InputError, match=r"chose candidate 6 of .* has 6; expected the cache"):
        write_selections(Cache(cache), beyond, tmp_path / "s")


def test_own_videos_to_patches(tmp_path: Path, demo_videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways to a cache with patches: AdaFocus trains its networks, or weights are given."""
    cache = tmp_path / "cache"
    data = ["--videos", demo_videos / "videos", "--annotations", demo_videos / "annotations.csv"]
    run("cache", *data, "--out", cache, "--num-candidates", 4, "--frame-size", 48, "--skim", "none", "--embedding", "none")  # fmt: skip
    run("train", "recognizer", cache, "--network", "small", "--hidden", 16, "--epochs", 1, *SMALL)
    agent = tmp_path / "adafocus"
    quick = [
        "--patch-size",
        20,
        "--networks.length.epochs",
        1,
        "--random-patches.length.epochs",
        1,
        "--policy.length.epochs",
        1,
    ]
    for _ in range(2):  # the second time there is nothing left to do
        run("train", "adafocus", cache, "--out", agent, *quick)
    sac = [
        "--algorithm",
        "sac",
        "--environment",
        "PatchSelectContinuous-v0",
        "--steps",
        100,
        "--num-envs",
        4,
        "--hyperparameters",
        "learning_starts",
        20,
        "batch_size",
        8,
    ]
    run("train", "sb3", agent / "cache", "--out", agent / "sac.zip", *sac)
    results = tmp_path / "results"
    for kind, file in (("adafocus", "agent.pt"), ("sb3", "sac.zip")):
        run("evaluate", kind, agent / "cache", "--agent", agent / file, "--out", results / f"{kind}.parquet")
    for name in ("random-patch", "most-moving-patch", "patch-oracle"):
        patches = [agent / "cache", "--patch-sizes", 20]
        run("evaluate", name, *patches, "--out", results / f"{name}.parquet")
    run("curve", results, "--out", tmp_path / "curve")
    summary = pd.read_csv(tmp_path / "curve" / "summary.csv")
    assert summary["patch_size"].eq(20).all()
    assert list(summary["method"]) == [
        "random-patch",
        "most-moving-patch",
        "adafocus",
        "patch-sac",
        "patch-oracle",
    ]
    run(
        "selections",
        agent / "cache",
        "--results",
        results / "adafocus.parquet",
        "--out",
        tmp_path / "s.jsonl",
    )
    line = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0])
    assert np.shape(line["patches"]) == (4, 2)
    assert len(line["frame_indices"]) == 4

    networks = agent / "cache" / "networks"
    weights = ["--glance", "small_glance", "--glance-weights", networks / "glance.safetensors", "--focus", "small",
               "--focus-weights", networks / "patches.safetensors", "--classifier-weights", networks / "classifier.safetensors"]  # fmt: skip
    for _ in range(2):
        run("cache", "add", cache, "--patch-size", 20, *weights)
    run("cache", "verify", cache)
    given, own = Cache(cache), Cache(agent / "cache")
    for name in ("glance", "patches"):
        assert given.meta["arrays"][name]["sha256"] == own.meta["arrays"][name]["sha256"]
    capsys.readouterr()
    bad = list(map(str, ["cache", "add", cache, "--patch-size", 24, *weights]))
    assert main(bad) == 2
    assert "has patches already, made otherwise: " in capsys.readouterr().err
    assert main([*bad[:4], "49", *bad[5:]]) == 2
    assert "patch_size: found 49, expected 1 to 48" in capsys.readouterr().err
    bad[bad.index("small_glance")] = "mobilenet_v2"
    bad[bad.index(str(networks / "glance.safetensors"))] = "random"
    assert main(bad) == 2
    assert "expected those of a patch beside the glance's 1280" in capsys.readouterr().err


def test_overwriting_loses_nothing_before_the_new_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = extract(Cache(PACKAGED_CACHE), tmp_path / "cache", {"train": 20, "test": 5})
    before = {path: path.read_bytes() for path in cache.path.rglob("*") if path.is_file()}
    command = ["train", "recognizer", str(cache.path), "--overwrite"]
    for wrong in (["--epochs", "0"], ["--hidden", "-1"], ["--seed", "-1"], ["--device", "cuda:7"],
                  ["--network", "small", "--small.weights", "none.safetensors"]):  # fmt: skip
        assert main([*command, *wrong]) == 2, wrong
        assert all(path.read_bytes() == content for path, content in before.items())
    run(*command, "--least-steps", 1, "--epochs", 1, "--hidden", 8)
    assert Cache(cache.path).meta["training"]["recognizer"]["hidden"] == 8
    run("cache", "verify", cache.path)
    capsys.readouterr()
    run(*command[:-1], "--least-steps", 1, "--epochs", 1)
    assert "is kept" in capsys.readouterr().out


def test_several_labels_per_video(tmp_path: Path, demo_videos: Path) -> None:
    table = pd.read_csv(demo_videos / "annotations.csv", dtype=str)
    table["label"] = table["label"].str.replace("+", ";")
    table.to_csv(tmp_path / "several.csv", index=False)
    cache, data = (
        tmp_path / "cache",
        ["--videos", demo_videos / "videos", "--annotations", tmp_path / "several.csv"],
    )
    small = ["--num-candidates", 4, "--frame-size", 48, "--skim", "none", "--embedding", "none"]
    run("cache", *data, "--out", cache, *small)
    assert Cache(cache).classes == tuple("01234")
    run("train", "recognizer", cache, "--network", "small", "--hidden", 16, "--epochs", 2, *SMALL)
    run("evaluate", "all-frames", cache, "--out", tmp_path / "r.parquet")
    results = pd.read_parquet(tmp_path / "r.parquet")
    assert results["labels"].map(len).eq(2).all()
    run("curve", tmp_path / "r.parquet", "--out", tmp_path / "curve", "--metric", "mean_average_precision")
    assert pd.read_csv(tmp_path / "curve" / "summary.csv")["mean_average_precision"].between(0.2, 1).all()


@pytest.mark.parametrize("num_candidates", [5, 14])
def test_torchvision_networks_from_weights_files(
    tmp_path: Path, demo_videos: Path, num_candidates: int
) -> None:
    """Beyond T = 12 there is no table, and everything still runs."""
    cache = tmp_path / "cache"
    data = ["--videos", demo_videos / "videos", "--annotations", demo_videos / "annotations.csv"]
    small = ["--num-candidates", num_candidates, "--frame-size", 32, "--no-keep-frames"]
    network = torchvision.models.mobilenet_v2(weights=None)
    for _ in range(30):  # without batch statistics of its own an untrained network's features vanish
        network(torch.rand(8, 3, 64, 64))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    weights = ["--skim-weights", tmp_path / "weights.pth", "--embedding-weights", tmp_path / "weights.pth"]
    networks = ["--embedding", "mobilenet_v2", *weights]
    run("cache", *data, "--out", cache, *small, *networks)
    run("train", "recognizer", cache, "--hidden", 32, "--least-steps", 1, "--consensus", "mean")
    assert ("subset_confidence" in Cache(cache)) == (num_candidates == 5)
    run("train", "ocsampler", cache, "--out", tmp_path / "agent.pt", "--length.epochs", 1, "--num-frames", 3)
    run("evaluate", "ocsampler", cache, "--agent", tmp_path / "agent.pt", "--out", tmp_path / "agent.parquet")
    run("evaluate", "oracle", cache, "--out", tmp_path / "oracle.parquet", "--num-frames", 3)
    table = pd.read_parquet(tmp_path / "agent.parquet")
    cached = Cache(cache)
    # One file for both: the same network, weights and frames give the same features.
    assert np.array_equal(cached["skim"][:3], cached["embedding"][:3])
    assert np.ptp(cached["skim"][:].astype(np.float32)) > 0
    # 128x128 costs (128/224)² of mobilenet_v2's 0.30 GFLOPs, less its classifier.
    skim = num_candidates * 0.0975
    assert table["gflops"].iloc[0] == pytest.approx(skim + 3 * 0.0975, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "--videos", "/nowhere", "--annotations", "a.csv", "--out", "c"], "annotation file a.csv: no such file"),
        (["cache", "verify", "/nowhere"], "cache /nowhere: no such folder"),
        (["curve", "/nowhere", "--out", "x"], "results /nowhere: no such file or folder"),
        (["train", "recognizer", "/nowhere"], "cache /nowhere: no such folder"),
        (["evaluate", "PACKAGED", "--policy", "uniform", "--out", "x.parquet"], "is now written video-env evaluate uniform CACHE --out"),
        (["evaluate", "PACKAGED", "--policy", "a.zip", "--out", "x.parquet"], "is now written video-env evaluate KIND CACHE --agent a.zip (KIND: what video-env train made it with)"),
        (["evaluate", "PACKAGED", "--policy", "a.pth", "--published", "adafocus", "--out", "x.parquet"], "evaluate released-adafocus CACHE --checkpoint a.pth"),
        (["cache", "--videos", "v", "--annotations", "a.csv", "--out", "c", "--published", "ocsampler"], "is now a command of its own: video-env cache released-NAME"),
        (["cache", "--videos", "v", "--annotations", "a.csv", "--out", "c", "--like=d"], "is now a command of its own: video-env cache like CACHE"),
        (["cache", "build", "--videos", "v", "--annotations", "/nowhere", "--out", "c", "--skim", "none", "--skim-weights", "a.pth"], "annotation file /nowhere: no such file"),
        (["evaluate", "ocsampler", "PACKAGED", "--agent", "none.pt", "--out", "x.parquet"], "agent none.pt: no such file"),
        (["evaluate", "adafocus-v2", "PACKAGED", "--agent", "none.pt", "--gflops", "1", "--out", "x.parquet"], "agent none.pt: no such file"),
        (["evaluate", "last-frames", "PACKAGED", "--out", "x.parquet"], "evaluate last-frames: expected one of uniform, "),
        (["evaluate", "last-frames", "PACKAGED", "--out", "x.parquet"], "; --modules adds your own, and compare trains those"),
        (["evaluate", "uniform", "PACKAGED", "--num-frames", "13", "--out", "x.parquet"], "expected 1 to 12"),
        (["evaluate", "uniform", "PACKAGED", "--split", "dev", "--out", "x.parquet"], "no video of split 'dev'"),
        (["evaluate", "uniform", "PACKAGED", "--device", "cuda:9", "--out", "x.parquet"], "expected auto, cpu"),
        (["train", "ocsampler", "PACKAGED", "--out", "x.pt", "--num-frames", "99"], "num_frames: found 99"),
        (["train", "adafocus", "/nowhere", "--out", "x"], "cache /nowhere: no such folder"),
        (["train", "adafocus", "PACKAGED", "--out", "x", "--patch-size", "0"], "patch_size: found 0"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--allow-exit"], "allow_exit: ppo selects frames"),
        (["cache", "add", "PACKAGED", "--classifier-weights", "none.pth", "--focus", "small", "--focus-weights", "random", "--glance-weights", "random"], "weights file none.pth: no such file"),
        (["train", "ocsampler", "PACKAGED", "--out", "x.pt", "--reward", "luck"], "reward 'luck': expected one of"),
        (["selections", "PACKAGED", "--results", "/nowhere", "--out", "x"], "results /nowhere: no such file or folder"),
        (["train", "adafocus", "PACKAGED", "--out", "x", "--patch-size", "24"], "has patches of 36 pixels already"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--algorithm", "td3", "--hyperparameters", "noise_std", "much"], "td3 refuses them"),
        (["train", "recognizer", "PACKAGED", "--small.skim.epochs", "2"], "they mean nothing with network cached"),
        (["train", "ocsampler", "PACKAGED", "--out", "x.pt", "--skim-weights", "random"], "skim_weights: found random; it means nothing with skim cached"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--cost-per-gflop", "4"], "cost_per_gflop: found 4.0; it means nothing with FrameSelectOneStep-v0"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--algorithm", "dqn", "--num-frames", "3"], "num_frames: found 3; it means nothing with FrameSelect-v0"),
        (["study", "--seeds", "0"], "seeds: found 0"),
        (["train", "ocsampler", "PACKAGED", "--out", "agent"], "expected a name that ends in .pt"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--device", "cuda:3"], "expected auto, cpu"),
        (["train", "sb3", "PACKAGED", "--out", "x.zip", "--hyperparameters", "learning_rate", "-1"], "learning_rate: found -1"),
        (["evaluate", "random", "PACKAGED", "--seed", "-1", "--out", "x.parquet"], "seed: found -1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [str(PACKAGED_CACHE) if argument == "PACKAGED" else argument for argument in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert main(["fly"]) == 2
    capsys.readouterr()
    groups = {
        "cache": ["build", "like", "released-ocsampler", "add", "verify", "extract"],
        "train": ["recognizer", *AGENT_KINDS],
        "evaluate": [
            *(one.id for one in registry.methods().values() if one.train is None),
            *AGENT_KINDS,
        ],
    }
    for command in COMMANDS:
        for words in ([command], *([command, name] for name in groups.get(command, ()))):
            with pytest.raises(SystemExit) as ended:
                main([*words, "--help"])
            assert ended.value.code == 0
            printed = capsys.readouterr().out
            assert "usage: video-env" in printed
            if words == [command]:
                assert all(name in printed for name in groups.get(command, ()))


def test_packaged_cache_is_whole() -> None:
    assert sum(1 for _ in Cache(PACKAGED_CACHE).verify()) > 20
    assert sum(file.stat().st_size for file in PACKAGED_CACHE.rglob("*") if file.is_file()) < 10e6


def test_other_draws_of_the_same_videos(
    tmp_path: Path, demo_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, drawn = tmp_path / "cache", tmp_path / "drawn"
    data = ["--videos", demo_videos / "videos", "--annotations", demo_videos / "annotations.csv"]
    sizes = ["--num-candidates", 6, "--frame-size", 48]
    run("cache", *data, "--out", cache, *sizes, "--skim", "none", "--embedding", "none")
    run("train", "recognizer", cache, "--network", "small", "--hidden", 16, "--epochs", 1, *SMALL)
    for _ in range(2):  # the second time there is nothing left to do
        run("cache", "like", cache, *data, "--out", drawn, *sizes, "--random-epoch", 1)
    centre, random = Cache(cache), Cache(drawn)
    assert random.arrays == centre.arrays
    assert random.identity == centre.identity
    # Six frames a segment: each draw stays in its own, and they are not all the centres.
    assert (random["frame_index"][:] // 6 == np.arange(6)).all()
    assert not np.array_equal(random["frame_index"][:], centre["frame_index"][:])
    same = random["frame_index"][:] == centre["frame_index"][:]
    assert np.allclose(random["embedding"][:][same], centre["embedding"][:][same], atol=2e-2)
    agent = tmp_path / "agents" / "ocsampler.pt"
    options = ["--skim", "small_skim", "--length.epochs", 2, "--cost-per-gflop", 4]
    run("train", "ocsampler", cache, "--out", agent, "--drawn", drawn, *options)
    evaluated = ["evaluate", "ocsampler", str(cache), "--agent", str(agent)]
    run(*evaluated, "--out", tmp_path / "budget.parquet", "--cost-per-gflop", 1)
    table = pd.read_parquet(tmp_path / "budget.parquet")
    assert table["cost_per_gflop"].eq(1).all()
    assert table[["method", "title"]].iloc[0].tolist() == [
        "ocsampler-budget",
        "OCSampler, end to end, budget",
    ]
    # What a method has no use for, it does not take.
    for words in (
        [*evaluated, "--num-frames", "3"],
        ["evaluate", "uniform", str(cache), "--cost-per-gflop", "1"],
    ):
        with pytest.raises(SystemExit):
            main([*words, "--out", "a.parquet"])
        assert "nrecognized" in capsys.readouterr().err
    assert main([*evaluated[:4], str(cache / "meta.json"), "--out", str(tmp_path / "a.parquet")]) == 2
