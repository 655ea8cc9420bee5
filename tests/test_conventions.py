"""What users of Gymnasium, Stable-Baselines3 and pickle take for granted, of every registered environment.

All of it in one file, though it is long: a convention kept is one of a list.
"""

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, NormalizeReward, RecordEpisodeStatistics
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks

from baselines.heuristics import HEURISTICS
from baselines.patches import PATCH_RULES
from baselines.vec_env import StableBaselinesVecEnv
from tests.conftest import write_cache, write_patch_cache
from tests.test_envs import IDS, VARIANTS
from video_env.cache.store import Cache, CacheError
from video_env.errors import InputError
from video_env.models.classifiers import load_classifier

NATIVE = {"vectorization_mode": "vector_entry_point"}


@pytest.fixture
def options(environment: str, cache: Cache, patch_cache: Cache) -> dict[str, Any]:
    """A small cache with what the environment needs."""
    return {"cache": patch_cache if environment.startswith("Patch") else cache}


@pytest.mark.parametrize("environment", IDS)
def test_gymnasiums_checker_is_content_and_seeds_decide(environment: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(environment, render_mode="rgb_array").unwrapped)

    def episodes(seed: int) -> list[Any]:
        env = gym.make(environment)
        env.action_space.seed(seed)
        seen: list[Any] = [env.reset(seed=seed)]
        for _ in range(25):
            step = env.step(env.action_space.sample())
            seen += [step, *([env.reset()] if step[2] else [])]
        return seen

    assert data_equivalence(episodes(1), episodes(1))
    assert not data_equivalence(episodes(1)[0], episodes(2)[0])


def test_masks_are_what_gymnasium_samples_by() -> None:
    env = gym.make("FrameSelect-v0")
    _, info = env.reset(seed=0)
    for _ in range(12):
        mask = info["action_mask"]
        assert mask.dtype == env.unwrapped.action_masks().dtype == np.int8
        assert mask.tolist() == env.unwrapped.action_masks().tolist() == [*(1 - info["selected"]), 1]
        mask = mask.copy()
        mask[-1] = 0  # do not stop
        action = env.action_space.sample(mask)
        assert info["selected"][action] == 0
        *_, info = env.step(action)
    assert info["action_mask"].tolist() == [0] * 12 + [1]


def test_masks_of_vector_environments() -> None:
    envs = gym.make_vec("FrameSelect-v0", num_envs=3, **NATIVE)
    envs.reset(seed=0)
    *_, info = envs.step(np.array([0, 12, 5]))
    mask = info["action_mask"]
    assert mask.dtype == envs.unwrapped.action_masks().dtype == np.int8
    assert np.array_equal(mask, envs.unwrapped.action_masks())
    assert mask.tolist() == [[0] + [1] * 12, [1] * 13, [1] * 5 + [0] + [1] * 7]
    only = tuple(np.eye(13, dtype=np.int8)[[3, 4, 5]] & mask)
    assert envs.action_space.sample(only)[:2].tolist() == [3, 4]
    assert info["final_info"]["action_mask"].dtype == np.int8


@pytest.mark.parametrize("vector", [False, True])
def test_maskable_ppo_keeps_to_the_masks(cache: Cache, vector: bool) -> None:
    """In a cache of 6 candidates: it learns on both views, and then never chooses a frame twice."""
    if vector:
        env: Any = StableBaselinesVecEnv(gym.make_vec("FrameSelect-v0", num_envs=4, cache=cache, **NATIVE))
    else:
        env = gym.make("FrameSelect-v0", cache=cache)
    model = MaskablePPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    model.learn(64)
    single = gym.make("FrameSelect-v0", cache=cache)
    for seed in range(5):
        observation, _ = single.reset(seed=seed)
        ended = False
        while not ended:
            masks = get_action_masks(single)
            action, _ = model.predict(observation, action_masks=masks)
            assert masks[action] == 1
            observation, _, ended, _, _ = single.step(int(action))


@pytest.mark.parametrize(("environment", "more"), VARIANTS)
@pytest.mark.parametrize("vector", [False, True])
def test_a_pickled_environment_goes_on_as_the_original(
    environment: str, more: dict, vector: bool, options: dict
) -> None:
    options = {**options, **more, "cost_per_gflop": 0.3}
    env: Any = (
        gym.make_vec(environment, num_envs=3, max_episode_steps=2, **NATIVE, **options)
        if vector
        else gym.make(environment, max_episode_steps=2, **options)
    )
    env.action_space.seed(1)
    env.reset(seed=5)
    ended = env.step(env.action_space.sample())[2]
    if not vector and ended:
        env.reset()
    for twin in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        # The original's own generators stay where they are for the second twin.
        original = pickle.loads(pickle.dumps(env))
        for _ in range(6):
            action = original.action_space.sample()
            assert np.array_equal(action, twin.action_space.sample())
            results = original.step(action), twin.step(action)
            assert data_equivalence(*(_plain(result) for result in results))
            if not vector and (results[0][2] or results[0][3]):
                assert data_equivalence(_plain(original.reset()), _plain(twin.reset()))


def _plain(result: Any) -> Any:
    """With infos, which hold texts and None, as text."""
    return *result[:-1], json.dumps(dict(result[-1]), default=_listed, sort_keys=True)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def test_a_pickle_is_small_and_takes_the_classifier_along(patch_cache: Cache) -> None:
    """Tables that were read from a cache are read again; a classifier that was passed in is not the cache's."""
    classifier = load_classifier(patch_cache)
    with_own = gym.make("PatchSelect-v0", cache=patch_cache, classifier=classifier).unwrapped
    for parameter in classifier.parameters():
        parameter.data.zero_()  # the environment has a copy of its own
    twin = pickle.loads(pickle.dumps(with_own))
    for env in (with_own, twin):
        env.reset(seed=0)
    assert data_equivalence(with_own.step(3)[0], twin.step(3)[0])
    assert with_own.step(4)[4]["probabilities"].std() > 0
    frames = gym.make("FrameSelect-v0")
    frames.reset(seed=0)
    assert len(pickle.dumps(frames)) < 40_000 < frames.unwrapped.task.features.nbytes


def test_relative_paths_survive_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path / "here", videos=6)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(gym.make("FrameSelect-v0", cache="here").unwrapped)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickled).reset(seed=0)[1]["video"].startswith("video-")


@pytest.mark.parametrize("environment", ["FrameSelect-v0", "PatchSelect-v0"])
def test_processes_started_by_spawn(environment: str) -> None:
    made = [gym.make(environment) for _ in range(2)]
    envs = AsyncVectorEnv([lambda env=env: env for env in made], context="spawn")
    try:
        observation, info = envs.reset(seed=[3, 4])
        for number, env in enumerate(made):
            own, own_info = env.reset(seed=3 + number)
            assert own_info["video"] == info["video"][number]
            assert all(np.array_equal(own[key], observation[key][number]) for key in own)
        _, rewards, *_ = envs.step(np.array([2, 1]))
        assert rewards.tolist() == pytest.approx([made[0].step(2)[1], made[1].step(1)[1]], abs=1e-6)
    finally:
        envs.close()


READINGS = {
    "dict": dict,
    "stars": lambda info: {**info},
    "or": lambda info: info | {"more": 1},
    "or, reversed": lambda info: {"more": 1} | info,
    "update": lambda info: _updated({}, info),
    "items": lambda info: dict(info.items()),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "own copy": lambda info: info.copy(),
    "pickle": lambda info: pickle.loads(pickle.dumps(info)),
    "set": lambda info: _updated(info, {"more": 1}),
    "json": lambda info: json.loads(json.dumps(info, default=dict_or_listed)),
    "json, in Python": lambda info: json.loads("".join(json.JSONEncoder(default=_listed).iterencode(info))),
}


def _updated(one: Any, other: Any) -> Any:
    one.update(other)
    return one


def dict_or_listed(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else _listed(value)


@pytest.mark.parametrize("reading", READINGS)
def test_an_info_that_was_not_read_yet_is_whole(reading: str) -> None:
    def info() -> Any:
        envs = gym.make_vec("FrameSelect-v0", num_envs=2, **NATIVE)
        envs.reset(seed=0)
        return envs.step(np.array([12, 1]))[-1]

    read = info()
    assert isinstance(read, dict)
    keys = set(read)
    assert {"gflops", "_gflops", "final_info", "_final_obs"} <= keys
    found = READINGS[reading](info())
    assert set(found) - {"more"} == keys
    assert np.asarray(found["gflops"]).tolist() == read["gflops"].tolist()
    with pytest.raises(TypeError, match="not JSON serializable"):  # and never {}
        json.dumps(info())
    assert json.dumps(info(), default=str) == json.dumps(read, default=str)


@pytest.mark.parametrize("environment", IDS)
@pytest.mark.parametrize("max_episode_steps", [None, 2])
def test_episode_statistics_are_sums_of_rewards(
    environment: str, max_episode_steps: int | None, options: dict
) -> None:
    """Gymnasium before 1.4 drops the first reward of every episode but the first."""
    limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
    env = gym.make_vec(environment, num_envs=4, **NATIVE, **limit, **options, cost_per_gflop=0.5)
    recorded = RecordEpisodeStatistics(env)
    recorded.reset(seed=0)
    recorded.action_space.seed(0)
    returns, lengths, episodes = np.zeros(4), np.zeros(4, int), 0
    for _ in range(40):
        _, rewards, terminated, truncated, info = recorded.step(recorded.action_space.sample())
        returns, lengths = returns + rewards, lengths + 1
        for row in np.flatnonzero(terminated | truncated):
            assert info["episode"]["r"][row] == pytest.approx(returns[row], abs=1e-9)
            assert info["episode"]["l"][row] == lengths[row]
            returns[row], lengths[row], episodes = 0, 0, episodes + 1
    assert episodes > 10


def test_gymnasiums_vector_wrappers(cache: Cache) -> None:
    env = gym.make_vec("FrameSelect-v0", num_envs=3, cache=cache, **NATIVE)
    wrapped = DictInfoToList(RecordEpisodeStatistics(NormalizeReward(env)))
    _, infos = wrapped.reset(seed=0)
    assert [info["prediction"] for info in infos] == [-1, -1, -1]
    *_, infos = wrapped.step(np.array([6, 1, 2]))
    assert ["final_info" in info for info in infos] == [True, False, False]
    assert infos[0]["episode"]["l"] == 1
    assert infos[0]["final_obs"]["selected"].tolist() == [0] * 6


@pytest.mark.parametrize("environment", IDS)
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_max_episode_steps_truncates_as_time_limit_does(environment: str, limit: int, options: dict) -> None:
    """The native vector environment beside Gymnasium's own vectorisation of single ones in a TimeLimit."""
    options = {**options, "max_episode_steps": limit, "cost_per_gflop": 0.3}
    if environment.startswith("Patch"):
        options["reward"] = "increment"  # the references of the default one are drawn at random
    native = gym.make_vec(environment, num_envs=4, **NATIVE, **options)
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    sync = gym.make_vec(
        environment, num_envs=4, vectorization_mode="sync", vector_kwargs=same_step, **options
    )
    native.action_space.seed(0)
    observation, info = native.reset(seed=0)
    names = list(info["video"])
    own, own_info = sync.reset(seed=0)
    for env, name in zip(sync.envs, names, strict=True):
        env.reset(options={"video": name})
    truncations, one_step = 0, False
    for step in range(12):
        actions = native.action_space.sample()
        observation, rewards, terminated, truncated, info = native.step(actions)
        _queue_next_videos(sync, info["video"])
        own, own_rewards, own_terminated, own_truncated, own_info = sync.step(actions)
        assert np.allclose(rewards, own_rewards, atol=1e-5)
        assert terminated.tolist() == own_terminated.tolist()
        one_step |= step == 0 and bool(terminated.all())
        assert truncated.tolist() == own_truncated.tolist(), step
        truncations += int(truncated.sum())
        assert _close(observation, own)
        ended = terminated | truncated
        assert ("final_info" in info) == ("final_info" in own_info) == ended.any()
        for row in np.flatnonzero(ended):
            assert _close(info["final_obs"][row], own_info["final_obs"][row])
        for key in set(own_info.get("final_info", {})) & {"gflops", "prediction", "selected", "video"}:
            assert _close(info["final_info"][key][ended], own_info["final_info"][key][ended]), key
        if ended.any():
            assert info["_final_info"].tolist() == own_info["_final_info"].tolist() == ended.tolist()
            assert info["_final_obs"].tolist() == own_info["_final_obs"].tolist()
    assert (truncations > 0) == (limit == 1 or not one_step)


def _queue_next_videos(sync: Any, names: np.ndarray) -> None:
    """Have each single environment's next reset draw the video that the native one has drawn."""
    for env, name in zip(sync.envs, names, strict=True):
        task_env = env.unwrapped
        position = int(np.searchsorted(task_env.task.rows, task_env.task.cache.row(name)))
        task_env._draw = lambda *_, position=position: np.array([position])


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind in "OU":
        return one.tolist() == other.tolist()
    return one.shape == other.shape and np.allclose(one, other, atol=1e-5)


def test_max_episode_steps_of_a_single_environment_and_of_none(cache: Cache) -> None:
    single = gym.make("FrameSelect-v0", cache=cache, max_episode_steps=2)
    single.reset(seed=0)
    assert [single.step(action)[2:4] for action in (0, 1)] == [(False, False), (False, True)]
    unlimited = gym.make_vec("FrameSelect-v0", num_envs=1, cache=cache, max_episode_steps=-1, **NATIVE)
    unlimited.reset(seed=0)
    assert not any(unlimited.step(np.array([action]))[3][0] for action in range(5))


WRONG = [
    ("num_frames", 2.0, "expected 1 to 6, the cache's candidate frames, as an integer"),
    ("num_frames", True, "found True, expected 1 to 6"),
    ("num_frames", "2", "found '2', expected 1 to 6"),
    ("max_frames", 2.5, "expected an integer of at least 1"),
    ("max_frames", False, "expected an integer of at least 1"),
    ("cost_per_gflop", "4", "found '4', expected a number of at least 0"),
    ("cost_per_gflop", float("nan"), "found nan, expected a number"),
    ("cost_per_gflop", True, "found True, expected a number"),
    ("skim_gflops", -1, "found -1, expected a number"),
    ("selector_gflops", [1], r"found \[1\], expected a number"),
    ("allow_exit", 1, "found 1, expected True or False"),
    ("classifier", "gru", "found 'gru', expected a Classifier"),
    ("largest_in_memory", 1.5, "expected an integer of at least 0"),
    ("split", 3, "found 3, expected a name"),
    ("split", "tset", "no video of split 'tset'; it has test, train"),
    ("reward", "accuracy", "'accuracy': expected one of"),
    ("reward", ["correct"], r"\['correct'\]: expected one of"),
    ("observation", "pixels", "'pixels': expected features or index"),
    ("cache", 3, "found 3, expected a folder's path or a Cache"),
    ("costs", 1, "no argument of .*, which takes cache, split, reward, cost_per_gflop"),
]


@pytest.mark.parametrize(("argument", "value", "message"), WRONG)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_wrong_arguments_name_themselves_at_once(
    argument: str, value: Any, message: str, make: Any, cache: Cache, patch_cache: Cache
) -> None:
    environment = {
        "num_frames": "FrameSelectOneStep-v0", "allow_exit": "PatchSelect-v0",
        "classifier": "PatchSelect-v0", "largest_in_memory": "PatchSelectContinuous-v0",
    }.get(argument, "FrameSelect-v0")  # fmt: skip
    options = {"cache": patch_cache if environment.startswith("Patch") else cache, argument: value}
    with pytest.raises((InputError, CacheError), match=message) as error:
        make(environment, **options)
    assert argument in str(error.value)


@pytest.mark.parametrize("environment", IDS)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_envs", 0),
        ("num_envs", -1),
        ("num_envs", 1.5),
        ("num_envs", True),
        ("max_episode_steps", 0),
        ("max_episode_steps", 2.0),
        ("max_episode_steps", True),
        ("nonsense", 1),
    ],
)
def test_wrong_arguments_of_vector_environments(environment: str, argument: str, value: Any) -> None:
    message = f"{argument}: (found {value}, expected an integer of at least 1|no argument .*cache, split)"
    with pytest.raises(InputError, match=message):
        gym.make_vec(environment, **{"num_envs": 2, **NATIVE, argument: value})


def test_heuristics_on_a_single_candidate(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = write_cache(tmp_path / "frames", num_candidates=1, videos=6)
        for rule in HEURISTICS.values():
            assert rule(single, 1, "test", 0).subsets[single.rows("test")].tolist() == [[True]] * 2
        of_patches = write_patch_cache(tmp_path / "patches", num_frames=1, videos=6)
        of_patches.meta["arrays"]["patches"]["source"].update(patch_size=8, frame_size=24)
        for patch_rule in PATCH_RULES.values():
            patch_rule(of_patches, "test", 0)


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path / "x", videos=6)
    monkeypatch.setenv("HOME", str(tmp_path))
    for cache in ("~/x", Path("~/x")):
        assert gym.make("FrameSelect-v0", cache=cache).unwrapped.task.cache.path == tmp_path / "x"
