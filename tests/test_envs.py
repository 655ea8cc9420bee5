"""Every registered environment: the libraries' own checkers, and brute force for what they return."""

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import video_env  # noqa: F401  (registers the environments)
from tests.conftest import write_cache
from video_env.cache.store import Cache, CacheError
from video_env.envs.rewards import QUALITIES
from video_env.errors import InputError
from video_env.models.recognizers import load_recognizer

IDS = [spec.id for spec in gym.registry.values() if str(spec.entry_point).startswith("video_env.")]
VARIANTS = [
    ("FrameSelect-v0", {}),
    ("FrameSelect-v0", {"observation": "index", "max_frames": 3}),
    ("FrameSelectOneStep-v0", {}),
    ("FrameSelectOneStep-v0", {"num_frames": 2, "observation": "index"}),
    # The references of the default reward are drawn at random, so they differ between the views.
    ("PatchSelect-v0", {"reward": "increment"}),
    ("PatchSelect-v0", {"reward": "margin", "observation": "index", "allow_exit": True}),
    ("PatchSelectContinuous-v0", {"reward": "confidence"}),
    ("PatchSelectContinuous-v0", {"reward": "increment", "observation": "index", "allow_exit": True}),
]
VARIANTS += [(environment, {}) for environment in IDS if environment not in dict(VARIANTS)]  # a new one


@pytest.fixture
def fitting_cache(environment: str, cache: Cache, patch_cache: Cache) -> Cache:
    """A small cache with what the environment needs."""
    return patch_cache if environment.startswith("Patch") else cache


@pytest.mark.parametrize(("environment", "options"), VARIANTS)
def test_library_checkers_find_nothing(environment: str, options: dict, fitting_cache: Cache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(environment, render_mode="rgb_array", cache=fitting_cache, **options)
        check_env(env.unwrapped)
        # SB3 advises to flatten observations that are neither vectors nor images, and takes maps for images.
        warnings.filterwarnings(
            "ignore", message=".*(unconventional shape|is an image|image space|minimal resolution).*"
        )
        check_env_sb3(env.unwrapped)


@pytest.mark.parametrize("environment", IDS)
def test_made_with_no_argument(environment: str) -> None:
    observation, info = gym.make(environment).reset(seed=0)
    of_patches = environment.startswith("Patch")
    shapes = {"glance": (32, 8, 8), "state": (64,)} if of_patches else {"features": (12, 32)}
    assert all(observation[key].shape == shape for key, shape in shapes.items())
    assert set(info) >= {"video", "label", "gflops", "confidence", "prediction", "correct"}
    assert ("patches" if of_patches else "selected") in info
    envs = gym.make_vec(environment, num_envs=3)
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space


def test_importing_is_cheap_and_the_module_prefix_works() -> None:
    code = (
        "import sys, gymnasium; env = gymnasium.make('video_env:FrameSelect-v0'); env.reset(seed=0); "
        "env.step(0); print('torch' in sys.modules or 'decord' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(("environment", "options"), VARIANTS)
def test_single_and_vector_agree(environment: str, options: dict, fitting_cache: Cache) -> None:
    """To the last bit, but for the classifier over time, whose matrix products depend on the batch."""
    cache = fitting_cache
    options = {"cache": cache, "cost_per_gflop": 0.3, "selector_gflops": 0.01, **options}

    def agree(own: object, other: object) -> bool:
        if not environment.startswith("Patch") or isinstance(own, str):
            return np.array_equal(own, other)
        return np.allclose(np.asarray(own, float), np.asarray(other, float), atol=1e-5)

    names = cache.index["video"][cache.rows("train")].to_list()[:5]
    vector = gym.make_vec(environment, num_envs=5, vectorization_mode="vector_entry_point", **options)
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    singles = [gym.make(environment, **options).unwrapped for _ in names]
    vector.action_space.seed(0)
    observation, info = vector.reset(seed=0, options={"video": names})
    for number, (env, name) in enumerate(zip(singles, names, strict=True)):
        own, own_info = env.reset(options={"video": name})
        assert all(agree(own[key], observation[key][number]) for key in own)
        assert own_info["video"] == info["video"][number] == name
    for _ in range(20):
        actions = vector.action_space.sample()
        observation, rewards, terminated, truncated, info = vector.step(actions)
        assert not truncated.any()
        for number, env in enumerate(singles):
            own, reward, ended, _, own_info = env.step(actions[number])
            assert reward == pytest.approx(rewards[number], abs=1e-5 if "Patch" in environment else 1e-12)
            assert ended == terminated[number]
            last = info["final_info"] if ended else info
            for key, value in own_info.items():
                assert agree(value, last[key][number]), key
            if ended:
                final = info["final_obs"][number]
                assert all(agree(own[key], final[key]) for key in own)
                own, _ = env.reset(options={"video": info["video"][number]})
            assert all(agree(own[key], observation[key][number]) for key in own)


def test_same_seed_same_episodes(cache: Cache) -> None:
    def rollout(seed: int) -> list[object]:
        env = gym.make_vec(
            "FrameSelect-v0",
            num_envs=4,
            vectorization_mode="vector_entry_point",
            cache=cache,
            observation="index",
        )
        env.action_space.seed(7)
        seen: list[object] = [env.reset(seed=seed)[0]["video"].tolist()]
        for _ in range(15):
            observation, rewards, *_ = env.step(env.action_space.sample())
            seen += [observation["video"].tolist(), rewards.tolist()]
        return seen

    assert rollout(1) == rollout(1) != rollout(2)


def direct_qualities(cache: Cache, row: int, chosen: list[int]) -> dict[str, float]:
    """Every named quality, from the recognizer itself and the definitions, frame by frame."""
    recognizer = load_recognizer(cache)
    embedding = torch.from_numpy(cache["embedding"][row]).double()
    recognizer.double()
    label, count = int(cache.labels[row]), cache.num_candidates

    def probabilities(frames: list[int]) -> np.ndarray:
        if not frames:
            return np.full(4, 0.25)
        with torch.no_grad():
            hidden = recognizer.per_frame(embedding[None])[0, frames].amax(dim=0)
            return recognizer.output(hidden).softmax(0).numpy()

    together, alone = probabilities(chosen), [probabilities([frame]) for frame in chosen]
    uniform = [int((i + 0.5) * count / len(chosen) - 0.5) for i in range(len(chosen))] if chosen else []
    others = np.delete(together, label)
    return {
        "confidence": together[label],
        "correct": float(bool(chosen) and together.argmax() == label),
        "log_confidence": np.log(together[label]),
        "margin": together[label] - others.max(),
        "contrast": together[label] - probabilities(uniform)[label],
        "largest_probability": together.max(),
        "frame_margin": np.mean([p[label] - (p.argmax() != label) * p.max() for p in alone])
        if chosen
        else 0.0,
        "frame_confidence": max((p[label] for p in alone), default=0.0),
    }


@pytest.mark.parametrize("reward", QUALITIES)
@pytest.mark.parametrize("tables", [True, False])
def test_returns_telescope_to_the_qualities(tmp_path: Path, reward: str, tables: bool) -> None:
    """A return is quality(end) − quality(nothing) − λ·(GFLOPs that the actions spent)."""
    cost = 0.2
    cache = write_cache(tmp_path / "cache", tables=tables)
    env = gym.make("FrameSelect-v0", cache=cache, reward=reward, cost_per_gflop=cost).unwrapped
    per_frame = cache.gflops["embedding"] + cache.gflops["hidden"]
    for video, actions in (("video-03", [4, 0, 6]), ("video-07", [1, 1, 5, 2, 6]), ("video-02", [6])):
        _, first = env.reset(options={"video": video})
        fixed = 6 * cache.gflops["skim"] + cache.gflops["output"]
        assert first["gflops"] == pytest.approx(fixed)
        total, processed = 0.0, [action for action in actions if action < 6]
        for action in actions:
            _, step_reward, terminated, _, info = env.step(action)
            total += step_reward
            assert terminated == (action == 6)
        chosen = sorted(set(processed))
        direct = direct_qualities(cache, cache.row(video), chosen)
        nothing = direct_qualities(cache, cache.row(video), [])
        expected = direct[reward] - nothing[reward] - cost * per_frame * len(processed)
        assert total == pytest.approx(expected, abs=2e-3)
        assert info["confidence"] == pytest.approx(direct["confidence"], abs=1e-3)
        assert info["correct"] == bool(direct["correct"])
        assert info["gflops"] == pytest.approx(fixed + per_frame * len(processed))
        assert np.flatnonzero(info["selected"]).tolist() == chosen


def test_action_masks_and_episode_end(cache: Cache) -> None:
    env = gym.make("FrameSelect-v0", cache=cache, max_frames=3).unwrapped
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [True] * 7
    assert info["prediction"] == -1
    assert info["confidence"] == 0.25
    _, _, ended, _, info = env.step(2)
    assert env.action_masks().tolist() == info["action_mask"].tolist() == [True] * 2 + [False] + [True] * 4
    assert [env.step(frame)[2] for frame in (2, 5)] == [False, True]
    assert not ended


def test_scores_take_the_highest_and_of_equal_ones_the_earlier(cache: Cache) -> None:
    env = gym.make("FrameSelectOneStep-v0", cache=cache, num_frames=3).unwrapped
    for scores, chosen in (([0, 0.5, 0, 0.5, 0, 0], [0, 1, 3]), ([-1, -1, -1, -1, -1, 1], [0, 1, 5])):
        env.reset(seed=0)
        *_, info = env.step(np.array(scores, np.float32))
        assert np.flatnonzero(info["selected"]).tolist() == chosen


def test_vector_infos_are_gymnasiums(cache: Cache) -> None:
    env = gym.make_vec("FrameSelect-v0", num_envs=3, vectorization_mode="vector_entry_point", cache=cache)
    wrapped = DictInfoToList(RecordEpisodeStatistics(env))
    wrapped.reset(seed=0)
    *_, infos = wrapped.step(np.array([0, 6, 1]))
    assert [info["prediction"] == -1 for info in infos] == [False, True, False]
    assert "final_info" in infos[1]
    assert infos[1]["final_info"]["gflops"] == pytest.approx(6 * 0.01 + cache.gflops["output"])
    assert infos[1]["episode"]["l"] == 1
    assert "final_info" not in infos[0]


def test_infos_and_observations_are_the_callers_own(cache: Cache) -> None:
    """Writing to what was returned changes nothing in the environment, nor in what was returned before."""

    def snapshot(values: object) -> object:
        return {k: snapshot(v) for k, v in values.items()} if isinstance(values, dict) else np.array(values)

    def scribble(values: object) -> None:
        if isinstance(values, dict):
            for value in values.values():
                scribble(value)
        elif isinstance(values, np.ndarray) and values.dtype != object and values.flags.writeable:
            values[...] = 0 if values.dtype == bool else 77

    def equal(one: object, other: object) -> bool:
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
        return str(one) == str(other)

    touched, clean = (
        gym.make_vec("FrameSelect-v0", num_envs=2, vectorization_mode="vector_entry_point", cache=cache)
        for _ in range(2)
    )
    for step in range(12):
        actions = np.array([step % 7, (step * 2 + 1) % 7])
        results = [env.step(actions) if step else env.reset(seed=3) for env in (touched, clean)]
        kept = [[snapshot(part) for part in result] for result in results]
        assert all(equal(one, other) for one, other in zip(*kept, strict=True)), step
        for part in results[0]:
            scribble(part)
    _, _, terminated, _, info = clean.step(np.array([6, 6]))
    terminated[:] = False
    assert info["_final_info"].all()


def test_filmstrip_marks_what_was_chosen(cache: Cache) -> None:
    env = gym.make("FrameSelect-v0", cache=cache, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    before = env.render()
    env.step(1)
    after = env.render()
    assert before.dtype == np.uint8
    assert before.shape == after.shape
    green = (after == (38, 166, 91)).all(axis=-1)
    assert green.any()
    columns = np.flatnonzero(green.any(axis=0))
    assert columns.min() >= 102
    assert columns.max() <= 210  # the second of tiles 102 pixels apart


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ("FrameSelect-v0", {"reward": "accuracy"}, "reward 'accuracy': expected one of confidence, correct"),
        ("FrameSelect-v0", {"cost_per_gflop": -1}, "cost_per_gflop: found -1"),
        ("FrameSelect-v0", {"cost_per_gflop": float("inf")}, "cost_per_gflop: found inf"),
        ("FrameSelect-v0", {"max_frames": 0}, "max_frames: found 0"),
        ("FrameSelect-v0", {"observation": "pixels"}, "observation 'pixels': expected features or index"),
        (
            "FrameSelect-v0",
            {"split": "holdout"},
            "no video of split 'holdout'; it has test, train, validation",
        ),
        ("FrameSelect-v0", {"render_mode": "ansi"}, "render_mode 'ansi'"),
        ("FrameSelect-v0", {"cache": "/nowhere"}, "cache /nowhere: no such folder"),
        ("FrameSelectOneStep-v0", {"num_frames": 13}, "num_frames: found 13, expected 1 to 12"),
        ("FrameSelectOneStep-v0", {"num_frames": 0}, "num_frames: found 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode.*")
def test_bad_arguments_explain_themselves(environment: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gym.make(environment, **options)


def test_unknown_options_of_reset_are_refused(cache: Cache) -> None:
    with pytest.raises(InputError, match="options: found 'vid', expected 'video'"):
        gym.make("FrameSelect-v0", cache=cache).reset(options={"vid": "video-00"})


def test_an_episode_that_ended_does_not_go_on(cache: Cache) -> None:
    env = gym.make("FrameSelect-v0", cache=cache).unwrapped
    env.reset(seed=0)
    assert env.step(cache.num_candidates)[2]
    with pytest.raises(gym.error.ResetNeeded, match="has ended"):
        env.step(0)
    env.reset(seed=1)
    assert not env.step(0)[2]


def test_bad_actions_explain_themselves(cache: Cache) -> None:
    env = gym.make("FrameSelect-v0", cache=cache).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    for action in (7, -1, 0.5):
        with pytest.raises(InputError, match=r"expected a member of Discrete\(7\)"):
            env.step(action)
    vector = gym.make_vec("FrameSelect-v0", num_envs=2, vectorization_mode="vector_entry_point", cache=cache)
    vector.reset(seed=0)
    for actions in ([0, 7], [-1, 0], [0.5, 0.5]):
        with pytest.raises(InputError, match="expected an integer from 0 to 6"):
            vector.step(np.array(actions))
    for actions in ([0, 1, 2], [[0], [1]], 0):
        with pytest.raises(InputError, match=r"actions: found shape .*, expected \(2,\)"):
            vector.step(np.array(actions))
    with pytest.raises(InputError, match="expected a video's id"):
        env.reset(options={"video": 3})
    scores = gym.make("FrameSelectOneStep-v0", cache=cache, num_frames=2).unwrapped
    scores.reset(seed=0)
    with pytest.raises(InputError):
        scores.step(np.full(6, np.nan, np.float32))
    with pytest.raises(InputError, match="is not in this environment's split"):
        env.reset(options={"video": "video-20"})
    with pytest.raises(CacheError, match="no video 'nobody'"):
        env.reset(options={"video": "nobody"})


def test_missing_arrays_say_what_makes_them(tmp_path: Path, cache: Cache) -> None:
    from video_env.cache.derive import derive

    bare = derive(cache, tmp_path / "bare", ["skim", "embedding"])
    with pytest.raises(CacheError, match="has no recognizer"):
        gym.make("FrameSelect-v0", cache=bare)
