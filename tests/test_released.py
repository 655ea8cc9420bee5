"""The published OCSampler against its golden case and the costs that the paper's models have."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.released import ReleasedOCSampler
from agents.ocsampler.settings import PUBLISHED
from agents.released import load_released
from compare.command_line.main import main
from tests.golden import checks
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.cost import count_gflops
from video_env.models.temporal_shift import temporal_shift


def close(ours: torch.Tensor | np.ndarray, recorded: np.ndarray) -> bool:
    """Within 1e-3 of the recorded output's scale."""
    return bool(np.abs(np.asarray(ours) - recorded).max() <= 1e-3 * np.abs(recorded).max())


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return checks.ocsampler_state()


@pytest.fixture(scope="module")
def network(state: dict[str, torch.Tensor]) -> ReleasedOCSampler:
    return load_released("ocsampler", state, num_frames=6, shift_div=10)


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return checks.frames_of(checks.OCSAMPLER)


def test_golden_choice_and_scores(network: ReleasedOCSampler, frames: torch.Tensor) -> None:
    assert not network.training
    checks.require(checks.ocsampler_choice_and_scores(network, frames))


def test_golden_loss_and_gradient(tmp_path: Path, network: ReleasedOCSampler, frames: torch.Tensor) -> None:
    checks.require(checks.ocsampler_loss_and_gradient(network, frames, tmp_path))


@pytest.mark.parametrize(("num_frames", "gflops"), [(6, 25.55), (5, 21.46)])
def test_counted_cost_is_the_published_one(num_frames: int, gflops: float) -> None:
    network = ReleasedOCSampler(200, num_frames=num_frames)
    assert count_gflops(network, torch.empty(1, 10, 3, 224, 224)) == pytest.approx(gflops, rel=0.005)


def test_published_settings() -> None:
    """The released settings as the released code has them."""
    settings = PUBLISHED
    assert (settings.num_frames, settings.temporal_shift, settings.entropy) == (6, 10, 0.1)
    assert (settings.optimiser, settings.learning_rate, settings.momentum) == ("sgd", 0.005, 0.9)
    assert (settings.weight_decay, settings.gradient_norm) == (1e-4, 40)
    assert (settings.length.epochs, settings.batch_size, settings.policy) == (50, 40, "linear")


def test_temporal_shift_by_hand() -> None:
    """Channel by channel, with a loop: from the next frame, from the previous one, unmoved."""
    maps = torch.randn(2, 4, 7, 1, 1)
    shifted = temporal_shift(maps.flatten(0, 1), num_frames=4, shift_div=3).unflatten(0, (2, 4))
    for frame in range(4):
        for channel in range(7):
            source = frame + (1 if channel < 2 else -1 if channel < 4 else 0)
            expected = maps[:, source, channel] if 0 <= source < 4 else torch.zeros(2, 1, 1)
            assert torch.equal(shifted[:, frame, channel], expected), (frame, channel)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "meta": {"epoch": 3}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    ],
)
def test_a_file_is_read_like_the_dict(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    network: ReleasedOCSampler,
    wrap: Callable[[dict[str, torch.Tensor]], dict[str, object]],
) -> None:
    torch.save(wrap(state), tmp_path / "released.pth")
    again = load_released("ocsampler", tmp_path / "released.pth")
    for (name, tensor), other in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


def test_sizes_come_from_the_checkpoint(state: dict[str, torch.Tensor]) -> None:
    smaller = dict(state)
    for name in ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
                 "layers.1.running_mean", "layers.1.running_var"):  # fmt: skip
        smaller[f"cls_head.{name}"] = state[f"cls_head.{name}"][:32]
    smaller["cls_head.fc.weight"] = state["cls_head.fc.weight"][:7, :32]
    smaller["cls_head.fc.bias"] = state["cls_head.fc.bias"][:7]
    network = load_released("ocsampler", smaller, num_frames=2, shift_div=8)
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 3, 64, 64))
    assert output.scores.shape == (1, 7)
    assert output.frames.shape == (1, 2)


def test_checkpoints_that_do_not_fit(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    wrong = dict(state)
    del wrong["sampler.layer2.1.conv.0.net.conv.weight"], wrong["cls_head.fc.weight"]
    wrong["glancer.net.weight"] = torch.zeros(1)
    wrong["sampler.logit.weight"] = torch.zeros(1, 64)
    wrong["cls_head.fc.bias"] = torch.full_like(state["cls_head.fc.bias"], float("nan"))
    with pytest.raises(InputError) as caught:
        load_released("ocsampler", wrong)
    for part in ("missing sampler.layer2.1.conv.0.net.conv.weight", "missing cls_head.fc.weight",
                 "unexpected glancer.net.weight", "sampler.logit.weight has shape (1, 64), expected (1, 1280)",
                 "cls_head.fc.bias has values that are not finite", "5 entries do not fit"):  # fmt: skip
        assert part in str(caught.value)
    for options, message in (({"num_frames": 0}, "num_frames: found 0"), ({"shift_div": 0}, "shift_div: found 0"),
                             ({"patch_size": 96}, "patch_size")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_released("ocsampler", state, **options)
    with pytest.raises(InputError, match="expected one of ocsampler"):
        load_released("adaframe", state)
    with pytest.raises(InputError, match="no such file"):
        load_released("ocsampler", tmp_path / "none.pth")
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"half\.pth: not a readable state dict"):
        load_released("ocsampler", tmp_path / "half.pth")
    with pytest.raises(InputError, match="expected a dict of tensors"):
        load_released("ocsampler", {"state_dict": {"epoch": 3}})


def test_frames_that_do_not_fit(network: ReleasedOCSampler) -> None:
    for shape in ((1, 5, 3, 64, 64), (10, 3, 64, 64), (1, 10, 1, 64, 64)):
        with pytest.raises(InputError, match="frames: found shape"):
            network(torch.zeros(shape))


def test_an_agent_from_a_checkpoint_chooses_what_the_checkpoint_chooses(
    tmp_path: Path, network: ReleasedOCSampler
) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (5, 10, 64, 64, 3), dtype=np.uint8)
    index = pd.DataFrame({"video": list("abcde"), "label": 0, "split": "test"})
    cache = cache_from_arrays(tmp_path / "cache", index, {"frames": pixels}, ["a"], {"embedding": 1.0})
    agent = OCSampler.from_released(network, cache, device="cpu")
    action, _ = agent.predict({"video": np.arange(5)[:, None]})
    chosen = np.sort(np.argsort(-action, axis=1)[:, :6], axis=1)
    scaled = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).float() / 255
    with torch.no_grad():
        log_p = network.log_probabilities((scaled - network.skim.mean) / network.skim.deviation)
    assert chosen.tolist() == log_p.topk(6).indices.sort().values.tolist()
    by_hand = agent.predict({"frames": pixels[2]})[0]
    assert np.array_equal(by_hand, action[2])
    agent.save(tmp_path / "agent.pt")
    again = OCSampler.load(tmp_path / "agent.pt", cache=cache, device="cpu")
    assert np.array_equal(again.predict({"video": np.arange(5)[:, None]})[0], action)
    whole = 10 * 0.0985 + 1e-5  # ten frames of MobileNetV2 at 128x128 and the linear layer
    assert agent.gflops == pytest.approx(whole, rel=0.02)
    few = cache_from_arrays(tmp_path / "few", index, {"frames": pixels[:, :4]}, ["a"], {"embedding": 1.0})
    with pytest.raises(InputError, match="num_frames: found 6, expected at most 4"):
        OCSampler.from_released(network, few)


def test_two_commands_from_a_released_file_to_a_result(
    tmp_path: Path,
    demo_videos: Path,
    state: dict[str, torch.Tensor],
    network: ReleasedOCSampler,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.read_csv(demo_videos / "annotations.csv")
    table = table[table["split"] == "test"].head(4)
    table["label"] = [3, 199, 0, 7]
    table.to_csv(tmp_path / "annotations.csv", index=False)
    torch.save({"state_dict": state}, tmp_path / "released.pth")
    data = ["--videos", str(demo_videos / "videos"), "--annotations", str(tmp_path / "annotations.csv")]
    build = [
        "cache",
        "released-ocsampler",
        *data,
        "--out",
        str(tmp_path / "cache"),
        "--checkpoint",
        str(tmp_path / "released.pth"),
    ]
    assert main(build) == 0
    assert main(build) == 0  # again: nothing to be done
    evaluated = [
        "evaluate",
        "released-ocsampler",
        str(tmp_path / "cache"),
        "--checkpoint",
        str(tmp_path / "released.pth"),
    ]
    assert main([*evaluated, "--num-frames", "6", "--out", str(tmp_path / "results.parquet")]) == 0
    assert "not the checkpoint's own" not in capsys.readouterr().out
    results = pd.read_parquet(tmp_path / "results.parquet")

    cache = Cache(tmp_path / "cache")
    pixels = torch.from_numpy(cache["frames"][:])
    with torch.no_grad():
        output = network(network.embedding.prepare(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]))
    assert [list(chosen) for chosen in results["selected"]] == output.frames.tolist()
    assert close(np.stack(results["scores"].to_list()), output.scores.numpy())
    assert results["gflops"].to_numpy() == pytest.approx(25.55, rel=0.005)
    assert results["title"].iloc[0] == "OCSampler, released"

    table["label"] = [3, 200, 0, 7]
    table.to_csv(tmp_path / "annotations.csv", index=False)
    assert main([*build[:7], str(tmp_path / "other"), *build[8:]]) == 2
    assert "labels up to 200, expected the 200 classes" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main([*evaluated, "--num-frames", "11", "--out", str(tmp_path / "no.parquet")]) == 2
    assert "num_frames: found 11, expected at most 10" in capsys.readouterr().err
