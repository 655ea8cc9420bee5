"""Heuristics and the oracle by brute force; the Stable-Baselines3 adapter against the environment."""

import itertools
from collections import deque
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from baselines.heuristics import HEURISTICS
from baselines.oracle import oracle
from baselines.vec_env import StableBaselinesVecEnv
from benchmarks.cart_pole import NativeCartPoles
from tests.conftest import write_cache
from tests.entries import untrained
from video_env.cache.changes import add_arrays
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.models.recognizers import load_recognizer


def frames_of(subsets: np.ndarray, row: int) -> list[int]:
    return np.flatnonzero(subsets[row]).tolist()


def test_rules_without_learning(cache: Cache) -> None:
    subsets = {name: rule(cache, 2, "test", 0).subsets for name, rule in HEURISTICS.items()}
    assert frames_of(subsets["uniform"], 0) == [1, 4]
    assert frames_of(subsets["centre"], 0) == [2, 3]
    assert set(map(tuple, subsets["random"])) != {tuple(subsets["random"][0])}
    assert (subsets["random"].sum(axis=1) == 2).all()
    row = int(cache.rows("test")[3])
    frames = cache["frames"][row].astype(float)
    moved = [np.abs(frames[1] - frames[0]).mean()]
    moved += [np.abs(frames[t] - frames[t - 1]).mean() for t in range(1, 6)]
    assert frames_of(subsets["motion"], row) == sorted(np.argsort(moved)[-2:].tolist())
    recognizer, embedding = load_recognizer(cache), torch.from_numpy(cache["embedding"][row]).float()
    with torch.no_grad():
        alone = [
            recognizer(embedding[None, [t]], torch.ones(1, 1, dtype=torch.bool)).softmax(-1).max()
            for t in range(6)
        ]
    assert frames_of(subsets["single-frame-confidence"], row) == sorted(np.argsort(alone)[-2:].tolist())


def test_oracle_prefers_being_right_to_being_surer(tmp_path: Path) -> None:
    """The true class has its highest probability on frames 0 and 1, where another one has a higher still."""
    cache = write_cache(tmp_path / "cache", tables=False)
    surest, right = 0b000011, 0b001100

    def compute(shard: slice) -> dict[str, np.ndarray]:
        labels = cache.labels[shard]
        confidence = np.full((len(labels), 1 << 6), 0.1, np.float16)
        confidence[:, surest], confidence[:, right] = 0.45, 0.4
        prediction = np.repeat((labels + 1)[:, None] % 4, 1 << 6, axis=1).astype(np.int16)
        prediction[:, right] = labels
        return {"subset_confidence": confidence, "subset_prediction": prediction}

    cache = add_arrays(cache, ("subset_confidence", "subset_prediction"), compute, source={"made": "by hand"})
    subsets = oracle(cache, 2, "test").subsets
    assert all(frames_of(subsets, int(row)) == [2, 3] for row in cache.rows("test"))


@pytest.mark.parametrize("tables", [True, False])
def test_oracle_is_the_best_of_all_sets(tmp_path, tables: bool) -> None:  # type: ignore[no-untyped-def]
    cache = write_cache(tmp_path / "cache", tables=tables)
    recognizer = load_recognizer(cache)
    subsets = oracle(cache, 2, "test").subsets
    found, best = [], []
    for row in cache.rows("test"):
        embedding, label = torch.from_numpy(cache["embedding"][int(row)]).float(), int(cache.labels[row])

        def worth(
            pair: tuple[int, ...], embedding: torch.Tensor = embedding, label: int = label
        ) -> tuple[bool, float]:
            with torch.no_grad():
                chosen = torch.ones(1, 2, dtype=torch.bool)
                probabilities = recognizer(embedding[None, list(pair)], chosen).softmax(-1)[0]
            return bool(probabilities.argmax() == label), float(probabilities[label])

        found.append(worth(tuple(frames_of(subsets, int(row)))))
        best.append(max(worth(pair) for pair in itertools.combinations(range(6), 2)))
    right, confidence = np.array(found, float).T
    most, highest = np.array(best, float).T
    if tables:
        assert right.tolist() == most.tolist()
        assert confidence == pytest.approx(highest, abs=2e-3)
    else:  # greedy: never above the best, and mostly at it
        assert (right + confidence <= most + highest + 1e-6).all()
        assert np.mean(right + confidence) > 0.9 * np.mean(most + highest)


def test_costs_count_all_that_runs(cache: Cache) -> None:
    gflops, per_video = cache.gflops, {}
    for name in (*HEURISTICS, "oracle", "all-frames", "best-fixed-subset"):
        per_video[name] = evaluate(untrained(name, cache, "test", 2), cache, "test")["gflops"].unique()
    frame = gflops["embedding"] + gflops["hidden"]
    assert per_video["uniform"] == pytest.approx([2 * frame + gflops["output"]])
    assert per_video["oracle"] == pytest.approx(per_video["uniform"])
    assert per_video["all-frames"] == pytest.approx([6 * frame + gflops["output"]])
    # Every candidate alone, then two of them together: no frame is processed twice.
    assert per_video["single-frame-confidence"] == pytest.approx([6 * frame + 7 * gflops["output"]])


def test_methods_refuse_what_does_not_fit(cache: Cache) -> None:
    with pytest.raises(InputError, match="num_frames: found 7, expected 1 to 6"):
        untrained("uniform", cache, "test", 7)
    with pytest.raises(InputError, match="method 'best': expected .*oracle"):
        untrained("best", cache, "test", 2)


def test_adapter_is_the_environment(cache: Cache) -> None:
    def make() -> gym.vector.VectorEnv:
        return gym.make_vec(
            "FrameSelect-v0", num_envs=6, vectorization_mode="vector_entry_point", cache=cache, max_frames=4
        )

    ours, theirs = make(), StableBaselinesVecEnv(make())
    theirs.seed(5)
    observation, _ = ours.reset(seed=5)
    adapted = theirs.reset()
    returns, generator = np.zeros(6), np.random.default_rng(0)
    for _ in range(12):
        assert all(np.array_equal(observation[key], adapted[key]) for key in observation)
        actions = generator.integers(0, 7, 6)
        observation, rewards, terminated, _, info = ours.step(actions)
        adapted, adapted_rewards, dones, infos = theirs.step(actions)
        returns += rewards
        assert adapted_rewards == pytest.approx(rewards, abs=1e-6)
        assert np.array_equal(terminated, dones)
        for index, ended in enumerate(terminated):
            assert ("terminal_observation" in infos[index]) == ended
            if ended:
                final = info["final_obs"][index]
                assert np.array_equal(infos[index]["terminal_observation"]["selected"], final["selected"])
                assert infos[index]["episode"]["r"] == pytest.approx(returns[index])
                assert not infos[index]["TimeLimit.truncated"]
        returns[terminated] = 0
        assert np.array_equal(np.stack(theirs.env_method("action_masks")), info["action_mask"])


def single_cart_poles() -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("CartPole-v1", max_episode_steps=20)] * 5)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_adapter_steps_as_single_environments_do(mode: AutoresetMode) -> None:
    makers = [lambda: gym.make("CartPole-v1", max_episode_steps=20)] * 5
    ours, theirs = StableBaselinesVecEnv(SyncVectorEnv(makers, autoreset_mode=mode)), single_cart_poles()
    for env in (ours, theirs):
        env.seed(3)
    assert np.array_equal(ours.reset(), theirs.reset())
    generator, ended, truncated = np.random.default_rng(0), 0, 0
    for step in range(80):
        # Poles that are held up are cut off after 20 steps, the others fall.
        actions = np.where(np.arange(5) < 3, step % 2, generator.integers(2, size=5))
        observation, rewards, dones, infos = ours.step(actions)
        expected, expected_rewards, expected_dones, expected_infos = theirs.step(actions)
        assert np.array_equal(observation, expected)
        assert np.array_equal(rewards, expected_rewards)
        assert np.array_equal(dones, expected_dones)
        for info, other in zip(
            itertools.compress(infos, dones), itertools.compress(expected_infos, dones), strict=True
        ):
            assert np.array_equal(info["terminal_observation"], other["terminal_observation"])
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            ended, truncated = ended + 1, truncated + info["TimeLimit.truncated"]
    assert 0 < truncated < ended


def test_adapter_takes_native_cart_poles_that_can_be_reset_alone() -> None:
    native = NativeCartPoles(num_envs=5, max_episode_steps=20)
    ours, theirs = StableBaselinesVecEnv(native), single_cart_poles()
    theirs.reset()
    ours.seed(1)
    observation = ours.reset()
    state = native.state.copy()
    generator, ended = np.random.default_rng(0), 0
    for _ in range(60):
        for env, own in zip(theirs.envs, state.T, strict=True):
            env.unwrapped.state = own  # type: ignore[attr-defined]
        actions = generator.integers(2, size=5)
        observation, rewards, dones, infos = ours.step(actions)
        expected, expected_rewards, expected_dones, expected_infos = theirs.step(actions)
        assert np.array_equal(dones, expected_dones)
        assert np.array_equal(rewards, expected_rewards)
        assert observation[~dones] == pytest.approx(expected[~dones], abs=1e-6)
        assert (np.abs(observation[dones]) <= 0.05).all()
        for index in np.flatnonzero(dones):
            last = expected_infos[index]["terminal_observation"]
            assert infos[index]["terminal_observation"] == pytest.approx(last, abs=1e-6)
        ended += dones.sum()
        state = native.state.copy()
    assert ended > 5


def test_adapter_refuses_what_it_cannot_reset() -> None:
    native = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point")
    adapter = StableBaselinesVecEnv(native)
    adapter.seed(0)
    adapter.reset()
    # The first pole is pushed one way until it falls, the second held up.
    with pytest.raises(InputError, match="NEXT_STEP mode and does not know options"):
        deque((adapter.step(np.array([0, step % 2])) for step in range(50)), maxlen=0)
    native.unwrapped.metadata = {}
    with pytest.raises(InputError, match="found autoreset_mode None"):
        StableBaselinesVecEnv(native.unwrapped)
