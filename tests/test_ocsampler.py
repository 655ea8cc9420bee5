"""OCSampler: the set's probability by brute force, and learning where the best subset is known."""

import itertools
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.methods import entry_of
from agents.ocsampler.methods import train_to_file as train_ocsampler
from agents.ocsampler.set_probability import (
    all_sets,
    draw_sets,
    log_probability_of_all_sets,
    log_set_probability,
)
from agents.ocsampler.settings import OCSamplerSettings
from agents.ocsampler.training_videos import random_in_segments
from baselines.sb3 import SB3Policy, SB3Settings
from baselines.sb3_files import train_to_file
from baselines.sb3_training import train_sb3
from tests.conftest import interrupt_after, write_known_cache
from tests.entries import saved
from video_env.cache.store import Cache, read_meta, write_meta
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Entry
from video_env.models.stopping import Length


def probability_by_orders(p: list[float], chosen: list[int]) -> float:
    """The sum over all N! orders in which the set could have been drawn."""
    total = 0.0
    for order in itertools.permutations(chosen):
        probability, left = 1.0, 1.0
        for frame in order:
            probability *= p[frame] / left
            left -= p[frame]
        total += probability
    return total


@pytest.mark.parametrize(("num_candidates", "count"), [(5, 1), (6, 2), (10, 6), (7, 7)])
def test_set_probability_is_the_sum_over_orders(num_candidates: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(4, num_candidates, generator=generator, dtype=torch.float64).log_softmax(-1)
    chosen = torch.stack([torch.randperm(num_candidates, generator=generator)[:count] for _ in range(4)])
    expected = [
        probability_by_orders(p.exp().tolist(), c.tolist()) for p, c in zip(log_p, chosen, strict=True)
    ]
    assert log_set_probability(log_p, chosen).exp().tolist() == pytest.approx(expected, rel=1e-9)


def test_set_probabilities_sum_to_one_and_have_the_right_gradient() -> None:
    scores = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    sets = torch.tensor(list(itertools.combinations(range(6), 3)))
    total = log_set_probability(scores.log_softmax(-1).expand(20, -1), sets).exp().sum()
    assert total.item() == pytest.approx(1)
    assert torch.autograd.gradcheck(
        lambda s: log_set_probability(s.log_softmax(-1), torch.tensor([[0, 4, 2]])), scores
    )


@pytest.mark.parametrize(("num_candidates", "count"), [(5, 1), (6, 3), (7, 7), (12, 4)])
def test_all_sets_at_once_agree_with_each_alone(num_candidates: int, count: int) -> None:
    log_p = torch.randn(3, num_candidates, dtype=torch.float64).log_softmax(-1)
    sets = all_sets(num_candidates, count)
    together = log_probability_of_all_sets(log_p, count)
    alone = torch.stack([log_set_probability(log_p, one.expand(3, -1)) for one in sets], dim=-1)
    torch.testing.assert_close(together, alone)
    assert together.exp().sum(-1).tolist() == pytest.approx([1] * 3)


def test_ten_of_sixteen() -> None:
    scores = torch.randn(8, 16, requires_grad=True)
    chosen = torch.stack([torch.randperm(16)[:10] for _ in range(8)])
    value = log_set_probability(scores.log_softmax(-1), chosen)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(scores.grad).all()  # type: ignore[arg-type]
    # The likeliest set, counted among draws.
    log_p = torch.linspace(0, 4, 16, dtype=torch.float64).log_softmax(-1)
    drawn = draw_sets(log_p.expand(400_000, -1), 10, torch.Generator().manual_seed(0))
    likeliest = torch.arange(6, 16)
    frequency = (drawn == likeliest).all(-1).double().mean().item()
    assert log_set_probability(log_p, likeliest).exp().item() == pytest.approx(frequency, abs=0.003)


def test_draws_have_the_set_probabilities() -> None:
    log_p = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03], dtype=torch.float64).log()
    drawn = draw_sets(log_p.expand(200_000, -1), 2, torch.Generator().manual_seed(0))
    for pair in itertools.combinations(range(5), 2):
        frequency = (drawn == torch.tensor(pair)).all(-1).double().mean().item()
        expected = log_set_probability(log_p, torch.tensor(pair)).exp().item()
        assert frequency == pytest.approx(expected, abs=0.004)


def test_set_probability_of_unlikely_frames_keeps_its_digits() -> None:
    log_p = torch.tensor([[40.0, 0.0, -40.0, -80.0]]).log_softmax(-1)
    value = log_set_probability(log_p, torch.tensor([[0, 1]]))
    assert value.exp().item() == pytest.approx(1, rel=1e-5)
    assert torch.isfinite(log_set_probability(log_p, torch.tensor([[2, 3]]))).all()


def test_baseline_draws_one_frame_in_each_segment() -> None:
    drawn = random_in_segments(2000, 7, 3, np.random.default_rng(0))
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [[0, 1], [2, 3], [4, 5, 6]]


def test_ocsampler_finds_the_best_subset(known_cache: Cache) -> None:
    settings = OCSamplerSettings(num_frames=2, length=Length(epochs=25), batch_size=32, learning_rate=1e-2)
    agent = OCSampler(known_cache, settings, device="cpu").learn()
    table = evaluate(entry_of(agent), known_cache, "test")
    best = known_cache.index["best"].iloc[known_cache.rows("test")]
    assert [sorted(chosen) for chosen in table["selected"]] == [list(pair) for pair in best]
    assert table["correct"].all()
    assert table["gflops"].iloc[0] == pytest.approx(6 * 0.01 + 2 * 0.5 + agent.gflops)


def test_saved_agents_come_back(tmp_path: Path, known_cache: Cache) -> None:
    agent = OCSampler(known_cache, OCSamplerSettings(length=Length(epochs=2)), device="cpu").learn()
    agent.save(tmp_path / "agent.pt")
    again = saved(tmp_path / "agent.pt", known_cache, device="cpu").policy
    assert isinstance(again, OCSampler)
    assert (again.training_seconds, again.history) == (agent.training_seconds, agent.history)
    assert len(again.history) == 2
    observation = {"features": known_cache["skim"][:].astype(np.float32)}
    assert np.array_equal(agent.predict(observation)[0], again.predict(observation)[0])
    single, _ = agent.predict({"features": observation["features"][3]})
    assert np.array_equal(single, agent.predict(observation)[0][3])
    drawn = {tuple(agent.predict(observation, deterministic=False)[0][0]) for _ in range(20)}
    assert len(drawn) > 1

    settings = SB3Settings(steps=512, num_envs=16, hyperparameters={"batch_size": 64})
    train_to_file(known_cache, settings, tmp_path / "ppo.zip", device="cpu")
    first, second = (
        evaluate(saved(tmp_path / "ppo.zip", known_cache), known_cache, "test") for _ in range(2)
    )
    assert first["selected"].tolist() == second["selected"].tolist()


def test_a_saved_model_chooses_what_the_trained_one_chose(tmp_path: Path, known_cache: Cache) -> None:
    settings = SB3Settings(steps=2048, num_envs=16, hyperparameters={"batch_size": 64})
    trained = SB3Policy(train_sb3(known_cache, settings, device="cpu").model)
    train_to_file(known_cache, settings, tmp_path / "ppo.zip", device="cpu")
    policy = saved(tmp_path / "ppo.zip", known_cache).policy
    observation = {"video": np.arange(400)[:, None], "selected": np.zeros((400, 6), np.int8)}
    assert np.array_equal(trained.predict(observation)[0], policy.predict(observation)[0])
    # 6 candidates, three convolutions over time (kernels 3, 5, 5) from 4 features and whether it is chosen to 16,
    # and a score of each: counted by hand.
    by_hand = 6 * (3 * 5 * 16 + 2 * 5 * 16 * 16 + 16)
    assert trained.gflops == pytest.approx(by_hand / 1e9)


def test_any_sb3_model_can_be_evaluated(cache: Cache) -> None:
    model = DQN(
        "MultiInputPolicy", gym.make("FrameSelect-v0", cache=cache), learning_starts=10, buffer_size=50
    )
    policy = SB3Policy(model.learn(20))
    table = evaluate(
        Entry("dqn", "DQN", "own", {}, 0, "FrameSelect-v0", policy, {"max_frames": 3}), cache, "test"
    )
    assert len(table) == 8
    assert policy.gflops > 0


def test_files_keep_what_they_hold(tmp_path: Path, known_cache: Cache, cache: Cache) -> None:
    """A finished file is not passed off as an agent of other settings, nor overwritten."""
    settings = OCSamplerSettings(length=Length(epochs=1))
    train_ocsampler(known_cache, settings, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    for other_cache, other in ((known_cache, replace(settings, seed=1)), (cache, settings)):
        with pytest.raises(InputError, match=r"a\.pt: holds an agent that was trained otherwise"):
            train_ocsampler(other_cache, other, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    train_ocsampler(known_cache, settings, tmp_path / "a.pt")  # finished: kept
    assert (tmp_path / "a.pt").read_bytes() == before
    assert (tmp_path / "a.pt").read_bytes() == before
    quick = SB3Settings(steps=64, num_envs=8, hyperparameters={"batch_size": 32})
    train_to_file(known_cache, quick, tmp_path / "b.zip")
    with pytest.raises(InputError, match=r"b\.zip: holds an agent that was trained otherwise"):
        train_to_file(known_cache, replace(quick, algorithm="maskable-ppo"), tmp_path / "b.zip")
    (tmp_path / "b.zip").write_bytes(b"no model")
    with pytest.raises(
        InputError, match=r"b\.zip: its SHA-256 is .* the command that trained it trains it anew"
    ):
        saved(tmp_path / "b.zip", known_cache)


def test_an_agent_does_not_act_on_features_of_another_network(tmp_path: Path) -> None:
    own, other = (write_known_cache(tmp_path / name, videos=40) for name in ("own", "other"))
    train_ocsampler(own, OCSamplerSettings(length=Length(epochs=1)), tmp_path / "a.pt")
    train_to_file(
        own, SB3Settings(steps=64, num_envs=8, hyperparameters={"batch_size": 32}), tmp_path / "b.zip"
    )
    for name in ("a.pt", "b.zip"):
        saved(tmp_path / name, other)
    meta = read_meta(other.path)
    meta["arrays"]["skim"]["source"] = {"network": "small_skim", "weights": "sha256:0123"}
    write_meta(other.path, meta)
    for name in ("a.pt", "b.zip"):
        with pytest.raises(
            InputError,
            match=rf"{name}: cache .* has skim made otherwise .* network small_skim there, elsewhere asked for",
        ):
            saved(tmp_path / name, Cache(other.path))
    with pytest.raises(
        InputError, match=r"a\.pt: holds an agent that was trained otherwise: .*, or delete this"
    ):
        train_ocsampler(Cache(other.path), OCSamplerSettings(length=Length(epochs=2)), tmp_path / "a.pt")


def test_interrupted_training_ends_the_same(
    tmp_path: Path, known_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OCSamplerSettings(length=Length(epochs=6), batch_size=8)
    whole = OCSampler(known_cache, settings, device="cpu").learn()
    checkpoint = tmp_path / "checkpoint"
    interrupt_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        OCSampler(known_cache, settings, device="cpu").learn(checkpoint=checkpoint)
    monkeypatch.undo()
    resumed = OCSampler(known_cache, settings, device="cpu").learn(checkpoint=checkpoint)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert resumed.training_seconds >= resumed.history[-1]["seconds"] > resumed.history[2]["seconds"]
    other = OCSampler(known_cache, OCSamplerSettings(length=Length(epochs=6), batch_size=16), device="cpu")
    with pytest.raises(
        InputError, match=r"checkpoint: made with other settings: batch_size 8 there, 16 asked"
    ):
        other.learn(checkpoint=checkpoint)


def test_bad_settings_and_files(tmp_path: Path, known_cache: Cache) -> None:
    with pytest.raises(InputError, match="num_frames: found 7, expected at most 6"):
        OCSampler(known_cache, OCSamplerSettings(num_frames=7))
    with pytest.raises(InputError, match="num_frames: found 0"):
        OCSamplerSettings(num_frames=0)
    with pytest.raises(InputError, match="reward 'best'"):
        OCSamplerSettings(reward="best")
    with pytest.raises(InputError, match="no such file"):
        OCSampler.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="not a readable agent"):
        OCSampler.load(tmp_path / "text.pt")
    torch.save({"agent": "AdaFocus"}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="found 'AdaFocus', expected an OCSampler"):
        OCSampler.load(tmp_path / "other.pt")
    agent = OCSampler(known_cache, device="cpu")
    with pytest.raises(InputError, match=r"features: found shape \(6, 3\), expected"):
        agent.predict({"features": np.zeros((6, 3))})
