"""The published AdaFocus against its golden cases and the costs that the paper's models have."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.adafocus.patch_ppo import PPOCoefficients
from agents.adafocus.released import ReleasedAdaFocus
from agents.released import load_released
from compare.command_line.main import main
from tests import golden
from tests.golden import checks
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.cost import count_gflops


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return golden.state_dict(checks.ADAFOCUS)


@pytest.fixture(scope="module")
def network(state: dict[str, torch.Tensor]) -> ReleasedAdaFocus:
    return load_released("adafocus", state, patch_size=128)  # type: ignore[return-value]


def test_golden_positions_and_scores(network: ReleasedAdaFocus) -> None:
    assert not network.training
    checks.require(checks.adafocus_positions_and_scores(network, checks.frames_of(checks.ADAFOCUS)))


@pytest.mark.parametrize(("patch_size", "gflops"), [(128, 26.52), (160, 38.53), (192, 53.21)])
def test_counted_cost_is_the_published_one(patch_size: int, gflops: float) -> None:
    network = ReleasedAdaFocus(200, patch_size=patch_size)
    assert count_gflops(network, torch.empty(1, 16, 3, 224, 224)) == pytest.approx(gflops, rel=0.005)


def nested(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """As a released file has it: parts by name, beside other things, the learning policy on its own."""

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    return {"epoch": 3, "glancer": part("glancer."), "focuser": part("focuser."), "fc": part("classifier."),
            "policy": part("focuser.policy.policy_old."), "optimizer": None, "acc": 0.75}  # fmt: skip


def test_a_released_file_is_read_like_the_flat_dict(
    tmp_path: Path, state: dict[str, torch.Tensor], network: ReleasedAdaFocus
) -> None:
    flat = {f"module.{name}": value for name, value in state.items()}
    for number, checkpoint in enumerate((nested(state), flat, {"model_state_dict": state})):
        torch.save(checkpoint, tmp_path / f"{number}.pth")
        again = load_released("adafocus", tmp_path / f"{number}.pth", patch_size=128)
        for (name, tensor), other in zip(
            network.state_dict().items(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(tensor, other), name
        (tmp_path / f"{number}.pth").unlink()


def test_checkpoints_that_do_not_fit(state: dict[str, torch.Tensor], network: ReleasedAdaFocus) -> None:
    wrong = dict(state)
    del wrong["focuser.policy.policy_old.gru.weight_ih_l0"]
    wrong["classifier.gru.weight_ih_l0"] = torch.zeros(3072, 1280)
    wrong["sampler.logit.weight"] = torch.zeros(1, 64)
    with pytest.raises(InputError) as caught:
        load_released("adafocus", wrong)
    for part in ("missing focuser.policy.policy_old.gru.weight_ih_l0", "3 entries do not fit",
                 "classifier.gru.weight_ih_l0 has shape (3072, 1280), expected (3072, 3328)",
                 "unexpected sampler.logit.weight"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(InputError, match="patch_size: found 225, expected 1 to 224"):
        load_released("adafocus", state, patch_size=225)
    with pytest.raises(InputError, match="num_frames"):
        load_released("adafocus", state, num_frames=16)
    with pytest.raises(InputError, match="frames: found shape"):
        network(torch.zeros(1, 16, 3, 96, 96))


def test_two_commands_from_a_released_file_to_a_result(
    tmp_path: Path,
    demo_videos: Path,
    state: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.read_csv(demo_videos / "annotations.csv")
    table = table[table["split"] == "test"].head(2)
    table["label"] = [3, 199]
    table.to_csv(tmp_path / "annotations.csv", index=False)
    torch.save(nested(state), tmp_path / "released.pth")
    data = ["--videos", str(demo_videos / "videos"), "--annotations", str(tmp_path / "annotations.csv")]
    released = ["--patch-size", "96"]
    file = str(tmp_path / "released.pth")
    build = [
        "cache",
        "released-adafocus",
        *data,
        "--out",
        str(tmp_path / "cache"),
        "--num-candidates",
        "2",
        *released,
        "--checkpoint",
        file,
    ]
    assert main(build) == 0
    assert main(build) == 0  # again: nothing to be done
    out = str(tmp_path / "results.parquet")
    assert (
        main(
            [
                "evaluate",
                "released-adafocus",
                str(tmp_path / "cache"),
                "--checkpoint",
                file,
                *released,
                "--out",
                out,
            ]
        )
        == 0
    )
    assert "not the checkpoint's own" not in capsys.readouterr().out
    results = pd.read_parquet(out)
    cache, network = Cache(tmp_path / "cache"), load_released("adafocus", state, patch_size=96)
    assert isinstance(network, ReleasedAdaFocus)
    pixels = torch.from_numpy(cache["frames"][:])
    with torch.no_grad():
        output = network(network.glance.prepare(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]))
    # Cached features are float16, so a position may differ where two are nearly as probable.
    assert np.stack(results["patches"].to_list()) == pytest.approx(output.points.flatten(1).numpy(), abs=1e-6)
    assert np.stack(results["scores"].to_list()) == pytest.approx(
        output.logits[:, -1].softmax(-1).numpy(), abs=5e-3
    )
    one = count_gflops(network, torch.empty(1, 2, 3, 224, 224))
    assert results["gflops"].to_numpy() == pytest.approx(one, rel=1e-6)
    assert results["title"].iloc[0] == "AdaFocus, released"
    assert main([*build[:-3], "128", *build[-2:]]) == 2
    assert "has patches already" in capsys.readouterr().err


def test_golden_ppo_update() -> None:
    config = golden.read(checks.UPDATE)[0]["config"]
    published = (config["gamma"], config["clip"], config["value_coef"], config["entropy_coef"])
    assert PPOCoefficients(*published) == PPOCoefficients()
    checks.require(checks.adafocus_ppo_update(torch.device("cpu")))
