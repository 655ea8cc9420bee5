"""λ as the share of quality that all frames may cost: by the environments' own rewards, and on caches whose
costs differ."""

import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.methods import BudgetCurve
from agents.ocsampler.settings import OCSamplerSettings
from baselines.methods import SB3Costs
from baselines.sb3 import SB3Settings
from tests.conftest import write_known_cache, write_patch_cache
from tests.test_frame_budget import write_needing_cache
from video_env.cache.meta import read_meta, write_meta
from video_env.cache.store import Cache
from video_env.envs.costs import gflops_of_all_frames, gflops_of_all_patches, relative_cost
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.labels import point_label
from video_env.evaluation.registry import Job
from video_env.models.stopping import Length

DEARER = 128
"""Times; a power of two, so that the arithmetic is the same to the last bit."""


def with_dearer_networks(cache: Cache, folder: Path) -> Cache:
    shutil.copytree(cache.path, folder)
    meta = read_meta(folder)
    meta["gflops"] = {part: DEARER * cost for part, cost in meta["gflops"].items()}
    write_meta(folder, meta)
    return Cache(folder)


def test_all_frames_cost_the_share_that_was_asked_for(tmp_path: Path, cache: Cache) -> None:
    """A return is the gain in quality less the share, where every frame is processed."""
    for dear in (cache, with_dearer_networks(cache, tmp_path / "dear")):
        cost = relative_cost(0.3, gflops_of_all_frames(dear))
        env = gym.make("FrameSelect-v0", cache=dear, cost_per_gflop=cost)
        env.reset(seed=0)
        steps = [env.step(frame) for frame in range(dear.num_candidates)]
        assert steps[-1][2]
        gain = steps[-1][4]["confidence"] - np.float16(1 / len(dear.classes))
        assert sum(step[1] for step in steps) == pytest.approx(gain - 0.3, abs=1e-3)


def test_all_patches_cost_the_share_that_was_asked_for(tmp_path: Path) -> None:
    patches = write_patch_cache(tmp_path / "cache")
    cost = relative_cost(0.3, gflops_of_all_patches(patches))
    env = gym.make("PatchSelect-v0", cache=patches, cost_per_gflop=cost, reward="increment")
    env.reset(seed=0)
    steps = [env.step(4) for _ in range(4)]
    assert steps[-1][2]
    gain = steps[-1][4]["confidence"] - 1 / len(patches.classes)
    assert sum(step[1] for step in steps) == pytest.approx(gain - 0.3, abs=1e-6)


def trained(id: str, cache: Cache, settings: object, folder: Path) -> pd.DataFrame:
    """A method's result table on the test videos."""
    registry.load()
    (method,) = registry.find([id])
    job = Job(cache, "test", 0, folder, {id: settings}, "cpu")
    method.do_work(job)
    tables = [evaluate(entry, cache, "test") for entry in method.list_entries(job)]
    return pd.concat(tables, ignore_index=True)


SHORT = OCSamplerSettings(
    length=Length(epochs=8), budget_length=Length(epochs=8), batch_size=32, learning_rate=1e-2
)
METHODS = {
    "ocsampler-budget": BudgetCurve((0.05, 0.3, 3.0), SHORT),
    "maskable-ppo": SB3Costs(
        (0.05, 3.0),
        SB3Settings("maskable-ppo", steps=8_000, num_envs=64, hyperparameters={"batch_size": 128}),
    ),
}


@pytest.mark.parametrize("id", METHODS)
def test_the_curve_of_frames_is_the_same_whatever_a_frame_costs(
    tmp_path: Path, id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write = write_needing_cache if id == "ocsampler-budget" else write_known_cache
    cheap = write(tmp_path / "cheap")
    dear = with_dearer_networks(cheap, tmp_path / "dear")
    tables = [trained(id, cache, METHODS[id], tmp_path / cache.path.name[:1]) for cache in (cheap, dear)]
    assert tables[0]["selected"].map(list).equals(tables[1]["selected"].map(list))
    assert tables[0]["cost_of_all_frames"].equals(tables[1]["cost_of_all_frames"])
    frames = tables[0].groupby("cost_of_all_frames")["frames"].mean()
    assert frames.iloc[0] > frames.iloc[-1]  # it is a curve
    said = capsys.readouterr().out
    for cache in (cheap, dear):
        λ = 0.05 / gflops_of_all_frames(cache)
        assert f"cost_of_all_frames 0.05: λ = {λ:.4g} per GFLOP" in said


def test_it_is_given_in_one_form(tmp_path: Path) -> None:
    for make in (
        lambda: OCSamplerSettings(cost_per_gflop=1.0, cost_of_all_frames=0.5),
        lambda: SB3Settings("dqn", cost_per_gflop=1.0, cost_of_all_frames=0.5),
    ):
        with pytest.raises(InputError, match=r"means nothing with cost_\w+, which is λ too"):
            make()
    for make in (
        lambda: OCSamplerSettings(cost_of_all_frames=-1.0),
        lambda: SB3Settings("dqn", cost_of_all_frames=-1.0),
    ):
        with pytest.raises(InputError, match="cost_of_all_frames: found -1"):
            make()
    with pytest.raises(InputError, match="frames cost 0 GFLOPs"):
        relative_cost(0.5, 0.0)
    # An agent's λ is turned in either form.
    cache = write_needing_cache(tmp_path / "cache")
    agent = OCSampler(cache, OCSamplerSettings(cost_of_all_frames=0.5), device="cpu")
    assert agent.cost_per_gflop == pytest.approx(0.5 / (6 * 0.5))
    agent.cost_per_gflop = 2.0
    assert agent.cost_of_all_frames is None
    assert point_label("OCSampler", {"cost_of_all_frames": 0.5}) == "OCSampler, all frames cost 0.5"
