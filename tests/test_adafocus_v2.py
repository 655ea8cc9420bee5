"""AdaFocusV2: its parts against slower recomputations, its training, budgets, files and commands.

All of it in one file, though it is long: its tests share one training.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.augmentation import Augmentation
from agents.adafocus_v2.loss import training_loss
from agents.adafocus_v2.network import AdaFocusV2Network, build_network
from agents.adafocus_v2.recognition import RecognisingNetwork
from agents.adafocus_v2.settings import AdaFocusV2Settings, Ingredients, LearningRates
from agents.adafocus_v2.training import AdaFocusV2Training
from compare.command_line.main import main
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.data.sampling import coarse_to_fine
from video_env.errors import InputError
from video_env.models.backbones import evaluating
from video_env.models.conditional_exit import (
    CRITERIA,
    SCHEDULES,
    ExitRule,
    confidences,
    exit_after,
    exit_shares,
    solve_thresholds,
    thresholds_for,
)
from video_env.models.stopping import Length

SMALL = AdaFocusV2Settings(
    patch_size=12,
    glance_weights="random",
    focus_weights="random",
    hidden=16,
    policy_hidden=8,
    length=Length(epochs=2),
    batch_size=8,
)


def write_frames(out: Path, *, videos: int = 120, num_frames: int = 3) -> Cache:
    """Grey noise with a red square somewhere in every frame; its stripes run across or down, which is the
    class. Scaled down, the stripes are gone."""
    generator = np.random.default_rng(5)
    labels = np.arange(videos) % 2
    frames = generator.integers(90, 150, (videos, num_frames, 32, 32, 1)).repeat(3, axis=-1)
    for video in range(videos):
        for frame in range(num_frames):
            top, left = generator.integers(0, 24, 2)
            square = np.zeros((8, 8, 3))
            stripes = np.arange(8) % 2 == generator.integers(2)
            square[..., 0] = np.where(stripes[:, None] if labels[video] else stripes[None], 255, 110)
            frames[video, frame, top : top + 8, left : left + 8] = square
    split = np.array(["train", "train", "train", "validation", "test"])[np.arange(videos) // 2 % 5]
    index = pd.DataFrame({"video": [f"{n:03d}" for n in range(videos)], "label": labels, "split": split})
    return cache_from_arrays(out, index, {"frames": frames.astype(np.uint8)}, ["down", "across"], {})


@pytest.fixture(scope="module")
def frames_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_frames(tmp_path_factory.mktemp("frames") / "cache")


def small_network(**options: object) -> AdaFocusV2Network:
    settings = replace(SMALL, **options)  # type: ignore[arg-type]
    network = build_network(settings, frame_size=32, num_frames=4, classes=3)
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_reading_order_is_the_published_one() -> None:
    assert coarse_to_fine(16).tolist() == [7, 0, 15, 3, 11, 1, 5, 9, 13, 2, 4, 6, 8, 10, 12, 14]
    assert coarse_to_fine(8).tolist() == [3, 0, 7, 1, 5, 2, 4, 6]
    for count in range(1, 30):
        assert sorted(coarse_to_fine(count)) == list(range(count))


@pytest.mark.parametrize("policy", ["fully_connected", "soft_argmax"])
def test_frame_by_frame_gives_what_one_pass_gives(policy: str) -> None:
    network, frames = small_network(policy=policy).eval(), torch.randn(2, 4, 3, 32, 32)
    carried = None
    with torch.no_grad():
        whole = network(frames)
        for count in range(4):
            logits, points, carried = network.step(frames[:, count : count + 1], carried, count)
            assert torch.allclose(logits, whole.logits[:, count], atol=1e-5)
            assert torch.allclose(points[:, 0], whole.points[:, count], atol=1e-5)
        # Two at a time too.
        _, _, carried = network.step(frames[:, :2], None, 0)
        logits, points, _ = network.step(frames[:, 2:], carried, 2)
    assert torch.allclose(logits, whole.logits[:, -1], atol=1e-5)
    assert torch.allclose(points, whole.points[:, 2:], atol=1e-5)


def gradients(network: AdaFocusV2Network, part: str, **ingredients: bool) -> float:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 4, 3, 32, 32, generator=generator)
    drawn, noise = torch.rand(3, 4, 2, generator=generator), torch.randn(3, 4, 2, generator=generator)
    network.zero_grad(set_to_none=True)
    torch.manual_seed(2)
    training_loss(network, frames, torch.eye(3), drawn, Ingredients(**ingredients), noise).backward()
    found = [p.grad.abs().sum() for p in network.get_submodule(part).parameters() if p.grad is not None]
    return float(sum(found))


def test_each_ingredient_does_what_it_says() -> None:
    network = small_network().train()
    # Auxiliary supervision: without it, the heads of single frames learn nothing.
    assert gradients(network, "glance_head") > 0
    assert gradients(network, "focus_head", auxiliary=False) == 0
    # Diversity: the random points matter only with it.
    frames, targets, points = torch.randn(3, 4, 3, 32, 32), torch.eye(3), torch.rand(2, 3, 4, 2)

    def loss(drawn: torch.Tensor, **ingredients: bool) -> float:
        torch.manual_seed(2)
        return training_loss(network, frames, targets, drawn, Ingredients(**ingredients)).item()

    assert loss(points[0]) != loss(points[1])
    assert loss(points[0], diversity=False) == loss(points[1], diversity=False)
    # Interpolation: the policy learns with it, and by REINFORCE without it; through the patch only with it.
    assert gradients(network, "policy") > 0
    assert gradients(network, "policy", interpolation=False) > 0
    # With the noise at 0 REINFORCE has nothing to say, and no gradient comes through the patch.
    still, drawn = torch.zeros(3, 4, 2), torch.rand(3, 4, 2)
    network.zero_grad(set_to_none=True)
    training_loss(network, frames, targets, drawn, Ingredients(interpolation=False), still).backward()
    assert all(parameter.grad.abs().max() == 0 for parameter in network.policy.parameters())  # type: ignore[union-attr]


def test_reinforce_scores_what_was_drawn_before_it_was_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the frame's edge the patch is the same for every draw beyond it, but the score grows with the draw: else
    its mean would not be zero, and points would be driven away from the edges."""
    network = small_network().train()
    points = torch.zeros(3, 4, 2, requires_grad=True)
    monkeypatch.setattr(network.policy, "forward", lambda maps, *rest: (points, None))
    frames, drawn = torch.randn(3, 4, 3, 32, 32), torch.rand(3, 4, 2)
    found = []
    for noise in (-1.0, -2.0):
        torch.manual_seed(2)
        points.grad = None
        reinforce = Ingredients(interpolation=False)
        training_loss(
            network, frames, torch.eye(3), drawn, reinforce, torch.full((3, 4, 2), noise)
        ).backward()
        assert points.grad is not None
        found.append(points.grad.clone())
    assert found[0].abs().max() > 0
    assert torch.allclose(2 * found[0], found[1], atol=1e-6)


def test_stop_gradient_keeps_the_policy_loss_from_the_glance_network() -> None:
    """The loss of the policy alone: the glance network's gradient with it less that without it."""
    network = small_network(dropout=0.0).train()
    with_policy, without = (gradients(network, "glance", stop_gradient=stop) for stop in (False, True))
    for parameter in network.policy.parameters():
        parameter.data.zero_()  # a policy that looks at nothing, and through which nothing passes
    blind = [gradients(network, "glance", stop_gradient=stop) for stop in (False, True)]
    assert with_policy != pytest.approx(without, rel=1e-4)
    assert blind[0] == pytest.approx(blind[1], rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_thresholds_keep_to_any_budget(criterion: str, schedule: str) -> None:
    logits = np.random.default_rng(0).normal(size=(300, 6, 4)).cumsum(axis=1)
    sure = confidences(logits, criterion)  # type: ignore[arg-type]
    for budget in (1.0, 1.5, 2.5, 4.0, 5.9, 6.0):
        taken = exit_after(sure, thresholds_for(sure, budget, schedule)).mean()  # type: ignore[arg-type]
        assert budget - 0.1 <= taken <= budget
    # A loop over videos, as the rule is stated, gives the same thresholds.
    shares, left, thresholds = exit_shares(0.8, 6), set(range(300)), []
    for frame in range(5):
        chosen = sorted(left, key=lambda video: -sure[video, frame])[: int(300 * shares[frame])]
        thresholds.append(sure[chosen[-1], frame])
        left -= set(chosen)
    assert solve_thresholds(sure, shares)[:-1] == pytest.approx(thresholds)


@pytest.fixture(scope="module")
def trained(frames_cache: Cache) -> AdaFocusV2:
    return AdaFocusV2(frames_cache, replace(SMALL, length=Length(epochs=4))).learn()


def test_it_learns_where_the_class_can_be_read(tmp_path: Path) -> None:
    """One frame a video: a patch that misses the square knows nothing."""
    cache = write_frames(tmp_path / "cache", videos=600, num_frames=1)
    settings = replace(
        SMALL, glance_size=8, policy_hidden=32, length=Length(epochs=20), batch_size=16, dropout=0.0, rates=LearningRates(focus=1.0),
        ingredients=Ingredients(stop_gradient=False), augmentation=Augmentation((1.0,), colour=(0.0, 0.0)),
    )  # fmt: skip
    agent, rows = AdaFocusV2(cache, settings).learn(), cache.rows("test")
    prediction, found = agent.predict({"video": rows})
    assert (prediction == cache.index["label"].to_numpy()[rows]).mean() >= 0.9
    frames = cache["frames"][rows][:, 0].astype(int)
    red = frames[..., 0] - frames[..., 1] > 100
    centre = np.stack(
        [(red * axis).sum(axis=(1, 2)) / red.sum(axis=(1, 2)) for axis in np.mgrid[:32, :32]], -1
    )

    def inside(points: np.ndarray) -> float:
        return float(((centre >= points * 20) & (centre <= points * 20 + 12)).all(axis=-1).mean())

    # Random patches hold the middle of the square in a fifth of the frames. Part of it is enough to read it.
    assert inside(np.random.default_rng(0).random((len(rows), 2))) < 0.25
    assert inside(found.points[:, 0]) > 0.4


def test_history_tells_what_each_round_did(trained: AdaFocusV2) -> None:
    expected = {"seconds", "updates", "loss", "score", "validation"}
    assert [set(row) for row in trained.history] == [expected] * 4
    assert trained.history[-1]["seconds"] == pytest.approx(trained.training_seconds)


def in_one_pass(agent: AdaFocusV2, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network that was trained says after every frame, and where it looks."""
    read = torch.from_numpy(frames)[:, coarse_to_fine(frames.shape[1])].permute(0, 1, 4, 2, 3)
    with evaluating(agent.network):
        output = agent.network(agent.network.normalised(read))
    return output.logits, output.points


def test_a_budget_stops_early_and_computes_no_more(
    trained: AdaFocusV2, frames_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = frames_cache.rows("train")
    frames = frames_cache["frames"][rows]
    looked_at: list[int] = []
    step = RecognisingNetwork.step

    def counting(self: RecognisingNetwork, images: torch.Tensor, *rest: object) -> object:
        looked_at.append(images.shape[0] * images.shape[1])
        return step(self, images, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RecognisingNetwork, "step", counting)
    budget = trained.gflops * 0.7
    _, found = trained.predict({"frames": frames}, gflops=budget)
    assert sum(looked_at) == found.exit_after.sum()
    assert found.gflops.mean() <= budget * (1 + 1e-9)
    assert found.gflops == pytest.approx(trained.gflops * found.exit_after / 3)
    # What one pass over everything says of the same exits.
    logits, points = in_one_pass(trained, frames)
    thresholds = trained.thresholds(budget)
    left = exit_after(confidences(logits.numpy(), "entropy"), thresholds)
    assert (left == found.exit_after).all()
    chosen = logits[torch.arange(len(rows)), torch.from_numpy(left) - 1].softmax(dim=-1)
    assert found.probabilities == pytest.approx(chosen.numpy(), abs=1e-5)
    for video, count in enumerate(left):
        for number, frame in enumerate([1, 0, 2]):
            expected = points[video, number].numpy() if number < count else -1
            assert found.points[video, frame] == pytest.approx(expected, abs=1e-5)


def test_deciding_after_every_second_frame(trained: AdaFocusV2, frames_cache: Cache) -> None:
    frames, rule = frames_cache["frames"][frames_cache.rows("train")], ExitRule(every=2)
    found = trained.recognise(frames, gflops=trained.gflops * 0.8, rule=rule)
    assert set(found.exit_after) == {2, 3}
    assert found.gflops.mean() <= trained.gflops * 0.8
    logits, _ = in_one_pass(trained, frames)
    chosen = logits[torch.arange(len(frames)), torch.from_numpy(found.exit_after) - 1].softmax(dim=-1)
    assert found.probabilities == pytest.approx(chosen.numpy(), abs=1e-5)
    with pytest.raises(InputError, match="the cost of 2 frames, to"):
        trained.recognise(frames, gflops=trained.gflops / 2, rule=rule)
    with pytest.raises(InputError, match="every: found 0"):
        ExitRule(every=0)


def test_impossible_budgets_say_so(trained: AdaFocusV2, frames_cache: Cache) -> None:
    frames = frames_cache["frames"][[0]]
    for budget in (trained.gflops / 4, trained.gflops * 1.1, float("nan")):
        with pytest.raises(InputError, match="the cost of one frame, to .* that of all 3"):
            trained.predict({"frames": frames}, gflops=budget)
    with pytest.raises(InputError, match="criterion 'luck': expected one of confidence, entropy"):
        ExitRule("luck")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="schedule 'luck': expected one of constant, geometric"):
        ExitRule(schedule="luck")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"frames: found uint8 \(1, 2, 32, 32, 3\), expected"):
        trained.predict({"frames": frames[:, :2]})
    with pytest.raises(InputError, match="observation: found glance, expected frames or video"):
        trained.predict({"glance": frames})
    with pytest.raises(InputError, match="has not been trained"):
        AdaFocusV2(frames_cache, SMALL).predict({"frames": frames})


class _Killed(Exception):
    pass


def test_an_interrupted_training_ends_with_the_same_bits(
    tmp_path: Path, frames_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, length=Length(epochs=3), parts=2)
    whole = AdaFocusV2(frames_cache, settings, folder=tmp_path / "whole").learn()
    rounds = []

    def until(self: AdaFocusV2Training, *rest: object) -> dict[str, float]:
        rounds.append(1)
        if len(rounds) == 2:
            raise _Killed
        return do_round(self, *rest)  # type: ignore[arg-type]

    do_round = AdaFocusV2Training._round
    monkeypatch.setattr(AdaFocusV2Training, "_round", until)
    with pytest.raises(_Killed):
        AdaFocusV2(frames_cache, settings, folder=tmp_path / "cut").learn()
    again = AdaFocusV2(frames_cache, settings, folder=tmp_path / "cut").learn()
    for (name, own), other in zip(
        whole.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(own, other), name
    assert [entry["loss"] for entry in whole.history] == [entry["loss"] for entry in again.history]
    with pytest.raises(InputError, match="made with other settings: .*length.epochs 3 there, 4 asked for"):
        AdaFocusV2(frames_cache, replace(settings, length=Length(epochs=4)), folder=tmp_path / "cut").learn()


def test_saved_and_loaded_it_decides_the_same(
    tmp_path: Path, trained: AdaFocusV2, frames_cache: Cache
) -> None:
    trained.save(tmp_path / "agent.pt")
    again = AdaFocusV2.load(tmp_path / "agent.pt", cache=frames_cache)
    frames = frames_cache["frames"][:10]
    for budget in (None, trained.gflops / 2):
        for own, other in zip(
            trained.recognise(frames, gflops=budget), again.recognise(frames, gflops=budget), strict=True
        ):
            assert np.array_equal(own, other)
    other = write_frames(tmp_path / "other", videos=20, num_frames=5)
    with pytest.raises(InputError, match="does not fit cache .*num_frames 5 there, 3 asked for"):
        AdaFocusV2.load(tmp_path / "agent.pt", cache=other)
    (tmp_path / "bad.pt").write_bytes(b"no agent")
    with pytest.raises(InputError, match="not a readable agent"):
        AdaFocusV2.load(tmp_path / "bad.pt", cache=frames_cache)


def test_a_loaded_agent_is_not_trained_on(trained: AdaFocusV2, frames_cache: Cache, tmp_path: Path) -> None:
    trained.save(tmp_path / "agent.pt")
    with pytest.raises(InputError, match="this AdaFocusV2 was loaded"):
        AdaFocusV2.load(tmp_path / "agent.pt", cache=frames_cache).learn()
    with pytest.raises(InputError, match="found no video"):
        trained.predict({"video": np.zeros(0, int)})
    with pytest.raises(InputError, match=r"video: found \[-1\], expected rows 0 to"):
        trained.predict({"video": np.array([-1])})


def test_bad_settings_say_what_is_wrong(frames_cache: Cache) -> None:
    with pytest.raises(InputError, match="patch_size: found 33, expected 1 to 32"):
        AdaFocusV2(frames_cache, replace(SMALL, patch_size=33))
    with pytest.raises(InputError, match="they want frames normalised differently"):
        AdaFocusV2(frames_cache, replace(SMALL, glance="mobilenet_v2"))
    with pytest.raises(InputError, match="focus_weights cache: .* does not hold the weights of a small"):
        AdaFocusV2(frames_cache, replace(SMALL, focus_weights="cache"))
    for options, message in (({"policy": "luck"}, "expected one of fully_connected, soft_argmax"),
                             ({"parts": 9}, "expected at most batch_size 8"),
                             ({"gradient_norm": -1.0}, "gradient_norm: found -1.0, expected 0 or more"),
                             ({"dropout": 1.5}, "dropout: found"), ({"betas": (1.5, 0.9)}, "betas: found"),
                             ({"glance_size": -1}, "glance_size: found -1"),
                             ({"precision": "int8"}, "expected one of float32, bfloat16")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            replace(SMALL, **options)
    with pytest.raises(InputError, match="expected shares from 0.1 to 1"):
        Augmentation((1.5,))
    with pytest.raises(InputError, match="colour: found"):
        Augmentation(colour=(-0.5, 0.0))
    with pytest.raises(InputError, match="glance: found -1"):
        LearningRates(glance=-1.0)


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, frames_cache: Cache) -> None:
    arguments = ["train", "adafocus-v2", f"{frames_cache.path}", "--patch-size", "12", "--focus-weights", "random", "--glance-weights", "random",
                 "--hidden", "16", "--length.epochs", "3", "--batch-size", "8", "--device", "cpu"]  # fmt: skip
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    def run(name: str, parts: int, *launcher: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *launcher, "-m", "compare", *arguments, "--parts", f"{parts}"]
        # Sums over more threads are rounded in another way, which learning magnifies.
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, "--out", f"{tmp_path / name}"],
            env=one_thread,
            capture_output=True,
            text=True,
            timeout=200,
        )

    for name, launcher in (("one", []), ("two", two)):
        ran = run(name, 2, *launcher)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("trained in") == 1
    one, both = (AdaFocusV2.load(tmp_path / name / "agent.pt", cache=frames_cache) for name in ("one", "two"))
    curves = [[entry["loss"] for entry in agent.history] for agent in (one, both)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    # BatchNorm's running statistics too, and so every decision.
    for (name, own), other in zip(
        one.network.state_dict().items(), both.network.state_dict().values(), strict=True
    ):
        # What nothing uses: how often they were updated.
        assert name.endswith("num_batches_tracked") or torch.allclose(own, other, atol=1e-4), name
    refused = run("three", 1, *two)
    assert refused.returncode != 0
    assert "parts: found 1, expected a multiple of the 2 processes" in refused.stderr


def test_commands_from_frames_to_a_result(
    tmp_path: Path, frames_cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "adafocus-v2", f"{frames_cache.path}", "--out", f"{tmp_path / 'agent'}", "--patch-size", "12",
                 "--focus-weights", "random", "--glance-weights", "random", "--hidden", "16", "--length.epochs", "1", "--augmentation.flip",
                 "--precision", "bfloat16", "--policy", "fully_connected"]  # fmt: skip
    assert main(arguments) == 0
    agent = AdaFocusV2.load(tmp_path / "agent" / "agent.pt", cache=frames_cache)
    evaluating = [
        "evaluate",
        "adafocus-v2",
        f"{frames_cache.path}",
        "--agent",
        f"{tmp_path / 'agent' / 'agent.pt'}",
    ]
    assert main([*evaluating, "--out", f"{tmp_path / 'all.parquet'}"]) == 0
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert set(table["title"]) == {"AdaFocusV2, fully connected policy"}
    assert (table["exit_after"] == 3).all()
    assert (table["patches"].map(len) == 6).all()
    budget = f"{agent.gflops / 2}"
    within = [
        *evaluating,
        "--gflops",
        budget,
        "--exit.criterion",
        "confidence",
        "--exit.schedule",
        "geometric",
    ]
    assert main([*within, "--out", f"{tmp_path / 'exit.parquet'}"]) == 0
    left = pd.read_parquet(tmp_path / "exit.parquet")
    assert left[
        ["method", "title", "exit_criterion", "exit_schedule"]
    ].drop_duplicates().to_numpy().tolist() == [
        ["adafocus-v2-exit", "AdaFocusV2, fully connected policy, exit", "confidence", "geometric"]
    ]
    assert (left["selected"].map(len) == left["exit_after"]).all()
    assert left["gflops"].mean() < table["gflops"].mean()
    capsys.readouterr()
    for extra, message in (
        (["--gflops", "9"], "found a budget of 9"),
        (["--exit.criterion", "confidence"], "found a rule without a budget"),
    ):
        assert main([*evaluating, "--out", f"{tmp_path / 'no.parquet'}", *extra]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):  # an option of another kind of agent
        main([*evaluating, "--out", f"{tmp_path / 'no.parquet'}", "--cost-per-gflop", "1"])


def test_compare_puts_both_versions_side_by_side(
    tmp_path: Path, frames_cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [
        "networks.length.epochs",
        "random-patches.length.epochs",
        "policy.length.epochs",
        "fine-tuning.length.epochs",
    ]
    first, second = "--adafocus.training", "--adafocus-v2.training"
    arguments = [
        "compare", f"{frames_cache.path}", "--methods", "adafocus", "adafocus-v2", "--out", f"{tmp_path / 'out'}",
        f"{first}.networks.method", "classify", f"{first}.glance-size", "16", "--jobs", "1",
        *(word for name in short for word in (f"{first}.{name}", "1")), f"{second}.length.epochs", "2",
        "--adafocus.patch-sizes", "12", "--adafocus-v2.patch-sizes", "12", "--adafocus-v2.exit-sizes", "12",
        f"{first}.focus-weights", "random", f"{second}.focus-weights", "random",
        f"{second}.glance-weights", "random",
    ]  # fmt: skip
    assert main(arguments) == 0
    training = pd.read_csv(tmp_path / "out" / "training.csv").set_index("method")
    assert training["stages"].to_dict() == {"adafocus-stage-2": 2, "adafocus": 3, "adafocus-v2": 1}
    assert training["training_seconds"]["adafocus"] > training["training_seconds"]["adafocus-stage-2"] > 0
    learning = pd.read_csv(tmp_path / "out" / "learning.csv")
    assert learning.groupby("method").size().to_dict() == {"adafocus": 2, "adafocus-v2": 2}
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert (summary["method"] == "adafocus-v2-exit").sum() == 4
    assert {"curve.png", "learning.png"} <= {file.name for file in (tmp_path / "out").iterdir()}
    # Again: nothing is trained anew, and the times are those of the training.
    assert main(arguments) == 0
    assert pd.read_csv(tmp_path / "out" / "training.csv").set_index("method").equals(training)
    capsys.readouterr()
    for wrong, message in (
        (["--split", "tset"], "tset"),
        (["--adafocus-v2.exit-shares", "0.5", "0.5"], "exit_shares: found"),
        (
            ["--adafocus-v2.training.hidden", "8"],
            "other settings: adafocus-v2.training.hidden 128 there, 8 asked for",
        ),
    ):
        elsewhere = ["--out", f"{tmp_path / 'new'}"] if "shares" in wrong[0] else []
        assert main([*arguments, *wrong, *elsewhere]) == 2
        assert message in capsys.readouterr().err
