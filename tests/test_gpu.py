"""On a GPU everything trains, and says what it says on the CPU; needs one.

``VIDEO_ENV_TEST_DEVICE=cpu`` runs the same tests with the CPU in its place, to try them out.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.adafocus.agent import AdaFocus
from agents.adafocus.settings import (
    AdaFocusSettings,
    ClassifierTraining,
    NetworkTraining,
    PolicyTraining,
    RandomPatchTraining,
)
from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.set_probability import all_sets, log_probability_of_all_sets, log_set_probability
from agents.ocsampler.settings import OCSamplerSettings
from baselines.sb3 import SB3Settings
from baselines.sb3_files import load_sb3
from baselines.sb3_training import train_sb3
from tests.conftest import interrupt_after, write_cache, write_patch_cache
from tests.golden import checks
from video_env.cache.derive import derive
from video_env.cache.store import Cache
from video_env.envs.patch_select import GridPatchSelect
from video_env.models.backbones import FrameNetwork
from video_env.models.device import resolve_device
from video_env.models.encoders import CacheEncoder, GlanceEncoder, PatchEncoder
from video_env.models.optimise import seeded
from video_env.models.recognizers import load_recognizer
from video_env.models.stopping import Length
from video_env.models.train_backbone import BackboneTraining, SkimTraining
from video_env.models.train_recognizer import RecognizerTraining, add_subset_tables, train_recognizer
from video_env.models.train_small import SmallTraining, train_small_networks

DEVICE = os.environ.get("VIDEO_ENV_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU"),
]
QUICK = AdaFocusSettings(
    patch_size=8,
    focus_weights="random",
    hidden=8,
    networks=NetworkTraining(length=Length(epochs=1)),
    random_patches=RandomPatchTraining(Length(epochs=1)),
    policy=PolicyTraining(Length(epochs=2), hidden=16),
    fine_tuning=ClassifierTraining(Length(epochs=1)),
)
QUICK_V2 = AdaFocusV2Settings(
    patch_size=8,
    glance_weights="random",
    focus_weights="random",
    hidden=16,
    policy_hidden=8,
    length=Length(epochs=2),
    batch_size=8,
)


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    with checks.float32_alone():
        yield


def on_the_device(module: torch.nn.Module) -> bool:
    return {tensor.device.type for tensor in module.state_dict().values()} == {DEVICE}


def moved(after: torch.nn.Module, before: torch.nn.Module) -> bool:
    """Whether training changed a weight."""
    own = before.state_dict()
    return any(not torch.equal(value.cpu(), own[name].cpu()) for name, value in after.state_dict().items())


def test_auto_is_the_gpu() -> None:
    assert resolve_device("auto").type == DEVICE
    with seeded(3):
        there, again = torch.rand(2, device=DEVICE), torch.rand(2, device=DEVICE)
    with seeded(3):
        assert torch.equal(torch.rand(2, device=DEVICE), there)
    assert not torch.equal(there, again)


@pytest.mark.parametrize(
    "options",
    [
        {"cost_per_gflop": 0.1},
        {"estimator": "exact"},
        {"skim": "small_skim", "skim_weights": "random", "cost_per_gflop": 0.1},
    ],
    ids=["cached", "exact", "end to end"],
)
def test_ocsampler(
    tmp_path: Path, cache: Cache, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OCSamplerSettings(
        num_frames=3,
        length=Length(epochs=2),
        budget_length=Length(epochs=2),
        batch_size=8,
        **options,
    )
    before = OCSampler(cache, settings, device="cpu")
    agent = OCSampler(cache, settings, device=DEVICE).learn()
    assert on_the_device(agent.network)
    assert moved(agent.policy, before.policy)
    videos = np.arange(len(cache))
    observation = {"features": cache["skim"][:]} if agent.skim is None else {"video": videos[:, None]}
    agent.save(tmp_path / "there.pt")
    here = OCSampler.load(tmp_path / "there.pt", cache=cache, device="cpu")
    assert not any(tensor.is_cuda for tensor in here.network.state_dict().values())
    here.save(tmp_path / "here.pt")
    back = OCSampler.load(tmp_path / "here.pt", cache=cache, device=DEVICE)
    assert on_the_device(back.network)
    chosen = agent.predict(observation)[0]
    assert len(np.unique(chosen, axis=0)) > 1
    assert np.array_equal(here.predict(observation)[0], chosen)
    assert np.array_equal(back.predict(observation)[0], chosen)
    drawn = agent.predict(observation, deterministic=False)[0]
    assert drawn.shape == chosen.shape
    # A training that was interrupted there goes on here.
    interrupt_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        OCSampler(cache, settings, device=DEVICE).learn(checkpoint=tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    resumed = OCSampler(cache, settings, device="cpu").learn(checkpoint=tmp_path / "checkpoint.pt")
    assert len(resumed.history) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("classifier", ["gru", "running_max"])
def test_adafocus_on_cached_patches(tmp_path: Path, classifier: str, precision: Any) -> None:
    cache = write_patch_cache(tmp_path / "cache", classifier=classifier)
    settings = replace(QUICK, policy=replace(QUICK.policy, precision=precision))
    before = AdaFocus(cache, settings, device="cpu")
    agent = AdaFocus(cache, settings, device=DEVICE).learn()
    assert agent.policy is not None
    assert before.policy is not None
    assert on_the_device(agent.policy)
    assert on_the_device(agent.classifier)
    assert moved(agent.policy, before.policy)
    assert moved(agent.classifier, before.classifier)
    same_positions(agent, tmp_path, cache)


def test_small_networks_from_frames(tmp_path: Path, cache: Cache) -> None:
    frames = derive(cache, tmp_path / "frames", ["frames"])
    settings = SmallTraining(
        backbone=BackboneTraining(epochs=1, least_steps=1, batch_size=8),
        skim=SkimTraining(epochs=1, least_steps=1),
    )
    made = train_small_networks(frames, settings, DEVICE)
    assert {"embedding.safetensors", "skim.safetensors"} <= set(made.meta["networks"])
    assert len(made["embedding"]) == len(made["skim"]) == len(cache)


def test_adafocus_in_four_stages(tmp_path: Path, cache: Cache) -> None:
    agent = AdaFocus(cache, QUICK, folder=tmp_path / "agent", device=DEVICE).learn()
    assert agent.patch_cache is not None
    assert set(agent.stage_seconds) == {0, 1, 2, 3}
    assert agent.networks is not None
    assert on_the_device(agent.networks.glance)
    assert on_the_device(agent.networks.focus)
    same_positions(agent, tmp_path, agent.patch_cache)
    # The files of the stages are read on the CPU too.
    again = AdaFocus(cache, QUICK, folder=tmp_path / "agent", device="cpu").learn()
    assert again.stage_seconds == agent.stage_seconds
    assert not moved(again.classifier, agent.classifier)


def same_positions(agent: AdaFocus, folder: Path, cache: Cache) -> None:
    """Of the agent, of what is read from its file on the CPU, and of what is read from that one's."""
    agent.save(folder / "there.pt")
    here = AdaFocus.load(folder / "there.pt", cache=cache, device="cpu")
    here.save(folder / "here.pt")
    back = AdaFocus.load(folder / "here.pt", cache=cache, device=DEVICE)
    states: list[Any] = [None] * 3
    for frame in range(cache.num_candidates):
        observation = {"glance": cache["glance"][:][:, frame].astype(np.float32)}
        found = [
            one.predict(observation, state) for one, state in zip((agent, here, back), states, strict=True)
        ]
        states = [state for _, state in found]
        for positions, state in found[1:]:
            assert positions.tolist() == found[0][0].tolist()
            assert state == pytest.approx(found[0][1], abs=1e-4)
        assert agent.predict(observation, deterministic=False)[0].shape == found[0][0].shape


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16", "policy": "fully_connected", "parts": 2}])
def test_adafocus_v2(tmp_path: Path, cache: Cache, options: dict[str, Any]) -> None:
    settings = replace(QUICK_V2, **options)
    before = AdaFocusV2(cache, settings, device="cpu")
    agent = AdaFocusV2(cache, settings, folder=tmp_path, device=DEVICE).learn()
    assert on_the_device(agent.network)
    assert moved(agent.network, before.network)
    assert all(np.isfinite(epoch["loss"]) for epoch in agent.history)
    agent.save(tmp_path / "there.pt")
    here = AdaFocusV2.load(tmp_path / "there.pt", cache=cache, device="cpu")
    here.save(tmp_path / "here.pt")
    back = AdaFocusV2.load(tmp_path / "here.pt", cache=cache, device=DEVICE)
    finished = AdaFocusV2(cache, settings, folder=tmp_path, device="cpu").learn()
    frames, budget = cache["frames"][:], 0.6 * agent.gflops
    whole, left = agent.recognise(frames), agent.recognise(frames, gflops=budget)
    assert len(np.unique(left.exit_after)) > 1
    for other in (here, back, finished):
        found = other.recognise(frames)
        assert found.probabilities == pytest.approx(whole.probabilities, abs=1e-4)
        assert found.points == pytest.approx(whole.points, abs=1e-4)
        # A video that is as sure as the threshold, but for rounding, may leave one decision apart.
        assert np.mean(other.recognise(frames, gflops=budget).exit_after == left.exit_after) > 0.9


@pytest.mark.parametrize("algorithm", ["ppo", "recurrent-ppo"])
def test_stable_baselines(tmp_path: Path, cache: Cache, algorithm: Any) -> None:
    patches = algorithm == "recurrent-ppo"
    on = write_patch_cache(tmp_path / "cache") if patches else cache
    settings = SB3Settings(
        algorithm,
        "PatchSelect-v0" if patches else None,
        steps=128,
        num_envs=16,
        hyperparameters={"n_steps": 4, "batch_size": 32, "n_epochs": 1},
    )
    model = train_sb3(on, settings, device=DEVICE).model
    assert model.device.type == DEVICE
    model.save(tmp_path / "there.zip")
    here = load_sb3(settings, tmp_path / "there.zip", on, device="cpu")
    here.save(tmp_path / "here.zip")
    back = load_sb3(settings, tmp_path / "here.zip", on, device=DEVICE)
    generator = np.random.default_rng(0)
    observation: dict[str, np.ndarray] = {}
    for key, space in model.observation_space.spaces.items():  # type: ignore[attr-defined]
        shape = (8, *space.shape)
        observation[key] = (
            generator.uniform(-0.5, 0.5, shape).astype(np.float32)
            if key == "state"
            else generator.integers(0, {"video": len(on), "frame": on.num_candidates}.get(key, 2), shape)
        )
    expected, _ = model.predict(observation, deterministic=True)
    for other in (here, back):
        assert other.predict(observation, deterministic=True)[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("consensus", ["max", "mean"])
def test_subset_tables_are_those_of_the_cpu(tmp_path: Path, consensus: str) -> None:
    here, there = (
        add_subset_tables(write_cache(tmp_path / name, tables=False, consensus=consensus), device)
        for name, device in (("here", "cpu"), ("there", DEVICE))
    )
    assert there["subset_confidence"][:] == pytest.approx(here["subset_confidence"][:], abs=1e-3)
    assert np.array_equal(there["subset_prediction"][:], here["subset_prediction"][:])


def test_the_recognizer_learns_what_it_learns_on_the_cpu(tmp_path: Path) -> None:
    found = []
    for name, device in (("here", "cpu"), ("there", DEVICE)):
        cache = write_cache(tmp_path / name, tables=False)
        # Without a hidden layer, whose BatchNorm lets Adam make steps out of rounding.
        training = RecognizerTraining(hidden=0, epochs=5, least_steps=1, batch_size=8, learning_rate=0.05)
        cache = train_recognizer(cache, training, device, overwrite=True)
        found.append(load_recognizer(cache).output.weight.detach().numpy())
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_features_are_those_of_the_cpu(cache: Cache) -> None:
    clips = cache["frames"][:4]
    for build, options, name in (
        (CacheEncoder, {}, "small"),
        (CacheEncoder, {}, "small_skim"),
        (GlanceEncoder, {}, "small_glance"),
        (PatchEncoder, {"patch_size": 8}, "small"),
    ):
        found = []
        for device in ("cpu", DEVICE):
            with seeded(0):
                network = FrameNetwork(name)  # type: ignore[arg-type]
            found.append(build(network, weights="random", frame_size=16, device=device, **options)(clips))  # type: ignore[operator]
        assert found[0].std() > 0
        # Rounding to float16 may fall the other way.
        assert found[1].astype(float) == pytest.approx(found[0].astype(float), rel=2e-3, abs=2e-3), name


def test_patch_selection_is_that_of_the_cpu(tmp_path: Path) -> None:
    cache = write_patch_cache(tmp_path / "cache")
    videos, actions = np.arange(8), np.random.default_rng(1).integers(0, 9, (4, 8))
    told = []
    for device, largest in (("cpu", 1 << 20), (DEVICE, 1 << 20), (DEVICE, 0)):
        task = GridPatchSelect(cache, "train", "contrast", device=device, largest_in_memory=largest)
        assert on_the_device(task.classifier) or device == "cpu"
        state, rewards = task.begin(videos, np.random.default_rng(0)), []
        for action in actions:
            state, reward, _ = task.step(state, action)
            rewards.append(reward)
        told.append((np.stack(rewards), state.recurrent, state.probabilities))
    for other in told[1:]:
        for ours, known in zip(other, told[0], strict=True):
            # The classifier's inputs are kept in float16, whose rounding may fall the other way.
            assert ours == pytest.approx(known, abs=1e-2)


def test_set_probabilities_are_those_of_the_cpu() -> None:
    scores = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for device in ("cpu", DEVICE):
        own = scores.clone().to(device).requires_grad_()
        every = log_probability_of_all_sets(own.log_softmax(-1), 3)
        first = log_set_probability(own.log_softmax(-1), all_sets(8, 3)[:1].expand(5, -1).to(device))
        assert torch.allclose(first, every[:, 0], atol=1e-5)
        (every * torch.arange(every.shape[1], device=device)).sum().backward()
        found.append((every.detach().cpu(), own.grad.cpu()))  # type: ignore[union-attr]
    for ours, known in zip(*found, strict=True):
        assert torch.allclose(ours, known, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", sorted(checks.cases(torch.device("cpu"), Path())))
def test_golden_cases(tmp_path: Path, case: str) -> None:
    checks.require(checks.cases(torch.device(DEVICE), tmp_path)[case]())
