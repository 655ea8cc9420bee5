"""AdaFocus's policy with weights that positions share: where it looks, and what its memory does."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from agents.adafocus import AdaFocus, AdaFocusSettings
from agents.adafocus.settings import PUBLISHED, ClassifierTraining, PolicyTraining, read_settings
from agents.adafocus.shared_policy import SharedPatchPolicy
from tests.conftest import write_known_patch_cache
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.data.patches import grid_corners
from video_env.errors import InputError
from video_env.models.classifiers import build_classifier, store_classifier
from video_env.models.stopping import Length

ONCE = Length(epochs=1)


def of_one_channel(*, height: int, patch_share: float | None = None) -> SharedPatchPolicy:
    """A policy whose features and scores are the map itself."""
    policy = SharedPatchPolicy(1, height, height, 49, hidden=1, patch_share=patch_share)
    with torch.no_grad():
        for layer in (policy.reduce, policy.encode, policy.actor):
            layer.weight.fill_(1)
            layer.bias.zero_()
    return policy


@torch.no_grad()
def test_scores_move_with_the_glances() -> None:
    """Where cells and positions are the same grid, rolled maps give rolled scores, whatever the weights, with
    the memory of three frames."""
    torch.manual_seed(0)
    policy = SharedPatchPolicy(5, 7, 7, 49)
    policy.actor.weight.mul_(300)
    maps = torch.rand(3, 2, 5, 7, 7)
    # Farther than any patch reaches: at the edge a patch has no neighbours outside.
    moved = maps.roll((2, 3), dims=(-2, -1))
    before, after = (policy(own)[0].unflatten(-1, (7, 7)) for own in (maps, moved))
    assert before.std() > 0.1
    assert torch.allclose(after, before.roll((2, 3), dims=(-2, -1)), atol=1e-5)
    assert torch.allclose(policy(maps)[1], policy(moved)[1], atol=1e-5)


@torch.no_grad()
def test_positions_read_the_map_at_the_centres_of_their_patches() -> None:
    """Of a map that holds each cell's own row in pixels, or its column, a position's feature is its centre."""
    policy = of_one_channel(height=8, patch_share=36 / 96)
    centres = (np.arange(8) + 0.5) * 96 / 8
    for axis, ramp in enumerate(np.meshgrid(centres, centres, indexing="ij")):
        read = policy.reduced(torch.from_numpy(ramp).float()[None, None, None])[0, 0, :, 0]
        assert read.numpy() == pytest.approx(grid_corners(36, 96)[:, axis] + 18, abs=1e-4)


@torch.no_grad()
def test_two_things_seen_together_are_looked_at_one_after_the_other() -> None:
    policy = of_one_channel(height=7, patch_share=0.2)
    maps = torch.zeros(3, 1, 1, 7, 7)
    maps[:, 0, 0, 1, 1], maps[:, 0, 0, 5, 5] = 20, 18
    chosen = policy(maps)[0][:, 0].argmax(dim=-1)
    assert chosen[:2].tolist() == [8, 40]
    # Frame by frame the same, with the state that is handed on.
    state, stepwise = torch.zeros(1, policy.state_size), []
    for frame in maps:
        log_probabilities, _, state = policy(frame[None], state)
        stepwise.append(log_probabilities[0])
    assert torch.allclose(torch.stack(stepwise), policy(maps)[0])
    # The neighbours of a patch are seen with it, by the share that it covers.
    apart = 0.8 / 6
    assert policy.overlap[8, 9].item() == pytest.approx(1 - apart / 0.2, abs=1e-5)
    assert policy.overlap[8, 16].item() == pytest.approx((1 - apart / 0.2) ** 2, abs=1e-5)


def write_staying_cache(out: Path, *, videos: int = 120, num_frames: int = 4) -> Cache:
    """Two things lie still in every video. At one of them every frame tells the label once more; the other
    tells nothing."""
    generator = np.random.default_rng(5)
    best, labels = generator.integers(9, size=videos), generator.integers(2, size=videos)
    other = (best + 1 + generator.integers(8, size=videos)) % 9
    video, frame = np.ogrid[:videos, :num_frames]
    glance = generator.normal(0, 0.05, (videos, num_frames, 2, 9))
    glance[video, frame, 0, best[:, None]] = glance[video, frame, 1, other[:, None]] = 1
    size = 2 * num_frames
    patches = np.zeros((videos, num_frames, 9, size))
    patches[video, frame, best[:, None], 2 * frame + labels[:, None]] = 1
    index = pd.DataFrame(
        {"video": [f"still-{number:03d}" for number in range(videos)], "label": labels, "best": best,
         "split": np.where(np.arange(videos) < videos * 3 // 4, "train", "test")}
    )  # fmt: skip
    arrays = {
        "glance": glance.reshape(videos, num_frames, 2, 3, 3).astype(np.float16),
        "patches": patches.astype(np.float16),
    }
    cache = cache_from_arrays(out, index, arrays, ["a", "b"], {"glance": 0.02, "patches": 0.1})
    classifier = build_classifier(
        {"classifier": "running_max", "glance": 2, "patch": size, "classes": 2, "hidden": size}
    )
    weights = {
        "input.weight": torch.cat([torch.zeros(size, 2), torch.eye(size)], dim=1),
        "input.bias": torch.zeros(size), "output.weight": torch.eye(2).repeat(1, num_frames),
        "output.bias": torch.zeros(2),
    }  # fmt: skip
    classifier.load_state_dict(weights)
    return store_classifier(cache, classifier)


def test_the_memory_is_forgotten_where_it_does_harm(tmp_path: Path) -> None:
    cache = write_staying_cache(tmp_path / "cache")
    policy = PolicyTraining(Length(epochs=20), batch_size=45, learning_rate=1e-2)
    agent = AdaFocus(cache, AdaFocusSettings(policy=policy), device="cpu")
    agent.train_policy()
    assert agent.policy is not None
    rows = cache.rows("test")
    maps = torch.from_numpy(cache["glance"][rows]).float().transpose(0, 1)
    with torch.no_grad():
        chosen = agent.policy(maps)[0].argmax(dim=-1).T.numpy()
    assert (chosen == cache.index["best"].to_numpy()[rows][:, None]).all()
    assert agent.policy.memory.item() < 0.8  # it begins at 1


def test_old_settings_are_not_filled_up_with_new_defaults(tmp_path: Path) -> None:
    """A file without the policy's network would be read as the wrong one."""
    assert read_settings(asdict(PUBLISHED), where="") == PUBLISHED
    record: dict[str, Any] = asdict(AdaFocusSettings())
    del record["policy"]["network"]
    record["policy"]["luck"] = 1
    with pytest.raises(InputError, match="another version: PolicyTraining there has luck; has no network"):
        read_settings(record, where="")
    known = write_known_patch_cache(tmp_path / "cache", videos=12)
    agent = AdaFocus(
        known,
        AdaFocusSettings(policy=PolicyTraining(ONCE), fine_tuning=ClassifierTraining(ONCE)),
        device="cpu",
    ).learn()
    agent.save(tmp_path / "agent.pt")
    saved = torch.load(tmp_path / "agent.pt", weights_only=True)
    del saved["settings"]["policy"]["network"]
    torch.save(saved, tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"old\.pt: settings of another version: .*has no network"):
        AdaFocus.load(tmp_path / "old.pt", cache=known)


def test_both_policies_are_trained_saved_and_counted(tmp_path: Path) -> None:
    known = write_known_patch_cache(tmp_path / "cache", videos=12)
    gflops = []
    for network in ("shared", "fully_connected"):
        policy = PolicyTraining(ONCE, network=network, hidden=8)
        settings = AdaFocusSettings(policy=policy, fine_tuning=ClassifierTraining(ONCE))
        agent = AdaFocus(known, settings, device="cpu").learn()
        agent.save(tmp_path / "agent.pt")
        loaded = AdaFocus.load(tmp_path / "agent.pt", cache=known, device="cpu")
        assert type(loaded.policy) is type(agent.policy)
        assert loaded.gflops == agent.gflops > 0
        gflops.append(agent.gflops)
    # By hand: 9 cells of 2 channels to 8 features, to 9 positions (3x3 by rows, then by columns), a layer of
    # 8 and a score at each; the critic; what was seen of each position from each other one.
    shared = 9 * 2 * 8 + 2 * 3 * 3 * 3 * 8 + 9 * (8 * 8 + 8) + 2 * 8 + 9 * 9
    assert gflops[0] * 1e9 == pytest.approx(shared)
    # To 32 channels, a layer of 8, a GRU, actor and critic.
    assert gflops[1] * 1e9 == pytest.approx(9 * 2 * 32 + 9 * 32 * 8 + 2 * 3 * 8 * 8 + 9 * 8 + 8)
