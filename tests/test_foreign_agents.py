"""Agents, checkpoints and tables from somebody else: what is read of them is data, and runs nothing."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from agents.released import load_released
from baselines.sb3 import ALGORITHMS, SB3Settings, make_environments
from baselines.sb3_files import load_sb3, read_sb3_record, train_to_file
from tests.conftest import write_patch_cache
from tests.entries import saved as saved_entry
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.results import read_results
from video_env.files import sha256_of
from video_env.models.backbones import read_checkpoint
from video_env.models.training_loop import is_finished

# Of every algorithm as few steps as it takes to have weights of its own.
QUICK: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 4, "batch_size": 16},
    "a2c": {"n_steps": 4},
    "dqn": {"learning_starts": 8, "buffer_size": 64},
    "qr-dqn": {"learning_starts": 8, "buffer_size": 64},
    "trpo": {"n_steps": 4, "batch_size": 16},
    "maskable-ppo": {"n_steps": 4, "batch_size": 16},
    "recurrent-ppo": {"n_steps": 4, "batch_size": 16},
    "sac": {"learning_starts": 8, "buffer_size": 64},
    "td3": {"learning_starts": 8, "buffer_size": 64},
}
PLACES = [(name, where) for name, algorithm in ALGORITHMS.items() for where in algorithm.environments]


def quick(algorithm: str, environment: str | None = None, **more: Any) -> SB3Settings:
    return SB3Settings(
        algorithm, environment, steps=32, num_envs=4, hyperparameters=QUICK[algorithm], **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_patch_cache(tmp_path_factory.mktemp("patches") / "cache")


@pytest.mark.parametrize(("algorithm", "environment"), PLACES)
def test_what_is_built_anew_decides_as_what_its_own_load_reads(
    tmp_path: Path, cache: Cache, patches: Cache, algorithm: str, environment: str
) -> None:
    on = patches if environment.startswith("Patch") else cache
    settings, file = quick(algorithm, environment, seed=3), tmp_path / "model.zip"
    train_to_file(on, settings, file, device="cpu")
    record = read_sb3_record(file)
    before = torch.get_rng_state()
    ours = load_sb3(settings, file, on, "cpu", tuned=record.tuned)
    assert torch.equal(before, torch.get_rng_state())
    theirs: Any = ALGORITHMS[algorithm].kind.load(file, device="cpu")
    assert ours.policy.state_dict().keys() == theirs.policy.state_dict().keys()
    for name, tensor in theirs.policy.state_dict().items():
        assert torch.equal(ours.policy.state_dict()[name], tensor), name
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    seen = make_environments(on, settings, "train", 16).reset()
    for deterministic in (True, False):
        answers = []
        for model in (ours, theirs):
            torch.manual_seed(1)
            np.random.seed(1)  # noqa: NPY002  (what Stable-Baselines3 draws from)
            answers.append(model.predict(seen, deterministic=deterministic))
        for mine, its in zip(*answers, strict=True):
            assert np.array_equal(mine, its) if mine is not None else its is None


def test_a_policy_that_explores_by_a_matrix_is_read_too(tmp_path: Path, cache: Cache) -> None:
    settings = replace(quick("ppo"), hyperparameters={**QUICK["ppo"], "use_sde": True})
    train_to_file(cache, settings, tmp_path / "model.zip", device="cpu")
    model = load_sb3(settings, tmp_path / "model.zip", cache, "cpu")
    scores, _ = model.predict(make_environments(cache, settings, "train", 3).reset(), deterministic=False)
    assert scores.shape == (3, cache.num_candidates)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def pickled(bomb: Bomb) -> bytes:
    return pickle.dumps(bomb)


def saved(bomb: Bomb) -> bytes:
    file = io.BytesIO()
    torch.save({"agent": bomb, "state_dict": bomb}, file)
    return file.getvalue()


def in_a_tar(bomb: Bomb) -> bytes:
    """As torch saved in its first years."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickled(bomb)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


WAYS = [pickled, saved, in_a_tar]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def with_members(file: Path, members: dict[str, bytes]) -> None:
    """The .zip with these members instead of its own, and a record that vouches for it."""
    with zipfile.ZipFile(file) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {**held, **members}.items():
            archive.writestr(name, data)
    beside = file.with_suffix(".json")
    record = json.loads(beside.read_text())
    beside.write_text(json.dumps({**record, "sha256": sha256_of(file)}))


def test_the_bomb_would_go_off(mark: Path) -> None:
    pickle.loads(pickled(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth", "data"])
def test_a_stable_baselines_file_runs_nothing(
    tmp_path: Path, cache: Cache, mark: Path, member: str, way: Callable[[Bomb], bytes]
) -> None:
    file = tmp_path / "model.zip"
    train_to_file(cache, quick("sac"), file, device="cpu")
    data = way(Bomb(mark))
    if member == "data":
        code = {":type:": "x", ":serialized:": base64.b64encode(data).decode()}
        with zipfile.ZipFile(file) as archive:
            data = json.dumps({**json.loads(archive.read("data")), "policy_class": code}).encode()
    with_members(file, {member: data})
    if member != "policy.pth":  # nothing else is read
        assert saved_entry(file, cache, device="cpu").title == "SAC"
    else:
        with pytest.raises(InputError, match=r"model\.zip, policy\.pth: (holds|not a readable)") as caught:
            saved_entry(file, cache, device="cpu")
        assert_no_advice(caught.value)
    assert not mark.exists()


def assert_no_advice(error: BaseException) -> None:
    """Nothing of how to read it unsafely."""
    for word in ("weights_only", "safe_globals", "trust"):
        assert word not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


READERS: dict[str, Callable[[Path], Any]] = {
    "agent.pt": lambda file: saved_entry(file, Cache(PACKAGED_CACHE), device="cpu"),
    "stage-1.pt": is_finished,
    "weights.pth": read_checkpoint,
    "released.pth.tar": lambda file: load_released("adafocus", file),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", READERS)
def test_no_checkpoint_runs_anything(
    tmp_path: Path, mark: Path, name: str, way: Callable[[Bomb], bytes]
) -> None:
    (tmp_path / name).write_bytes(way(Bomb(mark)))
    with pytest.raises(InputError, match=name) as caught:
        READERS[name](tmp_path / name)
    assert_no_advice(caught.value)
    if way is saved:
        assert "holds pickled code (posix.system), which is never run" in str(caught.value)
    assert not mark.exists()


def test_a_result_table_runs_nothing(tmp_path: Path, mark: Path) -> None:
    """Parquet can carry pickled types in its metadata (CVE-2023-47248)."""
    code = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickled(Bomb(mark)),
    }
    column = pa.field("video", pa.string(), metadata=code)
    schema = pa.schema([column], metadata={**code, b"pandas": pickled(Bomb(mark))})
    pq.write_table(pa.table({"video": ["a"]}, schema=schema), tmp_path / "results.parquet")
    with pytest.raises(InputError, match="results.parquet"):
        read_results(tmp_path / "results.parquet")
    assert not mark.exists()


def test_a_table_of_objects_holds_no_pickles(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        pd.DataFrame({"video": [Bomb(tmp_path)]}).to_parquet(tmp_path / "results.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "its SHA-256 is .* trains it anew"),
        ({"tuned": {"policy": "os.system"}}, "policy 'os.system': expected one of Selection"),
        ({"tuned": {"policy_options": {"code": 1}}}, "ppo refuses them .*code"),
        ({"tuned": {"policy_options": {"hidden": 1 << 60}}}, "ppo refuses them"),
        ({"tuned": {"policy_options": {"net_arch": [64]}}}, "ppo refuses them .*net_arch: found .64., expected none"),
        ({"tuned": {"arguments": {"env": "CartPole-v1"}}}, "ppo refuses them"),
        ({"tuned": {"arguments": {"rollout_buffer_class": "os.system"}}}, "ppo refuses them"),
        ({"tuned": {"arguments": {"device": "cuda:7"}}}, "ppo refuses them"),
        ({"settings": {"algorithm": "os.system"}}, "algorithm 'os.system': expected one of ppo"),
        ({"settings": {"code": 1}}, "settings of another version .*code"),
        ({"shapes": {"selected": [9]}}, "does not fit cache .* in what it observes or does: .*selected \\[6\\] there, \\[9\\] asked"),
        ({"settings": None}, "settings of another version"),
        ({"tuned": []}, "settings of another version"),
    ],
)  # fmt: skip
def test_a_record_is_read_as_data(tmp_path: Path, cache: Cache, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "model.zip"
    train_to_file(cache, quick("ppo"), file, device="cpu")
    record = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(merged(record, change)))
    with pytest.raises(InputError, match=message):
        saved_entry(file, cache, device="cpu")


def merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: merged(below.get(name), value) for name, value in above.items()}}


def test_no_more_is_read_than_the_policy_takes(tmp_path: Path, cache: Cache) -> None:
    file = tmp_path / "model.zip"
    train_to_file(cache, quick("ppo"), file, device="cpu")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(64 << 20))
    with pytest.raises(InputError, match="policy.pth has 67,108,864 bytes, expected at most"):
        load_sb3(quick("ppo"), file, cache, "cpu")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("policy.pth", b"")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("policy.pth", b"")
    with pytest.raises(InputError, match="found 2 members policy.pth, expected one"):
        load_sb3(quick("ppo"), file, cache, "cpu")
    for content in (b"no zip", b"PK\x05\x06" + bytes(18), b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a .zip|found 0 members"):
            load_sb3(quick("ppo"), file, cache, "cpu")


def test_weights_that_do_not_fit_are_named(tmp_path: Path, cache: Cache) -> None:
    file = tmp_path / "model.zip"
    train_to_file(cache, quick("ppo"), file, device="cpu")
    with pytest.raises(InputError, match="missing action_net.further.weight"):
        load_sb3(quick("ppo", "FrameSelect-v0"), file, cache, "cpu")
    assert isinstance(load_sb3(quick("ppo"), file, cache, "cpu").action_space, gym.spaces.Box)
