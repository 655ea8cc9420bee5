"""Ids and labels that look like something else, and very small sets, through the commands as a user runs them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from compare.command_line.main import main
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.evaluation.tables import read_table

ODD = ["00001", "NA", "nan", "1e5", "TRUE", "null"]
RANDOM = ["--skim-weights", "random", "--embedding-weights", "random"]


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_ids_and_labels_stay_text(
    tmp_path: Path, demo_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((demo_videos / "videos").iterdir())
    (tmp_path / "videos").mkdir()
    for name, file in zip(ODD[:5], files, strict=False):
        (tmp_path / "videos" / f"{name}.mp4").symlink_to(file)
    (tmp_path / "videos" / "null.mp4").write_bytes(b"no video")
    names = ["x", "NA", "nan", "1e5", "TRUE", "null"]
    rows = [f"{id},{id}.mp4,{name},{split}" for id, name, split in zip(
        ODD, names, ["train", "train", "train", "test", "test", "train"], strict=True)]  # fmt: skip
    (tmp_path / "a.csv").write_text(
        "video,path,label,split,NA\n" + "\n".join(f"{row},{row[:2]}" for row in rows)
    )
    data = ["--videos", tmp_path / "videos", "--annotations", tmp_path / "a.csv"]
    network = ["--skim", "small_skim", "--embedding", "small", *RANDOM]
    run("cache", *data, "--out", tmp_path / "cache", "--num-candidates", 3, "--frame-size", 32, *network)
    printed = capsys.readouterr().out
    assert "videos: 4 train, 2 test; classes: 6 (0 1e5, 1 NA, 2 TRUE, 3 nan, 4 null, …)\n" in printed
    assert "\nclasses without a training video: 2 (1e5, TRUE)" in printed
    assert "\n  null: " in printed
    failures = pd.read_csv(tmp_path / "cache" / "failures.csv", dtype=str, keep_default_na=False)
    assert failures[["video", "path"]].to_numpy().tolist() == [["null", "null.mp4"]]
    assert read_table(tmp_path / "cache" / "failures.csv")["video"].tolist() == ["null"]
    cache = Cache(tmp_path / "cache")
    assert cache.index["video"].tolist() == ODD[:5]
    assert [cache.classes[label] for label in cache.labels] == names[:5]
    assert [cache.row(name) for name in ODD[:5]] == [0, 1, 2, 3, 4]

    run("train", "recognizer", cache.path, "--hidden", 4, "--least-steps", 1)
    results = tmp_path / "results"
    run(
        "evaluate", "uniform", cache.path, "--num-frames", 2, "--method", "NA", "--out", results / "a.parquet"
    )
    run(
        "evaluate", "centre", cache.path, "--num-frames", 2, "--method", "007", "--out", results / "b.parquet"
    )
    run("curve", results, "--out", tmp_path / "curve")
    assert set(read_table(tmp_path / "curve" / "summary.csv")["method"]) == {"NA", "007"}
    run("selections", cache.path, "--results", results, "--out", tmp_path / "selections.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "selections.jsonl").read_text().splitlines()]
    assert [(line["video"], line["method"]) for line in lines] == [
        ("1e5", "NA"), ("TRUE", "NA"), ("1e5", "007"), ("TRUE", "007"),
    ]  # fmt: skip


def test_a_table_read_back_is_the_one_that_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "method": ["NA", "nan", "1"],
            "setting": ["007", "", "1e5"],
            "top1": [0.5, np.nan, np.inf],
            "seeds": [1, 2, 3],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    read = read_table(tmp_path / "t.csv")
    assert read["method"].tolist() == ["NA", "nan", "1"]
    assert read["setting"].fillna("missing").tolist() == ["007", "missing", "1e5"]
    assert read["top1"].to_numpy() == pytest.approx([0.5, np.nan, np.inf], nan_ok=True)
    assert read["seeds"].dtype == np.int64


def test_a_class_list_on_the_command_line(
    tmp_path: Path, demo_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sorted((demo_videos / "videos").iterdir())[0].name
    (tmp_path / "classes.txt").write_text("jump\nrun\nswim\n")
    (tmp_path / "a.csv").write_text(f"video,path,label,split\na,{file},run,train\nb,{file},2,test\n")
    command = [
        "cache", "--videos", demo_videos / "videos", "--annotations", tmp_path / "a.csv", "--out",
        tmp_path / "cache", "--num-candidates", 2, "--frame-size", 32, "--skim", "none", "--embedding", "none",
    ]  # fmt: skip
    assert main([str(part) for part in command]) == 2
    assert "a.csv, row 2, column label: found 'run'" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    run(*command, "--classes", tmp_path / "classes.txt")
    printed = capsys.readouterr().out
    assert "classes without a training video: 2 (jump, swim)" in printed
    assert f"files in more than one split: 1 ({file} in train and test)" in printed
    cache = Cache(tmp_path / "cache")
    assert cache.classes == ("jump", "run", "swim")
    assert cache.labels.tolist() == [1, 2]


@pytest.mark.parametrize(("training", "candidates"), [(3, 3), (1, 1)])
def test_sets_smaller_than_a_batch_are_trained_on(
    tmp_path: Path, training: int, candidates: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every training with its own batch size, on videos that leave a class without any; on a single frame too."""
    generator = np.random.default_rng(0)
    count = training + 2
    index = pd.DataFrame(
        {
            "video": [f"v{number}" for number in range(count)],
            "label": np.arange(count) % 3,
            "split": ["train"] * training + ["test"] * 2,
        }
    )
    frames = {"frames": generator.integers(0, 256, (count, candidates, 48, 48, 3), dtype=np.uint8)}
    cache = cache_from_arrays(tmp_path / "cache", index, frames, list("abcd"), {}).path
    once = [f"--small.{part}.{what}=1" for part in ("backbone", "skim") for what in ("epochs", "least-steps")]
    train = ["train", "recognizer", str(cache), "--network", "small", "--epochs=1", "--least-steps=1", *once]
    if training * candidates == 1:  # batch normalisation needs two
        assert main([*map(str, train), "--hidden", "4"]) == 2
        assert "batch_size 64: of the 1 training videos" in capsys.readouterr().err
    run(*train, "--hidden", 4 if training * candidates > 1 else 0)
    run(
        "train",
        "ocsampler",
        cache,
        "--out",
        tmp_path / "cached.pt",
        "--num-frames",
        candidates,
        "--length.epochs",
        1,
    )
    end_to_end = ["--num-frames", 1, "--skim", "small_skim", "--skim-weights", "random"]
    run("train", "ocsampler", cache, "--out", tmp_path / "whole.pt", "--length.epochs", 1, *end_to_end)
    budget = [
        "--num-frames",
        candidates,
        "--length.epochs",
        1,
        "--budget-length.epochs",
        1,
        "--cost-per-gflop",
        0.1,
    ]
    run("train", "ocsampler", cache, "--out", tmp_path / "budget.pt", *budget)
    few = ["--steps", 64, "--num-envs", 4]
    run("train", "sb3", cache, "--out", tmp_path / "ppo.zip", "--algorithm", "maskable-ppo", *few)
    stages = [
        f"--{stage}.length.epochs=1" for stage in ("networks", "random-patches", "policy", "fine-tuning")
    ]
    run("train", "adafocus", cache, "--out", tmp_path / "adafocus", "--patch-size", 24, *stages)
    agents = ["cached.pt", "whole.pt", "budget.pt", "ppo.zip"]
    train = [
        "train",
        "adafocus-v2",
        str(cache),
        "--out",
        str(tmp_path / "v2"),
        "--patch-size=24",
        "--length.epochs=1",
    ]
    if training * candidates == 1:
        assert main(train) == 2
        assert "batch_size 16, parts 1: of the 1 training videos" in capsys.readouterr().err
    else:
        run(*train)
        agents.append("v2/agent.pt")
    for agent in agents:
        kind = {"adafocus": "adafocus", "v2": "adafocus-v2"}.get(
            Path(agent).parent.name, "sb3" if agent.endswith(".zip") else "ocsampler"
        )
        run("evaluate", kind, cache, "--agent", tmp_path / agent, "--out", tmp_path / "result.parquet")
        assert len(pd.read_parquet(tmp_path / "result.parquet")) == 2
    files = [*tmp_path.rglob("*.pt"), *tmp_path.rglob("*.safetensors")]
    assert len(files) > 6
    for file in files:
        values = torch.load(file, weights_only=True) if file.suffix == ".pt" else load_file(file)
        assert all(torch.isfinite(tensor).all() for tensor in _tensors(values)), file


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a saved file, however deep."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
