"""AdaFocusV2 as it recognises videos: what ``AdaFocusV2Network`` computes, in a fraction of the time.

BatchNorm is folded into the layers before it. Frames stay bytes: the glance network gets them scaled, and of
the rest only the patches become floats. What of the scores is not asked for is not computed.
"""

from __future__ import annotations

import torch

from agents.adafocus_v2.network import AdaFocusV2Network, Glances, Progress
from video_env.models.cut_patches import cut_patches
from video_env.models.inference import chunks_of, for_inference
from video_env.models.preparing import normalised


class RecognisingNetwork:
    """The network with the weights that it has now; it does not follow what is learned later.

    Args:
        network: trained.
    """

    def __init__(self, network: AdaFocusV2Network) -> None:
        self._network = for_inference(network)

    def every(self, frames: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores after every frame.

        Args:
            frames: uint8 [B, T, S, S, 3], in time order.
            order: int64 [T], in which they are read.

        Returns:
            Scores [B, T, C] and points [B, T, 2], in reading order.
        """
        features, points = self._features(frames, order)
        return self._network.classifier(features), points

    def last(self, frames: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Likewise, only the scores [B, C] after the last frame."""
        features, points = self._features(frames, order)
        return self._network.classifier.step(features, None, 0)[0], points

    def step(
        self, frames: torch.Tensor, progress: Progress | None, count: int
    ) -> tuple[torch.Tensor, torch.Tensor, Progress]:
        """As ``AdaFocusV2Network.step``, from frames uint8 [B, K, S, S, 3]."""
        network = self._network
        glances = self._look(frames)
        points, policy = network.policy(glances.maps, None if progress is None else progress.policy)
        features = torch.cat([glances.pooled, self._focused(frames, points)], dim=-1)
        logits, seen = network.classifier.step(features, None if progress is None else progress.seen, count)
        return logits, points, Progress(policy, seen)

    def _features(self, frames: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of glances and patches [B, T, D], and points [B, T, 2], in reading order."""
        # Only the small glances change places, and the frames stay where they are.
        glances = Glances(*(part[:, order] for part in self._look(frames)))
        points, _ = self._network.policy(glances.maps)
        back = order.argsort()
        focused = self._focused(frames, points[:, back])[:, order]
        return torch.cat([glances.pooled, focused], dim=-1), points

    def _look(self, frames: torch.Tensor) -> Glances:
        glance = self._network.glance
        images = glance.prepare(frames.flatten(0, 1))
        chunks = chunks_of(len(images), images.shape[-1], images.device)
        maps = torch.cat([glance.maps(images[chunk]) for chunk in chunks])
        return self._network.pooled(maps.unflatten(0, frames.shape[:2]))

    def _focused(self, frames: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        focus, size = self._network.focus, self._network.patch_size
        pixels, places = frames.flatten(0, 1).permute(0, 3, 1, 2), points.flatten(0, 1)

        def look(part: slice) -> torch.Tensor:
            patches = cut_patches(pixels[part], places[part], size).permute(0, 2, 3, 1)
            return focus.look(normalised(patches.contiguous(), focus.mean, focus.deviation))

        chunks = chunks_of(len(pixels), size, pixels.device)
        return torch.cat([look(chunk) for chunk in chunks]).unflatten(0, frames.shape[:2])
