"""Networks as they are run against the same networks as they are trained: equal, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from agents.adafocus_v2.network import AdaFocusV2Network, Progress, build_network
from agents.adafocus_v2.point_policies import PolicyName
from agents.adafocus_v2.recognition import RecognisingNetwork
from agents.adafocus_v2.settings import AdaFocusV2Settings
from video_env.data.sampling import coarse_to_fine
from video_env.models.backbones import FrameNetwork, evaluating
from video_env.models.cost import count_gflops
from video_env.models.cut_patches import cut_patches
from video_env.models.inference import chunks_of, for_inference


def trained(network: nn.Module) -> nn.Module:
    """With BatchNorm's statistics and weights as some training might leave them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
    return network


def frames(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("small", {}, (3, 96, 96, 3)), ("small_glance", {}, (3, 96, 96, 3)), ("small_skim", {}, (3, 40, 56, 3)),
        ("resnet50", {"input_size": 64}, (2, 64, 64, 3)), ("mobilenet_v2", {"input_size": 64}, (2, 80, 80, 3)),
        ("mobilenet_v2", {"input_size": 64, "temporal_shift": 10}, (1, 4, 64, 64, 3)),
    ],
)  # fmt: skip
def test_batch_norm_is_folded(name: str, options: dict[str, int], shape: tuple[int, ...]) -> None:
    network = trained(FrameNetwork(name, **options))  # type: ignore[arg-type]
    folded = for_inference(network)
    with evaluating(network):
        expected, found = network(frames(*shape)), folded(frames(*shape))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(expected.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert network.training
    assert count_gflops(folded, frames(*shape)) == count_gflops(network, frames(*shape))


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("small_glance", 16, (50, 96, 96)), ("small_skim", 16, (2, 64, 90)), ("small", None, (5, 31, 20)),
        ("mobilenet_v2", 128, (9, 224, 224)), ("mobilenet_v2", 128, (2, 100, 300)), ("resnet50", 224, (1, 224, 224)),
    ],
)  # fmt: skip
def test_frames_are_scaled_and_normalised_as_by_torch(
    name: str, size: int | None, shape: tuple[int, ...]
) -> None:
    """Those that become much smaller, by matrix products, and large batches in parts."""
    network, own = FrameNetwork(name), frames(*shape, 3)
    images = own.permute(0, 3, 1, 2).float() / 255
    if size is not None:
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    expected = (images - network.mean) / network.deviation
    assert network.prepare(own).numpy() == pytest.approx(expected.numpy(), abs=2e-5)


def test_patches_of_bytes_are_those_of_floats() -> None:
    images, points = frames(6, 20, 20, 3).permute(0, 3, 1, 2), torch.rand(6, 2)
    for size in (7, 19, 20):
        expected = cut_patches(images.float(), points, size)
        assert cut_patches(images, points, size).numpy() == pytest.approx(expected.numpy(), abs=1e-3)


def test_chunks_are_the_whole() -> None:
    for images in (1, 15, 16, 500):
        chunks = chunks_of(images, 96, torch.device("cpu"))
        assert [one for chunk in chunks for one in range(images)[chunk]] == list(range(images))
    assert len(chunks_of(500, 96, torch.device("cpu"))) > 1


@pytest.fixture(params=["soft_argmax", "fully_connected"])
def network(request: pytest.FixtureRequest) -> AdaFocusV2Network:
    policy: PolicyName = request.param
    settings = AdaFocusV2Settings(patch_size=13, policy=policy, policy_hidden=8, hidden=24)
    built = trained(build_network(settings, frame_size=48, num_frames=6, classes=5))
    assert isinstance(built, AdaFocusV2Network)
    return built.eval()


def test_recognition_is_that_of_the_network_that_is_trained(network: AdaFocusV2Network) -> None:
    own, order = frames(3, 6, 48, 48, 3), torch.from_numpy(coarse_to_fine(6))
    recognising = RecognisingNetwork(network)
    with torch.no_grad():
        expected = network(network.normalised(own[:, order].permute(0, 1, 4, 2, 3)))
        logits, points = recognising.every(own, order)
        last, places = recognising.last(own, order)
    assert logits.numpy() == pytest.approx(expected.logits.numpy(), rel=1e-3, abs=1e-4)
    assert points.numpy() == pytest.approx(expected.points.numpy(), abs=1e-5)
    assert last.numpy() == pytest.approx(expected.logits[:, -1].numpy(), rel=1e-3, abs=1e-4)
    assert np.array_equal(places, points)


@pytest.mark.parametrize("every", [1, 4])
def test_frame_by_frame_it_says_the_same(network: AdaFocusV2Network, every: int) -> None:
    own, order = frames(3, 6, 48, 48, 3), torch.from_numpy(coarse_to_fine(6))
    recognising, carried = RecognisingNetwork(network), None
    with torch.no_grad():
        expected, points = recognising.every(own, order)
        for count in range(0, 6, every):
            now = order[count : count + every]
            scores, place, carried = recognising.step(own[:, now], carried, count)
            assert isinstance(carried, Progress)
            after = count + len(now)
            assert scores.numpy() == pytest.approx(expected[:, after - 1].numpy(), rel=1e-3, abs=1e-4)
            assert place.numpy() == pytest.approx(points[:, count:after].numpy(), abs=1e-5)
