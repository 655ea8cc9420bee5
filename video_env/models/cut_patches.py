"""Patches at any point of a frame, differentiable in the point and in the frame."""

from __future__ import annotations

import torch

from video_env.data.patches import check_patch_size
from video_env.errors import InputError


def cut_patches(images: torch.Tensor, points: torch.Tensor, patch_size: int) -> torch.Tensor:
    """One patch of every image, by bilinear interpolation (Wang et al. 2022, AdaFocus V2, section 3.2).

    The top-left pixel of the patch at (row, column) is at (row · (S − P), column · (S − P)), a fraction of
    a pixel included. All P·P points share that fraction: a window of P + 1 pixels is copied and blended,
    first along the rows, then along the columns. The values are those of ``affine_grid`` and
    ``grid_sample`` with ``align_corners=False``, and so are the gradients, but for two places. At a
    whole-pixel point, where the interpolation has a kink, the gradient is the one towards larger
    rows and columns. At the largest it is the one towards smaller ones: nothing outside the frame is read.

    Args:
        images: float [M, 3, S, S]; or uint8, of which only the patches become floats.
        points: float [M, 2], (row, column) in [0, 1].
        patch_size: P, in pixels; a patch as large as the frame is the frame.

    Returns:
        Float [M, 3, P, P], in the memory format of the images (channels last for images with a gradient).

    Raises:
        InputError: a shape is another one, or the patch is larger than the frame.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or points.shape != (len(images), 2):
        raise InputError(
            f"images and points: found shapes {tuple(images.shape)} and {tuple(points.shape)}, expected "
            "[M, 3, S, S] and [M, 2]"
        )
    room = images.shape[-1] - check_patch_size(patch_size, images.shape[-1])
    if room == 0:
        return images if images.is_floating_point() else images.to(points.dtype)
    # Half precision would not tell neighbouring pixels apart.
    place = points.to(torch.promote_types(points.dtype, torch.float32)) * room
    corner = place.detach().floor().clamp(0, room - 1)
    window = _windows(images, corner.long(), patch_size + 1)
    window = window if images.is_floating_point() else window.to(place.dtype)
    down, right = (place - corner).to(window.dtype)[..., None, None, None].unbind(1)
    rows = torch.lerp(window[:, :, :-1], window[:, :, 1:], down)
    return torch.lerp(rows[..., :-1], rows[..., 1:], right)


def _windows(images: torch.Tensor, corner: torch.Tensor, size: int) -> torch.Tensor:
    """Square windows [M, 3, size, size] with their top-left pixels at int64 [M, 2]."""
    image = torch.arange(len(images), device=images.device)
    top, left = corner.unbind(1)
    if not images.requires_grad:
        # A view of all windows that there are, of which one per image is copied.
        return images.unfold(2, size, 1).unfold(3, size, 1)[image, :, top, left]
    # The view's gradient would be as large as the view; this way it is as large as the images.
    along = torch.arange(size, device=images.device)
    rows, columns = (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]
    return images.movedim(1, -1)[image[:, None, None], rows, columns].movedim(-1, 1)
