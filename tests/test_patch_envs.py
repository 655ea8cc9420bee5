"""Patch selection: returns, costs, states and references against the classifier itself, frame by frame."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import video_env  # noqa: F401  (registers the environments)
from tests.conftest import write_cache, write_patch_cache
from video_env.cache.store import Cache, CacheError
from video_env.data.patches import grid_corners, grid_points, surrounding
from video_env.envs.patch_select import REWARDS, GridPatchSelect
from video_env.errors import InputError
from video_env.models.classifiers import build_classifier, load_classifier

GLANCE, PATCH = 0.02, 0.1


def scores_by_hand(cache: Cache, row: int, patches: np.ndarray) -> np.ndarray:
    """Class probabilities after every frame, [n, C], from one pass of the classifier over the features of
    the patches, [n, D]."""
    classifier = load_classifier(cache)
    count = len(patches)
    maps = torch.from_numpy(cache["glance"][row][:count]).float()
    glance = maps.mean(dim=(2, 3)) if classifier.pooling == "mean" else maps.amax(dim=(2, 3))
    with torch.no_grad():
        scores = classifier(glance[None], torch.from_numpy(patches).float()[None])[0]
    return scores.double().softmax(-1).numpy()


def qualities(probabilities: np.ndarray, label: int, seen: bool) -> dict[str, float]:
    others = np.delete(probabilities, label)
    return {
        "increment": probabilities[label],
        "correct": float(seen and probabilities.argmax() == label),
        "log_confidence": np.log(probabilities[label]),
        "margin": probabilities[label] - others.max(),
        "largest_probability": probabilities.max(),
    }


def test_grid_of_the_released_code() -> None:
    corners = grid_corners(96, 224).reshape(7, 7, 2)
    assert corners[2, 5].tolist() == [int(2 / 6 * 128), int(5 / 6 * 128)]
    assert corners[6, 6].tolist() == [128, 128]
    assert grid_points()[[0, 7, 48]].tolist() == [[0, 0], [np.float32(1 / 6), 0], [1, 1]]
    with pytest.raises(InputError, match="patch_size: found 97, expected 1 to 96"):
        grid_corners(97, 96)
    with pytest.raises(InputError, match=r"patch points: found -0\.5 to 1\.0, expected 0 to 1"):
        surrounding(np.array([[-0.5, 1.0]]))


def test_interpolation_between_four_positions() -> None:
    """Linear functions of the place are reproduced exactly, and so is every cached position."""
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.random((50, 2)), grid_points(), [[1, 0.4], [0.3, 1]]])
    positions, weights = surrounding(points)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights >= 0).all()
    assert np.einsum("bn,bnx->bx", weights, grid_points()[positions]) == pytest.approx(points, abs=1e-6)
    nearest = positions[50:99][np.arange(49), weights[50:99].argmax(axis=1)]
    assert nearest.tolist() == list(range(49))


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("stops", [False, True])
def test_rewards_costs_and_states_by_hand(patch_cache: Cache, reward: str, stops: bool) -> None:
    cost = 0.3
    env = gym.make(
        "PatchSelect-v0", cache=patch_cache, reward=reward, cost_per_gflop=cost, allow_exit=True,
        selector_gflops=0.005,
    ).unwrapped  # fmt: skip
    step = load_classifier(patch_cache).gflops()
    _, info = env.reset(seed=1, options={"video": "video-05"})
    assert info["gflops"] == pytest.approx(GLANCE)
    assert (info["prediction"], info["confidence"]) == (-1, 0.25)
    row, label = patch_cache.row("video-05"), int(info["label"])
    patches = patch_cache["patches"][row]
    actions = [4, 8] if stops else [4, 8, 0, 3]
    looked = scores_by_hand(patch_cache, row, patches[np.arange(len(actions)), actions])
    reference = env.state.reference[0]
    before = qualities(np.full(4, 0.25), label, False)
    spent = GLANCE
    for frame, action in enumerate(actions):
        observation, value, ended, _, info = env.step(action)
        after = qualities(looked[frame], label, True)
        tried = patches[np.arange(frame + 1), [*actions[:frame], reference[frame]]]
        expected = {
            "confidence": looked[frame, label],
            "contrast": looked[frame, label] - scores_by_hand(patch_cache, row, tried)[frame, label],
        }.get(reward, after.get(reward, 0) - before.get(reward, 0))
        price = PATCH + step + (GLANCE if frame < 3 else 0)
        assert value == pytest.approx(expected - cost * price, rel=5e-3, abs=3e-3)
        spent += price + 0.005
        assert info["gflops"] == pytest.approx(spent)
        assert info["probabilities"] == pytest.approx(looked[frame], abs=2e-3)
        assert info["confidence"] == pytest.approx(looked[frame, label], abs=2e-3)
        assert info["correct"] == (looked[frame].argmax() == label)
        assert info["patches"][frame] == pytest.approx([action // 3 / 2, action % 3 / 2])
        before = after
        assert observation["progress"][0] == (frame + 1) / 4
        assert ended == (frame == 3)
    if stops:
        kept = info
        observation, value, ended, _, info = env.step(9)
        assert (value, ended) == (0, True)
        assert info["gflops"] == pytest.approx(kept["gflops"] + 0.005)
        assert info["probabilities"].tolist() == kept["probabilities"].tolist()
        assert info["selected"].tolist() == [4, 8, -1, -1]
        assert not observation["glance"].any()
    assert observation["progress"][0] == 1
    with pytest.raises(gym.error.ResetNeeded, match="has ended"):
        env.step(0)


def test_stopping_at_once_predicts_nothing(patch_cache: Cache) -> None:
    env = gym.make("PatchSelect-v0", cache=patch_cache, reward="increment", allow_exit=True).unwrapped
    env.reset(seed=0)
    _, value, ended, _, info = env.step(9)
    assert (value, ended, info["prediction"], info["correct"]) == (0, True, -1, False)
    assert info["gflops"] == pytest.approx(GLANCE)


def test_continuous_actions_interpolate_the_features(patch_cache: Cache) -> None:
    env = gym.make("PatchSelectContinuous-v0", cache=patch_cache, reward="confidence").unwrapped
    grid = gym.make("PatchSelect-v0", cache=patch_cache, reward="confidence").unwrapped
    for one in (env, grid):
        one.reset(options={"video": "video-02"})
    row = patch_cache.row("video-02")
    # On a cached position both environments agree; between them features are mixed, not probabilities.
    _, value, *_ = env.step(np.array([0, 1], np.float32))
    _, same, *_ = grid.step(5)
    assert value == pytest.approx(same, abs=1e-3)
    _, value, _, _, info = env.step(np.array([-0.5, 0.25], np.float32))
    cached = patch_cache["patches"][row].astype(np.float32)
    mixed = (0.5 * (0.75 * cached[1, 1] + 0.25 * cached[1, 2])) + 0.5 * (
        0.75 * cached[1, 4] + 0.25 * cached[1, 5]
    )
    expected = scores_by_hand(patch_cache, row, np.stack([cached[0, 5], mixed]))
    assert value == pytest.approx(expected[1, info["label"]], abs=2e-3)
    assert info["patches"][1].tolist() == [0.25, 0.625]


def test_tables_and_reading_when_asked_agree(patch_cache: Cache) -> None:
    generator = np.random.default_rng(0)
    video, frame, position = (
        generator.integers(16, size=9),
        generator.integers(4, size=9),
        generator.integers(9, size=(9, 3)),
    )
    tables, asked = (GridPatchSelect(patch_cache, largest_in_memory=size).inputs for size in (1 << 30, 0))
    assert torch.allclose(tables.glance(video, frame), asked.glance(video, frame), atol=2e-3)
    assert torch.allclose(
        tables.patch(video, frame, position), asked.patch(video, frame, position), atol=2e-3
    )


def test_references_are_drawn_anew_and_by_seed(patch_cache: Cache) -> None:
    def returns(seed: int) -> list[float]:
        env = gym.make_vec(
            "PatchSelect-v0", num_envs=3, vectorization_mode="vector_entry_point", cache=patch_cache
        )
        env.reset(seed=seed, options={"video": ["video-01"] * 3})
        return np.concatenate([env.step(np.full(3, 2))[1] for _ in range(4)]).tolist()

    assert returns(0) == returns(0) != returns(1)
    assert len(set(returns(0)[:3])) > 1


def test_bfloat16_is_close(patch_cache: Cache) -> None:
    exact, fast = (
        gym.make("PatchSelect-v0", cache=patch_cache, reward="confidence", precision=precision).unwrapped
        for precision in ("float32", "bfloat16")
    )
    for env in (exact, fast):
        env.reset(options={"video": "video-03"})
    for action in (0, 4, 8, 2):
        assert exact.step(action)[1] == pytest.approx(fast.step(action)[1], abs=0.05)


def test_the_view_marks_the_patch(patch_cache: Cache) -> None:
    for name, action in (("PatchSelect-v0", 8), ("PatchSelectContinuous-v0", np.ones(2, np.float32))):
        env = gym.make(name, cache=patch_cache, render_mode="rgb_array").unwrapped
        env.reset(seed=0)
        before = env.render()
        env.step(action)
        after = env.render()
        assert before.shape == after.shape
        green = (after == (38, 166, 91)).all(axis=-1)
        assert green.any()
        assert not (before == (38, 166, 91)).all(axis=-1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reward": "frame_margin"},
            "reward 'frame_margin': expected one of contrast, confidence, increment",
        ),
        ({"cost_per_gflop": -1}, "cost_per_gflop: found -1"),
        ({"observation": "pixels"}, "observation 'pixels': expected features or index"),
        ({"precision": "int8"}, "precision 'int8': expected float32 or bfloat16"),
        ({"device": "cuda:9"}, "expected auto, cpu"),
    ],
)
def test_bad_arguments_explain_themselves(patch_cache: Cache, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gym.make("PatchSelect-v0", cache=patch_cache, **options)


def test_bad_actions_explain_themselves(patch_cache: Cache) -> None:
    env = gym.make("PatchSelect-v0", cache=patch_cache).unwrapped
    env.reset(seed=0)
    for action in (9, -1, 0.5):
        with pytest.raises(InputError, match=r"expected a member of Discrete\(9\)"):
            env.step(action)
    for name, actions in (
        ("PatchSelect-v0", [0, 9]), ("PatchSelect-v0", [-1, 0]), ("PatchSelect-v0", [0.5, 0.5]),
        ("PatchSelectContinuous-v0", [[0, 1.5], [0, 0]]), ("PatchSelectContinuous-v0", [[0, np.nan], [0, 0]]),
    ):  # fmt: skip
        vector = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", cache=patch_cache)
        vector.reset(seed=0)
        with pytest.raises(InputError, match="action: .*expected"):
            vector.step(np.array(actions))


def test_caches_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no array 'glance'; it has"):
        gym.make("PatchSelect-v0", cache=write_cache(tmp_path / "frames"))
    cache = write_patch_cache(tmp_path / "patches")
    other = build_classifier({"classifier": "gru", "glance": 6, "patch": 8, "classes": 3, "hidden": 7})
    with pytest.raises(
        InputError, match="takes 8 patch features, the cache has 5; 3 classes, the cache has 4"
    ):
        gym.make("PatchSelect-v0", cache=cache, classifier=other)


def test_checkers_find_nothing_with_stops(patch_cache: Cache) -> None:
    for name in ("PatchSelect-v0", "PatchSelectContinuous-v0"):
        check_env(gym.make(name, cache=patch_cache, allow_exit=True).unwrapped, skip_render_check=True)


def test_gymnasiums_own_vector_environments() -> None:
    """In forked processes too, after torch has used its threads here."""
    code = (
        "import gymnasium, torch, video_env; torch.randn(512, 512) @ torch.randn(512, 512)\n"
        "for mode in ('sync', 'async'):\n"
        "    env = gymnasium.make_vec('PatchSelect-v0', num_envs=2, vectorization_mode=mode)\n"
        "    env.reset(seed=0); env.step(env.action_space.sample()); env.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
