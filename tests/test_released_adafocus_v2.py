"""The published AdaFocusV2 against its golden cases and the costs that the paper's models have."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.released import build_released, released_name
from agents.released import load_released
from compare.command_line.main import main
from tests import golden
from tests.golden import checks
from tests.test_released import close
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.metrics import mean_average_precision
from video_env.models.conditional_exit import (
    CRITERIA,
    confidences,
    exit_after,
    exit_shares,
    solve_thresholds,
)
from video_env.models.cost import count_gflops


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return golden.state_dict(checks.ADAFOCUS_V2)


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return checks.frames_of(checks.ADAFOCUS_V2)


@pytest.fixture
def network(state: dict[str, torch.Tensor]) -> AdaFocusV2Network:
    return load_released("adafocus-v2", state, patch_size=96)  # type: ignore[return-value]


def test_golden_positions_and_scores(network: AdaFocusV2Network, frames: torch.Tensor) -> None:
    assert not network.training
    checks.require(checks.adafocus_v2_positions_and_scores(network, frames))


def test_golden_loss_and_gradients(network: AdaFocusV2Network, frames: torch.Tensor) -> None:
    checks.require(checks.adafocus_v2_loss_and_gradients(network, frames))


@pytest.mark.parametrize(("glance", "costs"), [("mobilenet_v2", (17.615, 26.957, 38.968)),
                                               ("resnet50", (24.757, 34.099, 46.111))])  # fmt: skip
def test_counted_cost_is_the_published_one(glance: str, costs: tuple[float, ...]) -> None:
    for patch_size, gflops in zip((96, 128, 160), costs, strict=True):
        network = build_released(glance=glance, patch_size=patch_size)
        counted = count_gflops(network, torch.empty(1, 16, 3, 224, 224))
        assert counted == pytest.approx(gflops, rel=0.005), patch_size


@pytest.mark.parametrize("criterion", CRITERIA)
def test_golden_exits(criterion: str) -> None:
    _, recorded = golden.read(checks.EXIT)
    known, unseen = (confidences(recorded[name], criterion) for name in ("train_logits", "val_logits"))  # type: ignore[arg-type]
    labels, costs = np.asarray(recorded["val_labels"]), np.asarray(recorded["exit_gflops"], np.float64)
    for number, ratio in enumerate(np.asarray(recorded["ratios"])):
        thresholds = solve_thresholds(known, exit_shares(ratio, 16))
        # Exact, but for the entropy's own rounding in float32.
        assert thresholds == pytest.approx(
            np.asarray(recorded[f"{criterion}/thresholds"][number]),
            abs=0 if criterion == "confidence" else 5e-7,
        )
        left = exit_after(unseen, thresholds)
        assert (
            np.bincount(left, minlength=17)[1:] == np.asarray(recorded[f"{criterion}/exits"][number])
        ).all()
        assert costs[left - 1].mean() == pytest.approx(
            float(recorded[f"{criterion}/gflops"][number]), rel=1e-6
        )
        scores = torch.as_tensor(recorded["val_logits"][np.arange(len(labels)), left - 1])
        top1 = 100 * (scores.argmax(dim=-1).numpy() == labels).mean()
        assert top1 == pytest.approx(float(recorded[f"{criterion}/top1"][number]), abs=1e-9)
        precision = mean_average_precision(labels[:, None] == np.arange(10), scores.softmax(dim=-1).numpy())
        assert 100 * precision == pytest.approx(float(recorded[f"{criterion}/map"][number]), abs=1e-3)


def released(network: AdaFocusV2Network) -> dict[str, torch.Tensor]:
    """A released state dict: other names, and the ImageNet heads that nothing uses."""
    state = {released_name(name): tensor for name, tensor in network.state_dict().items()}
    return {**state, "local_CNN.fc.weight": torch.zeros(1000, 2048), "local_CNN.fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("glance", ["mobilenet_v2", "resnet50"])
def test_sizes_are_inferred_from_shapes(tmp_path: Path, glance: str) -> None:
    known = build_released(
        glance=glance, patch_size=64, num_classes=7, num_frames=3, policy_hidden=24, hidden=40
    ).eval()
    file = tmp_path / "released.pth.tar"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in released(known).items()}}, file)
    loaded = load_released("adafocus-v2", file, patch_size=64)
    assert isinstance(loaded, AdaFocusV2Network)
    assert (loaded.glance.name, loaded.classes, loaded.num_frames) == (glance, 7, 3)
    frames = torch.randn(1, 3, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(loaded(frames), known(frames), strict=True):
            assert torch.equal(ours, theirs)


def test_checkpoints_that_do_not_fit(state: dict[str, torch.Tensor], network: AdaFocusV2Network) -> None:
    wrong = dict(state)
    del wrong["policy_stn.gru.weight_ih_l0"]
    wrong["classifier.mlp.layers.0.weight"] = torch.zeros(4096, 1280)
    wrong["sampler.logit.weight"] = torch.zeros(1, 64)
    with pytest.raises(InputError) as caught:
        load_released("adafocus-v2", wrong, patch_size=96)
    for part in ("3 entries do not fit", "missing policy_stn.gru.weight_ih_l0", "unexpected sampler.logit.weight",
                 "classifier.mlp.layers.0.weight has shape (4096, 1280), expected (4096, 3328)"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(InputError, match="patch_size: found 225, expected 1 to 224"):
        load_released("adafocus-v2", state, patch_size=225)
    with pytest.raises(InputError, match="num_classes"):
        load_released("adafocus-v2", state, num_classes=16)
    with pytest.raises(InputError, match=r"frames: found shape \(1, 8, 3, 224, 224\), expected \[B, 16"):
        network(torch.zeros(1, 8, 3, 224, 224))


def test_two_commands_from_a_released_file_to_a_result(
    tmp_path: Path, demo_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = pd.read_csv(demo_videos / "annotations.csv")
    few = annotations[annotations["split"] == "train"].iloc[:4]
    few.assign(label=range(4)).to_csv(tmp_path / "few.csv", index=False)
    torch.manual_seed(1)
    known = build_released(patch_size=48, num_classes=4, num_frames=3, policy_hidden=16, hidden=32).eval()
    file = tmp_path / "released.pth.tar"
    torch.save({"state_dict": released(known)}, file)
    cache = tmp_path / "cache"
    common = ["--patch-size", "48", "--device", "cpu"]
    arguments = ["cache", "released-adafocus-v2", "--videos", f"{demo_videos / 'videos'}", "--annotations",
                 f"{tmp_path / 'few.csv'}", "--out", f"{cache}", "--checkpoint", f"{file}",
                 "--num-candidates", "3", "--frame-size", "224", *common]  # fmt: skip
    assert main(arguments) == 0
    evaluating = [
        "evaluate",
        "released-adafocus-v2",
        f"{cache}",
        "--checkpoint",
        f"{file}",
        "--split",
        "train",
        *common,
    ]
    assert main([*evaluating, "--out", f"{tmp_path / 'all.parquet'}"]) == 0
    table = pd.read_parquet(tmp_path / "all.parquet")
    opened = Cache(cache)
    pixels = torch.from_numpy(opened["frames"][opened.rows("train")]).permute(0, 1, 4, 2, 3).float() / 255
    # The order in which three frames are read: the middle one, the first, the last.
    images = ((pixels - known.focus.mean) / known.focus.deviation)[:, [1, 0, 2]]
    with torch.no_grad():
        output = known(images)
    assert close(
        torch.tensor(np.stack(table["scores"].to_list())), output.logits[:, -1].softmax(dim=-1).numpy()
    )
    in_time = output.points[:, [1, 0, 2]].flatten(1).numpy()
    assert close(torch.tensor(np.stack(table["patches"].to_list())), in_time)
    assert table["gflops"].iloc[0] == pytest.approx(count_gflops(known, images[:1]), rel=1e-3)
    assert set(table["title"]) == {"AdaFocusV2, released"}
    # With a budget of two of the three frames.
    budget = table["gflops"].iloc[0] * 2 / 3
    arguments = [*evaluating, "--out", f"{tmp_path / 'exit.parquet'}", "--gflops", f"{budget}"]
    assert main(arguments) == 0
    left = pd.read_parquet(tmp_path / "exit.parquet")
    assert left["gflops"].mean() <= budget * (1 + 1e-6)
    assert (left["frames"] == left["exit_after"]).all()
    assert len(set(left["exit_after"])) > 1
    capsys.readouterr()
    assert main([*evaluating, "--out", f"{tmp_path / 'no.parquet'}", "--gflops", "0.01"]) == 2
    assert "expected" in capsys.readouterr().err
