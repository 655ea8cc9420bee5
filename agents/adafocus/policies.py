"""AdaFocus's patch policies by name."""

from __future__ import annotations

from typing import Literal

from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.shared_policy import SharedPatchPolicy

PolicyName = Literal["shared", "fully_connected"]
AnyPatchPolicy = SharedPatchPolicy | PatchPolicy
WIDTHS: dict[PolicyName, int] = {"shared": 16, "fully_connected": 128}
"""By name, how wide each is by default."""


def build_policy(
    name: PolicyName, shape: dict[str, int], *, hidden: int, patch_share: float | None
) -> AnyPatchPolicy:
    """A policy that is untrained.

    Args:
        name: which one.
        shape: ``channels``, ``height`` and ``width`` of the glance maps, and the number of ``positions``.
        hidden: its width.
        patch_share: side of a patch as a share of the frame's; None where it is unknown.
    """
    channels, height, width, positions = (
        shape[size] for size in ("channels", "height", "width", "positions")
    )
    if name == "shared":
        return SharedPatchPolicy(channels, height, width, positions, hidden=hidden, patch_share=patch_share)
    return PatchPolicy(channels, height * width, positions, hidden=hidden)
