"""Trainings that start from weights: which ones, and how much of them they keep."""

import pytest
import torch
from safetensors.torch import load_file

from agents.adafocus_v2 import AdaFocusV2, AdaFocusV2Settings
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import read_csv
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, load_weights_by
from video_env.models.optimise import seeded
from video_env.models.train_backbone import BackboneTraining, SkimTraining, train_on_videos
from video_env.models.train_small import SmallTraining, train_small_networks

SHORT = BackboneTraining(epochs=1, least_steps=12, batch_size=8)


@pytest.fixture(scope="module")
def frames(tmp_path_factory, demo_videos) -> Cache:  # type: ignore[no-untyped-def]
    annotations = read_csv(demo_videos / "annotations.csv", demo_videos / "videos")
    out = tmp_path_factory.mktemp("frames") / "cache"
    cache = build_cache(annotations, out, BuildSettings(num_candidates=4, frame_size=48))
    return train_small_networks(cache, SmallTraining(backbone=SHORT, skim=SkimTraining(1, 1)), "cpu")


def test_version_2_starts_from_the_caches_networks(frames: Cache) -> None:
    network = AdaFocusV2(frames, AdaFocusV2Settings(patch_size=12), device="cpu").network
    for part, stored in ((network.glance, "skim"), (network.focus, "embedding")):
        expected = load_file(frames.path / "networks" / f"{stored}.safetensors")
        own = part.backbone.state_dict()
        assert set(expected) == set(own)
        assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())


def test_another_networks_weights_are_refused(frames: Cache) -> None:
    with pytest.raises(InputError, match="glance_weights cache: .* a small that its skim was computed with"):
        load_weights_by("glance_weights", FrameNetwork("small"), "cache", frames, "skim")


def test_a_pretrained_backbone_keeps_more_of_what_it_knows(frames: Cache) -> None:
    def moved(*, pretrained: bool) -> float:
        with seeded(0):
            network = FrameNetwork("small")
        before = [value.detach().clone() for value in network.parameters()]
        train_on_videos(network, frames, SHORT, "cpu", pretrained=pretrained)
        changes = zip(before, network.parameters(), strict=True)
        return sum(float((after - own).square().sum()) for own, after in changes) ** 0.5

    assert moved(pretrained=True) < 0.5 * moved(pretrained=False)
