"""AdaFocus: what it learns on a problem whose optimum is known, its stages, and what it says of bad input.

All of it in one file, though it is long: its tests share one training.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch

import video_env  # noqa: F401  (registers the environments)
from agents.adafocus.agent import AdaFocus
from agents.adafocus.methods import entry_of, train_to_folder
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus.settings import (
    PUBLISHED,
    AdaFocusSettings,
    ClassifierTraining,
    NetworkTraining,
    PolicyTraining,
    RandomPatchTraining,
)
from agents.common.returns import standardised_returns
from baselines.features import GlanceFeatures
from baselines.patches import greedy_oracle, most_moving_patches
from baselines.sb3 import SB3Settings
from baselines.sb3_files import train_to_file
from tests.conftest import write_cache, write_known_patch_cache, write_patch_cache
from tests.entries import saved, untrained
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import cache_from_arrays, derive
from video_env.cache.store import Cache, CacheError
from video_env.data.annotations import read_csv
from video_env.envs.patch_select import GridPatchSelect
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.models.classifiers import load_classifier
from video_env.models.stopping import Length
from video_env.models.train_backbone import BackboneTraining, SkimTraining
from video_env.models.train_small import SmallTraining, train_small_networks

TWO, ONCE = Length(updates=4, round=2), Length(epochs=1)
QUICK = AdaFocusSettings(
    patch_size=20,
    hidden=8,
    networks=NetworkTraining(length=TWO),
    random_patches=RandomPatchTraining(length=TWO),
    policy=PolicyTraining(length=TWO, inner_steps=1, hidden=16),
    fine_tuning=ClassifierTraining(length=TWO),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_known_patch_cache(tmp_path_factory.mktemp("known") / "cache")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, demo_videos: Path) -> Cache:
    """Six frames of 48x48 of 60 videos, with the small networks that the built-in data has."""
    annotations = read_csv(demo_videos / "annotations.csv", demo_videos / "videos")
    out = tmp_path_factory.mktemp("frames") / "cache"
    cache = build_cache(annotations, out, BuildSettings(num_candidates=6, frame_size=48))
    training = SmallTraining(
        backbone=BackboneTraining(epochs=1, least_steps=1, batch_size=8),
        skim=SkimTraining(epochs=1, least_steps=1),
    )
    return train_small_networks(cache, training, "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, frames: Cache) -> AdaFocus:
    return AdaFocus(frames, QUICK, folder=tmp_path_factory.mktemp("agent"), device="cpu").learn()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ppo_finds_the_best_position_in_every_frame(known: Cache, precision: Any) -> None:
    policy = PolicyTraining(Length(epochs=100), hidden=32, batch_size=30, precision=precision)
    agent = AdaFocus(known, AdaFocusSettings(policy=policy), device="cpu")
    agent.train_policy()
    best = np.stack(known.index["best"].to_list())[known.rows("test")]
    env = gym.make_vec(
        "PatchSelect-v0",
        num_envs=len(best),
        vectorization_mode="vector_entry_point",
        cache=known,
        split="test",
    )
    videos = known.index["video"].to_numpy(object)[known.rows("test")]
    observation, _ = env.reset(options={"video": list(videos)})
    state, start = None, np.ones(len(best), bool)
    for frame in range(3):
        chosen, state = agent.predict(observation, state, start)
        assert chosen.tolist() == best[:, frame].tolist()
        observation, _, start, _, _ = env.step(chosen)
    oracle = greedy_oracle(known, "test").positions[known.rows("test")]
    assert oracle.tolist() == best.tolist()


def test_returns_are_discounted_and_standardised() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, -1.0]])
    plain = np.array([[1 + 0.49 * 4, 0.7 * 2 - 0.49], [0.7 * 4, 2 - 0.7], [4, -1]])
    expected = (plain - plain.mean()) / (plain.std(ddof=1) + 1e-5)
    assert standardised_returns(rewards, 0.7).numpy() == pytest.approx(expected, abs=1e-6)


def test_caching_counts_as_far_as_training_needs_it(
    tmp_path: Path, frames: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a minute of caching the training videos' share: stages 2 and 3 look at no others."""
    from agents.common import work_clock

    agent = AdaFocus(frames, QUICK, folder=tmp_path, device="cpu")
    agent.fine_tune_networks()
    clock = iter((0.0, 60.0))
    monkeypatch.setattr(work_clock, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    agent.train_on_random_patches()
    own = agent.stage_history[1][-1]["seconds"]
    assert agent.stage_seconds[1] - own == pytest.approx(60 * len(frames.rows("train")) / len(frames))


def test_time_before_an_interruption_counts(
    tmp_path: Path, frames: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after every epoch of every stage, after every shard of the caching, and between that and
    the note of how long it took: at least as much time is stated as was worked."""
    from agents.adafocus.network_training import NetworkStages
    from video_env.cache.jobs import Job
    from video_env.models.encoders import CacheEncoder
    from video_env.models.training_loop import TrainingLoop

    share = len(frames.rows("train")) / len(frames)
    worked = dict.fromkeys(range(4), 0.0)
    calls: dict[Any, int] = {}

    def slow(function: Callable[..., Any], stage: int, counts: float) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            time.sleep(0.05)
            worked[stage] += 0.05 * counts
            return function(*arguments)

        return wrapped

    def interrupted(function: Callable[..., Any], times: int) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            calls[function] = calls.get(function, 0) + 1
            if calls[function] <= times:
                raise KeyboardInterrupt
            return result

        return wrapped

    run = TrainingLoop.run

    def slow_run(loop: TrainingLoop, *arguments: Any) -> float:
        stage = int(loop.name.removeprefix("AdaFocus, stage ")[0])
        loop.do_round = slow(loop.do_round, stage, 1)
        return run(loop, *arguments)

    monkeypatch.setattr(TrainingLoop, "run", slow_run)
    monkeypatch.setattr(CacheEncoder, "__call__", slow(CacheEncoder.__call__, 1, share))
    for owner, name, times in (
        (TrainingLoop, "_save", 99),
        (Job, "commit", 99),
        (NetworkStages, "cache_patches", 1),
    ):
        monkeypatch.setattr(owner, name, interrupted(getattr(owner, name), times))
    for _ in range(60):
        try:
            agent = AdaFocus(frames, QUICK, folder=tmp_path, device="cpu").learn()
            break
        except KeyboardInterrupt:
            continue
    rounds, shards, ends = calls.values()
    assert (rounds, shards) == (8, 2 * len(frames.meta["shard_rows"]))
    assert ends >= 2
    for stage, seconds in worked.items():
        assert agent.stage_seconds[stage] >= seconds > 0, stage
    assert not (tmp_path / "caching-began.json").exists()


def test_stages_leave_a_cache_an_agent_and_their_order(trained: AdaFocus, frames: Cache) -> None:
    cache = trained.patch_cache
    assert cache is not None
    assert cache["glance"].row_shape == (6, 32, 8, 8)
    assert cache["patches"].row_shape == (6, 49, 64)
    assert sum(1 for _ in cache.verify()) > 5
    assert set(trained.stage_seconds) == {0, 1, 2, 3}
    # The derived cache has all that the first one has, so that every method can be compared on it.
    assert set(frames.arrays) < set(cache.arrays)
    assert "glance" not in frames
    before = Cache(cache.path).meta["networks"]["classifier.safetensors"]
    own = trained.classifier.state_dict()
    stored = load_classifier(cache).state_dict()
    assert any(not torch.equal(own[name], stored[name]) for name in own)  # stage 3 leaves the cache's alone
    assert Cache(cache.path).meta["networks"]["classifier.safetensors"] == before


def test_interrupted_stages_go_on_to_the_same_result(
    tmp_path: Path, frames: Cache, trained: AdaFocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once in the middle of every stage and of the caching of patches."""
    from agents.adafocus import network_training as adafocus_networks
    from agents.adafocus import policy_training as adafocus_policy
    from agents.adafocus.network_training import NetworkStages

    def interrupted_once(function: Callable[..., Any], at: int) -> Callable[..., Any]:
        calls = []

        def wrapped(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return wrapped

    for module, name, at in (
        (NetworkStages, "_distilling", 2), (NetworkStages, "_random_patch_losses", 2),
        (adafocus_networks, "add_patches", 1), (adafocus_policy, "roll_out", 4),
        (adafocus_policy, "loss_at_every_step", 2),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted_once(getattr(module, name), at))
            with pytest.raises(KeyboardInterrupt):
                AdaFocus(frames, QUICK, folder=tmp_path, device="cpu").learn()
    resumed = AdaFocus(frames, QUICK, folder=tmp_path, device="cpu").learn()
    assert resumed.policy is not None
    assert trained.policy is not None
    for one, other in ((resumed.policy, trained.policy), (resumed.classifier, trained.classifier)):
        for (name, value), expected in zip(
            one.state_dict().items(), other.state_dict().values(), strict=True
        ):
            assert torch.equal(value, expected), name
    assert resumed.patch_cache is not None
    assert trained.patch_cache is not None
    for name in ("glance", "patches"):
        sums = [agent.patch_cache.meta["arrays"][name]["sha256"] for agent in (resumed, trained)]
        assert sums[0] == sums[1]


def test_saved_agents_act_alike_on_both_observations(tmp_path: Path, trained: AdaFocus) -> None:
    trained.save(tmp_path / "agent.pt")
    cache = trained.patch_cache
    assert cache is not None
    again = AdaFocus.load(tmp_path / "agent.pt", cache=cache, device="cpu")
    assert again.settings == trained.settings
    assert again.stage_seconds == trained.stage_seconds
    assert again.stage_history == trained.stage_history
    assert [len(again.stage_history[stage]) for stage in range(4)] == [2] * 4
    assert again.gflops == trained.gflops
    tables = [evaluate(entry_of(agent), cache, "test") for agent in (trained, again)]
    for name in ("prediction", "gflops", "frames", "exit_after"):
        assert tables[0][name].tolist() == tables[1][name].tolist()
    env = gym.make("PatchSelect-v0", cache=cache, split="test").unwrapped
    index = gym.make("PatchSelect-v0", cache=cache, split="test", observation="index").unwrapped
    shown, _ = env.reset(seed=0)
    named, info = index.reset(options={"video": env.task._names[env.state.video[0]]})
    states, chosen = [None, None], []
    for _ in range(6):
        first, states[0] = again.predict(shown, states[0])
        second, states[1] = again.predict(named, states[1])
        assert first == second
        chosen.append(int(first))
        shown, named = env.step(first)[0], index.step(second)[0]
    points = np.reshape(tables[0].set_index("video").loc[info["video"], "patches"], (6, 2))
    assert (np.rint(points * 6) @ [7, 1]).tolist() == chosen
    # Where no frame is left both observations still have an answer, and the same one.
    assert int(again.predict(shown)[0]) == int(again.predict(named)[0])
    drawn = {int(again.predict(env.reset(seed=0)[0], deterministic=False)[0]) for _ in range(20)}
    assert len(drawn) > 1


def test_evaluation_counts_patches(trained: AdaFocus) -> None:
    cache = trained.patch_cache
    assert cache is not None
    table = evaluate(entry_of(trained, fine_tuned=False), cache, "test")
    costs = cache.gflops
    per_frame = costs["glance"] + costs["patches"] + costs["classifier"] + trained.gflops
    assert table["gflops"].to_numpy() == pytest.approx(6 * per_frame)
    assert table["frames"].eq(6).all()
    assert table["exit_after"].eq(6).all()
    assert table["patches"].map(len).eq(12).all()
    assert np.stack(table["scores"].to_list()).sum(axis=1) == pytest.approx(1, abs=1e-5)
    heuristic = evaluate(untrained("centre-patch", cache), cache, "test")
    assert heuristic["gflops"].to_numpy() == pytest.approx(6 * (per_frame - trained.gflops))
    assert {tuple(of_video) for of_video in heuristic["patches"]} == {(0.5,) * 12}


def test_most_moving_patch_by_brute_force(trained: AdaFocus) -> None:
    cache = trained.patch_cache
    assert cache is not None
    row = int(cache.rows("test")[0])
    video = cache["frames"][row].astype(int)
    chosen = most_moving_patches(cache, "test").positions[row]
    for frame in range(6):
        before = video[frame - 1] if frame else video[1]
        moved = np.abs(video[frame] - before)
        sums = [
            moved[i * 28 // 6 : i * 28 // 6 + 20, j * 28 // 6 : j * 28 // 6 + 20].sum()
            for i in range(7)
            for j in range(7)
        ]
        assert chosen[frame] == np.argmax(sums)


def test_greedy_oracle_by_brute_force(tmp_path: Path) -> None:
    cache = write_patch_cache(tmp_path / "cache")
    chosen = greedy_oracle(cache, "test").positions
    env = gym.make("PatchSelect-v0", cache=cache, split="test", reward="confidence").unwrapped
    video = str(cache.index["video"][cache.rows("test")[2]])
    taken: list[int] = []
    for frame in range(4):
        rewards = []
        for position in range(9):
            env.reset(options={"video": video})
            for action in [*taken, position]:
                _, reward, *_ = env.step(action)
            rewards.append(reward)
        assert rewards[chosen[cache.row(video), frame]] == pytest.approx(max(rewards), abs=1e-5)
        taken.append(int(chosen[cache.row(video), frame]))


def test_glance_features_are_the_same_by_index(patch_cache: Cache) -> None:
    shown, named = (
        gym.make_vec(
            "PatchSelect-v0", num_envs=3, vectorization_mode="vector_entry_point", cache=patch_cache,
            observation=observation, allow_exit=True, reward="increment",
        )
        for observation in ("features", "index")
    )  # fmt: skip
    one = GlanceFeatures(shown.single_observation_space, hidden=8)
    other = GlanceFeatures(named.single_observation_space, cache=str(patch_cache.path), hidden=8)
    other.load_state_dict(one.state_dict())
    observations = [env.reset(seed=0)[0] for env in (shown, named)]
    for _ in range(4):
        features = [
            extractor({key: torch.from_numpy(value) for key, value in observation.items()})
            for extractor, observation in zip((one, other), observations, strict=True)
        ]
        assert torch.allclose(*features, atol=1e-6)
        last = [env.step(np.array([1, 2, 9]))[4]["final_obs"][2] for env in (shown, named)]
        final = [
            extractor({key: torch.from_numpy(value)[None] for key, value in observation.items()})
            for extractor, observation in zip((one, other), last, strict=True)
        ]
        assert torch.allclose(*final, atol=1e-6)
        observations = [env.reset(seed=1)[0] for env in (shown, named)]


def test_published_settings() -> None:
    """The released settings as the released code has them."""
    assert (PUBLISHED.glance, PUBLISHED.focus, PUBLISHED.classifier, PUBLISHED.hidden) == (
        "mobilenet_v2", "resnet50", "gru", 1024,
    )  # fmt: skip
    zero, one, two, three = (
        PUBLISHED.networks,
        PUBLISHED.random_patches,
        PUBLISHED.policy,
        PUBLISHED.fine_tuning,
    )
    assert (zero.method, zero.length.epochs, zero.learning_rate, zero.optimiser) == (
        "classify",
        15,
        0.01,
        "sgd",
    )
    assert (one.length.epochs, one.focus_learning_rate, one.learning_rate) == (50, 5e-4, 0.05)
    assert (two.length.epochs, two.learning_rate, two.reward, two.hidden, two.inner_steps) == (
        50,
        3e-4,
        "contrast",
        1024,
        1,
    )
    assert (two.coefficients.gamma, two.coefficients.clip) == (0.7, 0.2)
    assert (two.coefficients.value, two.coefficients.entropy) == (0.5, 0.01)
    assert (three.length.epochs, three.learning_rate) == (10, 0.005)
    assert {zero.batch_size, one.batch_size, two.batch_size, three.batch_size} == {64}
    assert {zero.weight_decay, one.weight_decay, three.weight_decay} == {1e-4}


def test_networks_of_the_published_size_fit_together(tmp_path: Path) -> None:
    """Stage 0 classifies with both networks, stage 1 learns, and the policy reads MobileNetV2's maps."""
    generator = np.random.default_rng(0)
    index = pd.DataFrame({"video": list("abcd"), "label": [0, 1, 0, 1], "split": "train"})
    pixels = generator.integers(0, 256, (4, 2, 64, 64, 3), dtype=np.uint8)
    cache = cache_from_arrays(tmp_path / "cache", index, {"frames": pixels}, ["x", "y"], {})
    settings = replace(
        PUBLISHED, patch_size=32, glance_size=64, glance_weights="random", focus_weights="random", hidden=16,
        networks=replace(PUBLISHED.networks, length=Length(epochs=1), frames_per_video=2),
        random_patches=replace(PUBLISHED.random_patches, length=Length(epochs=1)),
        policy=replace(PUBLISHED.policy, length=Length(epochs=1), batch_size=4),
        fine_tuning=replace(PUBLISHED.fine_tuning, length=Length(epochs=1)),
    )  # fmt: skip
    agent = AdaFocus(cache, settings, folder=tmp_path / "agent", device="cpu").learn()
    assert agent.patch_cache is not None
    assert agent.patch_cache["glance"].row_shape == (2, 1280, 2, 2)
    assert agent.patch_cache["patches"].row_shape == (2, 49, 2048)
    assert len(agent.stage_seconds) == 4


def test_stages_in_the_wrong_order(tmp_path: Path, frames: Cache, known: Cache) -> None:
    agent = AdaFocus(frames, QUICK, folder=tmp_path, device="cpu")
    for stage, method in (
        (1, agent.train_on_random_patches),
        (2, agent.train_policy),
        (3, agent.fine_tune_classifier),
    ):
        with pytest.raises(
            InputError, match=rf"stage {stage} \(.*\): stage {stage - 1} \(.*\) has not been finished"
        ):
            method()
    with pytest.raises(InputError, match="no policy yet"):
        agent.predict({})
    with pytest.raises(InputError, match="no policy yet"):
        agent.save(tmp_path / "agent.pt")
    ready = AdaFocus(known, QUICK, device="cpu")
    with pytest.raises(InputError, match=r"stage 0 .*has patches already.*begin with stage 2"):
        ready.fine_tune_networks()
    with pytest.raises(
        InputError, match=r"stage 3 \(fine_tune_classifier\): stage 2 \(train_policy\) has not been"
    ):
        ready.fine_tune_classifier()


def test_what_does_not_fit(tmp_path: Path, frames: Cache, trained: AdaFocus, known: Cache) -> None:
    cache = trained.patch_cache
    assert cache is not None
    with pytest.raises(InputError, match="patch_size: found 49, expected 1 to 48"):
        AdaFocus(frames, replace(QUICK, patch_size=49), folder=tmp_path, device="cpu")
    with pytest.raises(InputError, match="folder: cache .* has no patches yet"):
        AdaFocus(frames, QUICK, device="cpu")
    with pytest.raises(CacheError, match="has no array 'frames'"):
        AdaFocus(derive(frames, tmp_path / "bare", ["skim"]), QUICK, folder=tmp_path, device="cpu")
    with pytest.raises(
        InputError, match="focus_weights cache: cache .* does not hold the weights of a resnet50"
    ):
        AdaFocus(frames, replace(QUICK, focus="resnet50"), folder=tmp_path, device="cpu")
    with pytest.raises(
        InputError, match="focus_weights cache: cache .* does not hold the weights of a small"
    ):
        AdaFocus(
            write_cache(tmp_path / "elsewhere"), replace(QUICK, patch_size=8), folder=tmp_path, device="cpu"
        )
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "wrong.pth")
    with pytest.raises(InputError, match=r"wrong\.pth for small_glance: .* entries do not fit"):
        AdaFocus(
            frames, replace(QUICK, glance_weights=str(tmp_path / "wrong.pth")), folder=tmp_path, device="cpu"
        )
    other = AdaFocus(frames, replace(QUICK, seed=3), folder=trained._folder, device="cpu")
    with pytest.raises(InputError, match=r"stage-0\.pt: made with other settings: seed 0 there, 3 asked for"):
        other.learn()
    trained.save(tmp_path / "agent.pt")
    with pytest.raises(
        InputError,
        match="cache .* has glance made otherwise than what it was trained on: .*network elsewhere there, small",
    ):
        AdaFocus.load(tmp_path / "agent.pt", cache=known)
    with pytest.raises(CacheError, match="no array 'glance'; it has"):
        AdaFocus.load(tmp_path / "agent.pt", cache=frames)
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"half\.pt: not a readable agent"):
        AdaFocus.load(tmp_path / "half.pt", cache=cache)
    with pytest.raises(InputError, match="glance: found shape"):
        trained.predict({"glance": np.zeros((3, 8, 8), np.float32)})
    with pytest.raises(InputError, match="expected glance, or video and frame"):
        trained.predict({"state": np.zeros(8, np.float32)})
    task = GridPatchSelect(cache, "test")
    begun = task.begin(np.zeros(1, int), np.random.default_rng(0))
    with pytest.raises(InputError, match="expected integers from 0 to 48"):
        task.step(begun, np.array([49]))


def test_what_is_done_stays_done(tmp_path: Path, known: Cache, frames: Cache, trained: AdaFocus) -> None:
    settings = AdaFocusSettings(policy=PolicyTraining(ONCE, hidden=8), fine_tuning=ClassifierTraining(ONCE))
    agent = AdaFocus(known, settings, device="cpu").learn()
    assert agent.policy is not None
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    agent.train_policy()
    assert all(map(torch.equal, before, agent.policy.parameters()))
    # Another cache in the same folder, or with the same file, is not taken for the first one.
    other = write_known_patch_cache(tmp_path / "other", videos=60)
    folder = tmp_path / "agent"
    train_to_folder(known, settings, folder, device="cpu")
    with pytest.raises(InputError, match=r"stage-2\.pt: made with other settings: cache "):
        train_to_folder(other, settings, folder, device="cpu")
    ppo = SB3Settings(
        environment="PatchSelect-v0", steps=24, num_envs=4, hyperparameters={"n_steps": 3, "batch_size": 12}
    )
    train_to_file(known, ppo, tmp_path / "ppo.zip", device="cpu")
    with pytest.raises(InputError, match="holds an agent that was trained otherwise"):
        train_to_file(other, ppo, tmp_path / "ppo.zip", device="cpu")
    nine, four = (write_patch_cache(tmp_path / f"{count}", num_positions=count) for count in (9, 4))
    train_to_file(nine, ppo, tmp_path / "nine.zip", device="cpu")
    with pytest.raises(InputError, match="does not fit cache .*actions 4 there, 9 asked for"):
        saved(tmp_path / "nine.zip", four, device="cpu")
    # Without the file of stage 1, its patches would be those of another one.
    derive(trained.patch_cache, tmp_path / "gone" / "cache", ["frames"], networks=True)  # type: ignore[arg-type]
    lost = AdaFocus(frames, QUICK, folder=tmp_path / "gone", device="cpu")
    lost.fine_tune_networks()
    with pytest.raises(InputError, match="holds the patches of another stage 1"):
        lost.train_on_random_patches()


def test_a_saved_agent_goes_on_with_the_next_stage(tmp_path: Path, known: Cache) -> None:
    settings = AdaFocusSettings(policy=PolicyTraining(ONCE, hidden=8), fine_tuning=ClassifierTraining(ONCE))
    agent = AdaFocus(known, settings, device="cpu")
    agent.train_policy()
    agent.save(tmp_path / "agent.pt")
    loaded = AdaFocus.load(tmp_path / "agent.pt", cache=known, device="cpu")
    for one in (agent, loaded):
        one.fine_tune_classifier()
    assert agent.classifier.state_dict().keys() == loaded.classifier.state_dict().keys()
    assert all(map(torch.equal, agent.classifier.parameters(), loaded.classifier.parameters()))


def test_patches_of_another_size_than_released(trained: AdaFocus) -> None:
    assert trained.patch_cache is not None
    with pytest.raises(InputError, match="patch_size: found 96; cache .* has patches of 20 pixels"):
        AdaFocus.from_released(ReleasedAdaFocus(10, patch_size=96), trained.patch_cache, device="cpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkTraining(method="guess"), "method 'guess': expected one of classify, distil"),  # type: ignore[arg-type]
        (lambda: RandomPatchTraining(length=Length(updates=0)), "updates: found 0"),
        (lambda: PolicyTraining(inner_steps=3), "inner_steps: found 3, expected a divisor of .* 2000 .* 40"),
        (lambda: PolicyTraining(reward="luck"), "reward 'luck': expected one of contrast"),
        (lambda: ClassifierTraining(optimiser="lbfgs"), "optimiser 'lbfgs'"),  # type: ignore[arg-type]
        (lambda: AdaFocusSettings(patch_size=0), "patch_size: found 0"),
        (lambda: AdaFocusSettings(classifier="lstm"), "classifier 'lstm': expected one of gru, running_max"),  # type: ignore[arg-type]
        (lambda: AdaFocusSettings(seed=-1), "seed: found -1"),
    ],
)
def test_bad_settings_explain_themselves(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
