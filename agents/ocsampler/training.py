"""OCSampler's training: the policy gradient on drawn sets or on all of them, then the frame-number budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from agents.common.batches import of_round
from agents.ocsampler.frame_budget import (
    BudgetTraining,
    FrameBudget,
    RankedVideos,
    right_by_number,
    sufficient_frames,
    train_budget,
)
from agents.ocsampler.networks import ranked
from agents.ocsampler.set_probability import draw_sets, log_probability_of_all_sets, log_set_probability
from agents.ocsampler.settings import OCSamplerSettings
from agents.ocsampler.training_videos import SplitVideos
from video_env.models.backbones import FrameNetwork, evaluating
from video_env.models.training_loop import Report


class OCSamplerTraining:
    """The networks with what trains them.

    Args:
        policy: from skim features [B, T, D] to log probabilities [B, T].
        skim: the network that is trained with it; None for the cached features.
        budget: the frame-number budget; None without one.
        settings: see ``OCSamplerSettings``.
        device: of the networks.

    Attributes:
        optimiser: over policy and skim network.
    """

    def __init__(
        self,
        policy: nn.Module,
        skim: FrameNetwork | None,
        budget: FrameBudget | None,
        settings: OCSamplerSettings,
        device: torch.device,
    ) -> None:
        self.policy, self.skim, self.budget = policy, skim, budget
        self.settings, self.device = settings, device
        learned = [policy, *([] if skim is None else [skim])]
        parameters = [parameter for module in learned for parameter in module.parameters()]
        self.optimiser: torch.optim.Optimizer
        if settings.optimiser == "adam":
            self.optimiser = torch.optim.Adam(
                parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
        else:
            self.optimiser = torch.optim.SGD(
                parameters, lr=settings.learning_rate, momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )  # fmt: skip

    def round(self, videos: SplitVideos, number: int, callback: Callable[[], None]) -> Report:
        """A round of gradient steps.

        Args:
            videos: of the training split.
            number: the round's, which its random draws depend on.
            callback: called after every update of the policy.

        Returns:
            The means of the gain, the entropy and the loss.
        """
        settings, optimiser, totals = self.settings, self.optimiser, np.zeros(3)
        generator = np.random.default_rng([settings.seed, number])
        draws = torch.Generator(self.device).manual_seed(int(generator.integers(2**31)))
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        batches = of_round(settings.length, number, len(videos), settings.batch_size, generator)
        for batch in batches:
            features = videos.features(batch, generator if settings.flips else None)
            log_probabilities = self.policy(features)
            # With a budget the ranking is used for every number of frames, so it is trained for all up to N.
            count = (
                settings.num_frames if self.budget is None else generator.integers(settings.num_frames) + 1
            )
            if settings.estimator == "exact":
                loss, gain = self.exact_loss(videos, batch, log_probabilities, int(count))
            else:
                loss, gain = self.sampled_loss(videos, batch, log_probabilities, int(count), generator, draws)
            entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1).mean()
            optimiser.zero_grad()
            (loss - settings.entropy * entropy).backward()
            nn.utils.clip_grad_norm_(parameters, settings.gradient_norm)
            optimiser.step()
            totals += gain, float(entropy.detach()), float(loss.detach())
            callback()
        gain_mean, entropy_mean, loss_mean = (totals / len(batches)).tolist()
        gain_name = "reward" if settings.estimator == "exact" else "gain_over_baseline"
        return {gain_name: gain_mean, "entropy": entropy_mean, "loss": loss_mean}

    def sampled_loss(
        self,
        videos: SplitVideos,
        batch: np.ndarray,
        log_probabilities: torch.Tensor,
        count: int,
        generator: np.random.Generator,
        draws: torch.Generator,
    ) -> tuple[torch.Tensor, float]:
        """The policy-gradient loss of drawn sets, and their mean gain over the baseline.

        Args:
            videos: of the training split.
            batch: int64 [B], numbers of some of them.
            log_probabilities: float [B, T], the policy's.
            count: frames of each set.
            generator: of the baseline's frames.
            draws: of the sets, on the device of the probabilities.
        """
        repeated = log_probabilities.repeat(self.settings.draws, 1)
        chosen = draw_sets(repeated.detach(), count, draws)
        gain = videos.gain(np.tile(batch, self.settings.draws), chosen.cpu().numpy(), generator)
        return policy_gradient_loss(repeated, chosen, torch.from_numpy(gain).to(repeated)), float(gain.mean())

    def exact_loss(
        self, videos: SplitVideos, batch: np.ndarray, log_probabilities: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, float]:
        """The negative expected quality over all sets of so many frames, and the expected quality; arguments
        as of ``sampled_loss``."""
        qualities = torch.from_numpy(videos.quality_of_all_sets(batch, count)).to(log_probabilities)
        expected = (log_probability_of_all_sets(log_probabilities, count).exp() * qualities).sum(dim=-1)
        return -expected.mean(), float(expected.detach().mean())

    def validate(self, videos: SplitVideos) -> Report:
        """The ``score``, the mean probability of the true class on the most probable frames, and
        ``validation``, the top-1 there; with a budget, whose ranking serves every number of frames up to N,
        their means over these numbers.

        Args:
            videos: of the validation split.
        """
        with evaluating(self.policy), evaluating(self.skim or self.policy):
            order = ranked(self.policy(videos.all_features())).cpu().numpy()
        most = self.settings.num_frames
        numbers = [most] if self.budget is None else range(1, most + 1)
        confidence, right = zip(*(videos.verdict(order[:, :number]) for number in numbers), strict=True)
        return {"score": float(np.mean(confidence)), "validation": float(np.mean(right))}

    def learn_budget(self, videos: SplitVideos, validation: SplitVideos | None) -> Report:
        """Train the frame-number budget on the trained policy; reports its best round's mean loss.

        Args:
            videos: of the training split.
            validation: of the validation split, where there is one.
        """
        settings = self.settings
        assert self.budget is not None
        training = BudgetTraining(
            settings.budget_length, settings.batch_size, settings.learning_rate, settings.seed
        )
        own = None if validation is None else self._ranked(validation)
        return {"budget_loss": train_budget(self.budget, self._ranked(videos), training, own)}

    @torch.no_grad()
    def _ranked(self, videos: SplitVideos) -> RankedVideos:
        features = videos.all_features()
        log_probabilities = self.policy(features)
        order = ranked(log_probabilities).cpu().numpy()
        right = right_by_number(videos.verdicts, np.arange(len(videos)), order)
        return RankedVideos(features, log_probabilities, sufficient_frames(right))


def policy_gradient_loss(
    log_probabilities: torch.Tensor, chosen: torch.Tensor, gain: torch.Tensor
) -> torch.Tensor:
    """REINFORCE on sets: the mean of −gain · log P(set) (Lin et al. 2022, section 3.3).

    Args:
        log_probabilities: float [B, T], the policy's.
        chosen: int64 [B, N], the sets drawn.
        gain: float [B], each set's reward less the baseline's.
    """
    return -(gain * log_set_probability(log_probabilities, chosen)).mean()
