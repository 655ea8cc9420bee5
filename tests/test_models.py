"""Recognizers and their tables against direct evaluation; costs against published numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from tests.conftest import write_cache
from video_env.cache.store import Cache, CacheError
from video_env.errors import InputError
from video_env.models.backbones import BACKBONES, FrameNetwork, load_weights
from video_env.models.classifiers import CLASSIFIERS, build_classifier, classifier_bytes, read_classifier
from video_env.models.cost import count_gflops, counted_gflops
from video_env.models.device import resolve_device
from video_env.models.encoders import CacheEncoder, GlanceEncoder, PatchEncoder
from video_env.models.recognizers import Recognizer, load_recognizer, subset_tables
from video_env.models.train_recognizer import random_subsets


@pytest.mark.parametrize(("name", "published"), [("resnet50", 4.09), ("mobilenet_v2", 0.30)])
def test_costs_are_the_published_multiply_adds(name: str, published: float) -> None:
    """torchvision's model table states 4.09 and 0.30 GFLOPs at 224x224."""
    network = torchvision.models.get_model(name, weights=None)
    assert count_gflops(network, torch.empty(1, 3, 224, 224)) == pytest.approx(published, abs=0.005)


def test_costs_by_hand() -> None:
    """16/2, 32/2, 64/2, 64/1 on 96x96: 48²·27·16 + 24²·144·32 + 12²·(288·64 + 576·64) multiply-adds."""
    by_hand = 48**2 * 27 * 16 + 24**2 * 144 * 32 + 12**2 * (288 * 64 + 576 * 64)
    assert FrameNetwork("small").gflops(96) == pytest.approx(by_hand / 1e9)
    assert count_gflops(torch.nn.Linear(20, 30), torch.empty(7, 20)) == pytest.approx(7 * 20 * 30 / 1e9)


@pytest.mark.parametrize("consensus", ["max", "mean"])
def test_subset_tables_are_direct_evaluation(consensus: str) -> None:
    torch.manual_seed(0)
    recognizer = Recognizer(5, 3, hidden=7, consensus=consensus).eval()  # type: ignore[arg-type]
    embedding, labels = torch.randn(2, 6, 5), torch.tensor([2, 0])
    confidence, prediction = subset_tables(recognizer, embedding, labels)
    for number in range(64):
        chosen = torch.tensor([[number >> frame & 1 for frame in range(6)]], dtype=torch.bool)
        with torch.no_grad():
            probabilities = recognizer(embedding, chosen.expand(2, -1)).softmax(-1)
        assert confidence[:, number] == pytest.approx(probabilities[[0, 1], labels].numpy(), abs=1e-3)
        if number:
            assert prediction[:, number].tolist() == probabilities.argmax(-1).tolist()
    assert prediction[:, 0].tolist() == [-1, -1]
    assert confidence[:, 0] == pytest.approx(1 / 3, abs=1e-3)


def test_mean_consensus_is_the_mean_of_per_frame_logits() -> None:
    torch.manual_seed(0)
    recognizer = Recognizer(5, 3, hidden=7, consensus="mean").eval()
    embedding, chosen = torch.randn(2, 4, 5), torch.tensor([[True, False, True, True]] * 2)
    alone = torch.stack(
        [recognizer(embedding, torch.eye(4, dtype=torch.bool)[[frame] * 2]) for frame in (0, 2, 3)]
    )
    assert torch.allclose(recognizer(embedding, chosen), alone.mean(0), atol=1e-6)


def test_stored_recognizer_comes_back(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", consensus="mean")
    recognizer = load_recognizer(cache)
    embedding = torch.from_numpy(cache["embedding"][:]).float()
    confidence, prediction = subset_tables(recognizer, embedding, torch.from_numpy(cache.labels))
    assert np.array_equal(prediction, cache["subset_prediction"][:])
    assert np.array_equal(confidence, cache["subset_confidence"][:])
    (cache.path / "networks" / "recognizer.safetensors").write_bytes(b"not a recognizer")
    with pytest.raises(CacheError, match=r"recognizer\.safetensors: not a readable recognizer"):
        load_recognizer(Cache(cache.path))


def test_random_subsets_have_all_sizes_equally_often() -> None:
    subsets = random_subsets(12_000, 6, np.random.default_rng(0))
    assert np.bincount(subsets.sum(axis=1), minlength=7)[1:] == pytest.approx(2000, rel=0.1)
    assert subsets.mean(axis=0) == pytest.approx(3.5 / 6, abs=0.02)


def test_weights_from_files(tmp_path: Path) -> None:
    """torchvision's names, plain or nested, with or without its classifier and DataParallel's prefix."""
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "nested.pth"
    )
    network = FrameNetwork("mobilenet_v2")
    assert load_weights(network, str(tmp_path / "nested.pth")).startswith("sha256:")
    assert torch.equal(network.backbone.state_dict()["features.0.0.weight"], state["features.0.0.weight"])

    broken = dict(state)
    del broken["features.0.0.weight"]
    broken["features.1.conv.0.0.weight"] = torch.zeros(3)
    broken["extra"] = torch.zeros(1)
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(InputError) as error:
        load_weights(network, str(tmp_path / "broken.pth"))
    for part in ("3 entries", "missing features.0.0.weight", "unexpected extra", "has shape (3,)"):
        assert part in str(error.value)


class Touch:
    """Pickles to something that would make a file if it were loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_loading_weights_never_runs_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Touch(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not a readable state dict"):
        load_weights(FrameNetwork("small"), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "executed").exists()
    with pytest.raises(InputError, match="no such file"):
        load_weights(FrameNetwork("small"), str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="no torchvision weights"):
        load_weights(FrameNetwork("small"), "torchvision")


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_their_features(name: str) -> None:
    network = FrameNetwork(name).eval()  # type: ignore[arg-type]
    encoder = CacheEncoder(network, weights="random", frame_size=64, device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64, 3), dtype=np.uint8)
    features = encoder(frames)
    assert features.shape == (1, 3, BACKBONES[name].features)
    assert features.dtype == np.float16
    assert encoder.gflops > 0


@pytest.mark.parametrize("name", ["small_glance", "mobilenet_v2", "resnet50"])
def test_glance_maps_pool_to_the_features(name: str) -> None:
    network = FrameNetwork(name, input_size=32).eval()  # type: ignore[arg-type]
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 48, 3), dtype=np.uint8)
    options = {"weights": "random", "frame_size": 48, "device": "cpu"}
    maps = torch.from_numpy(GlanceEncoder(network, **options)(frames)).float()  # type: ignore[arg-type]
    pooled = CacheEncoder(network, **options)(frames)  # type: ignore[arg-type]
    assert maps.shape[:3] == (2, 3, network.features)
    ours = maps.mean(dim=(3, 4)) if network.pooling == "mean" else maps.amax(dim=(3, 4))
    assert np.abs(ours.numpy() - pooled).max() <= 2e-3 * max(1, np.abs(pooled).max())


def test_patches_are_cut_and_looked_at_one_by_one() -> None:
    """All 49 positions of each frame, against the network on each patch alone, and at 49 times its cost."""
    network = FrameNetwork("small", input_size=20)
    network.backbone(torch.rand(16, 3, 20, 20))  # batch statistics of its own
    network.eval()
    encoder = PatchEncoder(network, patch_size=20, frame_size=48, weights="random", device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 48, 3), dtype=np.uint8)
    with counted_gflops() as gflops:
        features = encoder(frames)
    assert features.shape == (2, 3, 49, 64)
    assert gflops() == pytest.approx(2 * 3 * 49 * encoder.gflops)
    for video, frame, i, j in ((0, 0, 0, 0), (1, 2, 6, 6), (0, 1, 3, 5)):
        top, left = int(i / 6 * 28), int(j / 6 * 28)
        patch = torch.from_numpy(frames[video, frame, top : top + 20, left : left + 20])
        with torch.no_grad():
            alone = network(patch[None])[0].half().numpy()
        assert np.allclose(features[video, frame, 7 * i + j], alone, atol=2e-3)
    with pytest.raises(InputError, match="patch_size: found 49, expected 1 to 48"):
        PatchEncoder(network, patch_size=49, frame_size=48, weights="random", device="cpu")


def test_recurrent_layers_are_counted() -> None:
    """An LSTM of 3 inputs and 4 outputs: four gates of 4·(3 + 4) multiply-adds each."""
    network = torch.nn.LSTM(3, 4)
    with counted_gflops() as gflops, torch.no_grad():
        network(torch.zeros(1, 1, 3))
    assert gflops() == pytest.approx(4 * 4 * 7 / 1e9)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_files_and_costs(tmp_path: Path, name: str) -> None:
    config = {"classifier": name, "glance": 6, "patch": 5, "classes": 4, "hidden": 7}
    classifier = build_classifier(config)
    gates = 3 if name == "gru" else 1
    recurrent = 3 * 7 * 7 if name == "gru" else 0
    assert classifier.gflops() == pytest.approx((gates * 7 * 11 + recurrent + 7 * 4) / 1e9)
    torch.save(classifier.state_dict(), tmp_path / "plain.pth")
    (tmp_path / "ours.safetensors").write_bytes(classifier_bytes(classifier))
    for file in ("plain.pth", "ours.safetensors"):
        again = read_classifier(tmp_path / file, glance=6, pooling="mean")
        assert again.config == classifier.config
        glance, patch = torch.randn(2, 3, 6), torch.randn(2, 3, 5)
        assert torch.equal(again(glance, patch), classifier(glance, patch))
    with pytest.raises(InputError, match="expected those of a patch beside the glance's 64"):
        read_classifier(tmp_path / "plain.pth", glance=64, pooling="mean")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="found conv.weight, expected a classifier's gru and fc"):
        read_classifier(tmp_path / "other.pth", glance=6, pooling="mean")


def test_features_that_are_not_numbers_are_refused() -> None:
    network = FrameNetwork("small")
    torch.nn.init.constant_(next(network.backbone.parameters()), float("nan"))
    encoder = CacheEncoder(network, weights="broken", frame_size=32, device="cpu")
    with pytest.raises(InputError, match="small: its features are not finite"):
        encoder(np.zeros((1, 1, 32, 32, 3), np.uint8))


def test_a_device_that_is_not_there() -> None:
    for device in ("cuda:99", "tpu", "meta"):
        with pytest.raises(InputError, match="expected auto, cpu"):
            resolve_device(device)
    with pytest.raises(InputError, match="expected one of resnet50"):
        FrameNetwork("resnet5")  # type: ignore[arg-type]
