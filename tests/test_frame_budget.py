"""OCSampler beyond cached features and a fixed N: from frames, with a budget, by the exact gradient."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.frame_budget import (
    BudgetTraining,
    FrameBudget,
    RankedVideos,
    choose_numbers,
    right_by_number,
    sufficient_frames,
    train_budget,
)
from agents.ocsampler.methods import entry_of, train_to_file
from agents.ocsampler.set_probability import log_set_probability
from agents.ocsampler.settings import OCSamplerSettings
from agents.ocsampler.training import OCSamplerTraining
from agents.ocsampler.training_videos import SplitVideos
from tests.conftest import GFLOPS, interrupt_after
from tests.entries import saved
from video_env.cache.changes import add_arrays
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache, read_meta, write_meta
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.models.recognizers import Recognizer, store_recognizer
from video_env.models.stopping import Length
from video_env.models.training_loop import is_finished
from video_env.models.verdicts import Verdicts

FROM_FRAMES = OCSamplerSettings(
    skim="small_skim", skim_weights="random", length=Length(epochs=8), batch_size=32, learning_rate=1e-2
)


def write_needing_cache(out: Path, *, videos: int = 400, num_candidates: int = 6) -> Cache:
    """Each video needs one marked frame or two, which its features and its frames show: green is enough by
    itself; where there are two reds, both are needed. The recognizer is right from then on."""
    generator = np.random.default_rng(3)
    rows = np.arange(videos)
    two = generator.random(videos) < 0.5
    best = np.stack([generator.permutation(num_candidates)[:2] for _ in rows])
    skim = generator.normal((0, 0, 1), 0.05, (videos, num_candidates, 3))
    frames = generator.integers(0, 40, (videos, num_candidates, 16, 16, 3), dtype=np.uint8)
    for row in rows:
        marked, channel = (best[row], 0) if two[row] else (best[row, :1], 1)
        skim[row, marked, channel] += 1
        skim[row, marked, 2] -= 1
        frames[row, marked, :, :, channel] = 220
    index = pd.DataFrame(
        {
            "video": [f"needing-{row:03d}" for row in rows],
            "label": generator.integers(2, size=videos),
            "split": np.where(rows < videos * 3 // 4, "train", "test"),
            "needs": np.where(two, 2, 1),
        }
    )
    arrays = {
        "skim": skim.astype(np.float16),
        "frames": frames,
        "embedding": np.zeros((videos, num_candidates, 4), np.float16),
    }
    cache = cache_from_arrays(out, index, arrays, ["a", "b"], GFLOPS)
    subsets = ((np.arange(2**num_candidates)[:, None] >> np.arange(num_candidates)) & 1).astype(bool)
    first, second = subsets[:, best[:, 0]].T, subsets[:, best[:, 1]].T
    enough = np.where(two[:, None], first & second, first)
    labels = index["label"].to_numpy()[:, None]
    prediction = np.where(enough, labels, 1 - labels)
    prediction[:, 0] = -1

    def compute(shard: slice) -> dict[str, np.ndarray]:
        confidence = np.where(enough, 0.95, 0.05)[shard].astype(np.float16)
        return {"subset_confidence": confidence, "subset_prediction": prediction[shard].astype(np.int16)}

    torch.manual_seed(0)
    cache = store_recognizer(cache, Recognizer(4, 2, hidden=0), {"hidden": 0.0, "output": 0.0})
    return add_arrays(cache, ("subset_confidence", "subset_prediction"), compute, source={"made": "by hand"})


@pytest.fixture(scope="module")
def needing(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_needing_cache(tmp_path_factory.mktemp("needing") / "cache")


def test_the_smallest_number_that_is_right_and_stays_right() -> None:
    right = np.array(list(itertools.product([False, True], repeat=5)))

    def by_rule(row: np.ndarray) -> int:
        return next((n for n in range(1, 6) if row[n - 1 :].all()), 6)

    assert sufficient_frames(right).tolist() == [by_rule(row) for row in right]


def test_a_lost_video_gets_one_frame() -> None:
    """Every second video is right on three frames, the others on none; one feature tells them apart."""
    lost = np.arange(64) % 2 == 1
    features = torch.from_numpy(np.where(lost, 1.0, -1.0)).float()[:, None, None] * torch.tensor([1.0, -1.0])
    features = features.expand(-1, 6, -1)
    log_p = torch.full((64, 6), -np.log(6))
    torch.manual_seed(0)
    head = FrameBudget(2, 6)
    enough = sufficient_frames(np.where(lost[:, None], False, np.arange(6) >= 2))
    train_budget(head, RankedVideos(features, log_p, enough), BudgetTraining(Length(epochs=40), 16, 1e-2, 0))
    with torch.no_grad():
        numbers = choose_numbers(head(features, log_p), cost_per_frame=0.05).numpy()
    assert (numbers == np.where(lost, 1, 3)).all()


def test_right_by_number_asks_for_the_best_frames(needing: Cache) -> None:
    verdicts = Verdicts(needing, needing.rows("test"))
    ranked = np.random.default_rng(0).permuted(np.tile(np.arange(6), (100, 1)), axis=1)
    right = right_by_number(verdicts, np.arange(100), ranked)
    for video, number in itertools.product(range(0, 100, 7), range(1, 7)):
        mask = sum(1 << int(frame) for frame in ranked[video, :number])
        row = needing.rows("test")[video]
        assert right[video, number - 1] == (
            needing["subset_prediction"][int(row)][mask] == needing.labels[row]
        )


def test_a_number_is_chosen_by_what_it_is_worth() -> None:
    chance = torch.tensor([[0.2, 0.7, 0.8, 0.81]])
    assert [int(choose_numbers(chance.logit(), cost)) for cost in (0.0, 0.05, 0.2, 0.6)] == [4, 3, 2, 1]


def test_the_budget_gives_each_video_what_it_needs(tmp_path: Path, needing: Cache) -> None:
    settings = OCSamplerSettings(
        num_frames=2, cost_per_gflop=0.4, length=Length(epochs=25), batch_size=32, learning_rate=1e-2
    )
    train_to_file(needing, settings, tmp_path / "agent.pt", device="cpu")
    table = evaluate(saved(tmp_path / "agent.pt", needing), needing, "test")
    needs = needing.index["needs"].iloc[needing.rows("test")].to_numpy()
    assert table["correct"].mean() >= 0.97
    assert (table["frames"] == needs).mean() >= 0.95
    assert table["method"].iloc[0] == "ocsampler-budget"
    assert table["cost_per_gflop"].eq(0.4).all()
    agent = OCSampler.load(tmp_path / "agent.pt", cache=needing, device="cpu")
    spent = table["gflops"] - table["frames"] * GFLOPS["embedding"]
    assert spent.to_numpy() == pytest.approx(6 * GFLOPS["skim"] + agent.gflops)
    # The knob is turned after training: a frame that is worth nothing is not taken, a free one is.
    dear, free = (
        evaluate(saved(tmp_path / "agent.pt", needing, cost_per_gflop=cost, device="cpu"), needing, "test")
        for cost in (100.0, 0.0)
    )
    assert (dear["frames"] == 1).all()
    assert free["frames"].mean() > table["frames"].mean()
    action, _ = agent.predict({"features": needing["skim"][0].astype(np.float32)})
    assert action.dtype == np.int8
    assert set(action.tolist()) == {0, 1}
    fixed = OCSampler(needing, OCSamplerSettings(length=Length(epochs=1)), device="cpu")
    with pytest.raises(InputError, match="no frame-number budget"):
        fixed.cost_per_gflop = 1.0


def test_exact_loss_is_the_sum_over_sets(needing: Cache) -> None:
    agent = OCSampler(needing, OCSamplerSettings(num_frames=3, estimator="exact"), device="cpu")
    videos = SplitVideos(needing, "train", "confidence", None, agent.device)
    batch = np.array([4, 9])
    log_p = agent.policy(videos.features(batch))
    training = OCSamplerTraining(agent.policy, None, None, agent.settings, agent.device)
    loss, expected = training.exact_loss(videos, batch, log_p, 3)
    table, total = needing["subset_confidence"][needing.rows("train")[batch]], 0.0
    for chosen in itertools.combinations(range(6), 3):
        probability = log_set_probability(log_p, torch.tensor([chosen, chosen])).exp().detach().numpy()
        total += (probability * table[:, sum(1 << frame for frame in chosen)]).mean()
    assert expected == pytest.approx(total, rel=1e-4)
    assert loss.item() == pytest.approx(-total, rel=1e-4)


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_training_from_frames_finds_what_they_show(needing: Cache, estimator: str) -> None:
    settings = replace(FROM_FRAMES, estimator=estimator)  # type: ignore[arg-type]
    agent = OCSampler(needing, settings, device="cpu")
    before = [parameter.clone() for parameter in agent.skim.parameters()]  # type: ignore[union-attr]
    agent.learn()
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.skim.parameters(), strict=True))  # type: ignore[union-attr]
    table = evaluate(entry_of(agent), needing, "test")
    assert table["correct"].mean() >= 0.95
    # It skims by itself: its own network is charged, the cache's skimming is not.
    assert table["gflops"].iloc[0] == pytest.approx(2 * GFLOPS["embedding"] + agent.gflops)
    assert agent.gflops > 6 * 1e-4


def test_interrupted_training_from_frames_ends_the_same(
    tmp_path: Path, needing: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(
        FROM_FRAMES,
        length=Length(epochs=4),
        cost_per_gflop=0.4,
        budget_length=Length(epochs=2),
    )
    whole = OCSampler(needing, settings, device="cpu").learn()
    for saves in (2, 2, 1):  # two epochs, the other two, and the budget
        interrupt_after(saves, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            OCSampler(needing, settings, device="cpu").learn(checkpoint=tmp_path / "checkpoint")
        monkeypatch.undo()
    assert is_finished(tmp_path / "checkpoint")
    resumed = OCSampler(needing, settings, device="cpu").learn(checkpoint=tmp_path / "checkpoint")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_the_published_recipe_trains(needing: Cache) -> None:
    """MobileNetV2 with temporal shift by SGD, from random weights here, on a few videos."""
    settings = OCSamplerSettings(
        num_frames=2, skim="mobilenet_v2", skim_weights="random", temporal_shift=10, interpolation="nearest",
        policy="linear", reward="largest_probability", draws=1, entropy=0.1, length=Length(epochs=1), batch_size=40,
        optimiser="sgd", learning_rate=0.005, weight_decay=1e-4,
    )  # fmt: skip
    agent = OCSampler(needing, settings, device="cpu")
    videos = SplitVideos(needing, "train", settings.reward, agent.skim, agent.device)
    training = OCSamplerTraining(agent.policy, agent.skim, None, settings, agent.device)
    generator = np.random.default_rng(0)
    log_p = agent.policy(videos.features(np.arange(4), generator))
    draws = torch.Generator().manual_seed(0)
    loss, _ = training.sampled_loss(videos, np.arange(4), log_p, 2, generator, draws)
    loss.backward()
    assert isinstance(training.optimiser, torch.optim.SGD)
    assert agent.skim is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in agent.skim.parameters())


def test_training_takes_the_other_draws_in_turn(tmp_path: Path, needing: Cache) -> None:
    other = write_needing_cache(tmp_path / "other")
    agent = OCSampler(
        needing, OCSamplerSettings(length=Length(epochs=2)), drawn=[needing, other], device="cpu"
    )
    assert agent.trained_on.endswith("drawn 2 times")
    agent.learn()
    strange = write_needing_cache(tmp_path / "strange", num_candidates=5)
    with pytest.raises(InputError, match="strange: expected another draw of the training videos"):
        OCSampler(needing, drawn=[strange])
    meta = read_meta(other.path)
    meta["arrays"]["skim"]["source"] = {"network": "small_skim", "weights": "sha256:0123"}
    write_meta(other.path, meta)
    with pytest.raises(InputError, match=r"other: expected another draw .* and skim network"):
        OCSampler(needing, drawn=[Cache(other.path)])


def test_mirroring_is_of_whole_videos(needing: Cache) -> None:
    agent = OCSampler(needing, FROM_FRAMES, device="cpu")
    videos = SplitVideos(needing, "train", FROM_FRAMES.reward, agent.skim, agent.device)
    seen: list[torch.Tensor] = []
    agent.skim.look = lambda images: seen.append(images) or images.mean(dim=(2, 3, 4))  # type: ignore[method-assign,union-attr]
    videos.features(np.arange(20))
    videos.features(np.arange(20), np.random.default_rng(0))
    plain, mirrored = seen
    kinds = []
    for before, after in zip(plain, mirrored, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))
        kinds.append(torch.equal(after, before))
    assert 3 < sum(kinds) < 17


def test_what_cannot_be_trained_says_why(tmp_path: Path, known_cache: Cache, needing: Cache) -> None:
    with pytest.raises(InputError, match="no array 'frames'; it has"):
        OCSampler(known_cache, FROM_FRAMES)
    with pytest.raises(
        InputError, match="skim_weights cache: (?s:.*) does not hold the weights of a small_skim"
    ):
        OCSampler(needing, replace(FROM_FRAMES, skim_weights="cache"))
    with pytest.raises(InputError, match="weights file .*none.pth: no such file"):
        OCSampler(needing, replace(FROM_FRAMES, skim_weights=str(tmp_path / "none.pth")))
    for options, message in (({"estimator": "best"}, "estimator 'best'"), ({"temporal_shift": 8}, "temporal_shift 8"),
                             ({"cost_per_gflop": -1.0}, "cost_per_gflop: found -1"), ({"skim": "vgg"}, "network 'vgg'"),
                             ({"optimiser": "lion"}, "optimiser 'lion'"), ({"policy": "deep"}, "policy 'deep'")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            OCSamplerSettings(**options)  # type: ignore[arg-type]
    agent = OCSampler(needing, FROM_FRAMES, device="cpu")
    agent.save(tmp_path / "agent.pt")
    alone = OCSampler.load(tmp_path / "agent.pt", device="cpu")
    for loaded in (alone, OCSampler.load(tmp_path / "agent.pt", cache=needing, device="cpu")):
        with pytest.raises(InputError, match="was loaded; to train one, make a new OCSampler"):
            loaded.learn()
    with pytest.raises(InputError, match="found video, expected frames, or video where"):
        alone.predict({"video": np.array([0])})
    with pytest.raises(InputError, match=r"frames: found shape \(3, 16, 16, 3\)"):
        alone.predict({"frames": np.zeros((3, 16, 16, 3), np.uint8)})
    with pytest.raises(InputError, match="found features, expected frames"):
        alone.predict({"features": np.zeros((6, 3))})
