"""Patches at continuous positions against torch's own sampling, exact crops and finite differences."""

import pytest
import torch
import torch.nn.functional as F

from video_env.errors import InputError
from video_env.models.cut_patches import cut_patches


def sampled(images: torch.Tensor, points: torch.Tensor, size: int) -> torch.Tensor:
    """The released way (Wang et al. 2022, AdaFocus V2)."""
    side = images.shape[-1]
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size / side
    theta[:, :, 2] = ((2 * points * (side - size) + size) / side - 1).flip(-1)
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_grid_sample(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 20, 20, generator=generator, dtype=torch.float64)
    images = images.contiguous(memory_format=memory_format).requires_grad_()
    points = torch.rand(5, 2, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(5, 3, 7, 7, generator=generator, dtype=torch.float64)
    found, known = (cut(images, points, 7) for cut in (cut_patches, sampled))
    assert torch.allclose(found, known, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad((value * weights).sum(), (images, points)) for value in (found, known)
    )
    for own, other in zip(ours, theirs, strict=True):
        assert torch.allclose(own, other, atol=1e-10)
    # Frames that need no gradient go another way.
    frozen = cut_patches(images.detach(), points, 7)
    assert torch.equal(frozen, found)
    assert torch.allclose(torch.autograd.grad((frozen * weights).sum(), points)[0], theirs[1], atol=1e-10)


def test_float32_is_as_near_as_float32_gets() -> None:
    images, points = torch.randn(4, 3, 224, 224), torch.rand(4, 2)
    exact = sampled(images.double(), points.double(), 96)
    found, theirs = (float((cut(images, points, 96) - exact).abs().max()) for cut in (cut_patches, sampled))
    assert found <= theirs
    assert found < 2e-4


def test_whole_pixel_positions_are_exact_crops() -> None:
    images = torch.randn(4, 3, 12, 12)
    corners = torch.tensor([[0, 0], [8, 8], [2, 5], [8, 0]])
    patches = cut_patches(images, corners / 8, 4)
    for image, patch, (top, left) in zip(images, patches, corners.tolist(), strict=True):
        assert torch.equal(patch, image[:, top : top + 4, left : left + 4])
    assert torch.equal(cut_patches(images, torch.rand(4, 2), 12), images)


def test_at_the_last_position_the_gradient_points_inwards() -> None:
    images = torch.arange(6.0).repeat(6, 1).expand(1, 3, 6, 6)
    points = torch.ones(1, 2, requires_grad=True)
    cut_patches(images, points, 2).mean().backward()
    # Brightness grows by 1 a pixel from left to right, and the point runs over 4 pixels.
    assert points.grad is not None
    assert points.grad[0].tolist() == pytest.approx([0.0, 4.0])


def test_bad_input() -> None:
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(InputError, match="patch_size: found 9, expected 1 to 8"):
        cut_patches(images, torch.zeros(2, 2), 9)
    with pytest.raises(InputError, match=r"found shapes \(2, 3, 8, 8\) and \(1, 2\)"):
        cut_patches(images, torch.zeros(1, 2), 4)
