"""Convolutions of float32 maps on the CPU, arranged so that the maps in between stay in the cache.

Each gives what the plain layers give but for the rounding of float32, and the same bits for the same input.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_input

from spacewarps.portability import is_pinned

# A map of a group of stamps stays in the cache: of 1 to 12 MiB, 3 and 6 were the fastest on a core with 32 MiB.
_GROUP_BYTES = 6 * 2**20
# Around these bounds a training step takes as long in either way: on one thread of a processor with AVX2, for batches
# of 32. On smaller maps, what each call costs outweighs the rest.
_LARGE_MAP = 1000
_FEWEST_OUTPUTS, _OUTPUTS_PER_TAP = 32, 3
_FEWEST_CHANNELS = 48


def sees_data(maps: Tensor, conv: nn.Conv2d) -> bool:
    """Say whether :func:`first_block` takes ``maps``, and is the faster way.

    Args:
        maps: ``[B, C, H, W]``.
        conv: the convolution that they go through.
    """
    # Where no gradient goes to the maps, all that they are needed for are patches of them. Their covariance costs the
    # square of the taps at each pixel, and the maps that it does without are as wide as the outputs.
    k, taps = conv.out_channels, conv.weight[0].numel()
    few = k >= max(_FEWEST_OUTPUTS, _OUTPUTS_PER_TAP * taps)
    return few and _are_large(maps) and not maps.requires_grad


def evaluates(maps: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Say whether :func:`evaluate_block` takes ``maps``: large ones of which no gradient is asked."""
    return not norm.training and not torch.is_grad_enabled() and _are_large(maps)


def evaluate_block(maps: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return Conv2d, BatchNorm2d with its running statistics, ReLU and MaxPool2d of ``maps``.

    Args:
        maps: ``[B, C, H, W]``.
        conv: of an odd kernel, which keeps the size of a map; without bias.
        norm: normalises what the convolution gives.

    Returns:
        ``[B, k, H // 2, W // 2]``, channels last in memory.
    """
    filters, shift = _fold(conv, norm, *_running_moments(norm))
    k, _, size, _ = filters.shape
    batch, _, height, width = maps.shape
    group, last = _stamps_in_a_group(maps, k), _channels_last(filters)
    result = maps.new_empty(batch, height // 2, width // 2, k).permute(0, 3, 1, 2)
    for part, room in zip(torch.split(maps, group), torch.split(result, group), strict=True):
        pooled = functional.max_pool2d(functional.conv2d(part, last, padding=size // 2), 2)
        torch.clamp_min(pooled.add_(shift[:, None, None]), 0, out=room)
    return result


def first_block(maps: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, dropout: nn.Dropout2d) -> Tensor:
    """Return Conv2d, BatchNorm2d, ReLU, Dropout2d and MaxPool2d of ``maps`` that :func:`sees_data` says yes to.

    The draws of the dropout are those of the plain layers, and so is what happens to the statistics.

    Args:
        maps: ``[B, C, H, W]``.
        conv: of an odd kernel, which keeps the size of a map; without bias.
        norm: normalises what the convolution gives.
        dropout: drops channels.

    Returns:
        ``[B, k, H // 2, W // 2]``, channels last in memory.
    """
    mean, variance = _batch_moments(maps, conv, norm) if norm.training else _running_moments(norm)
    filters, shift = _fold(conv, norm, mean, variance)
    kept = dropout(maps.new_ones(len(maps), conv.out_channels, 1, 1))
    result: Tensor = _PooledConvolution.apply(maps, filters, shift, kept)
    return result


def convolve(maps: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return what ``conv`` makes of ``maps``, to the bit; the gradient of its filters may round differently.

    Args:
        maps: ``[B, C, H, W]``.
        conv: with stride 1 and without bias, whose padding keeps the size of a map.
    """
    wide = min(conv.in_channels, conv.out_channels) >= _FEWEST_CHANNELS
    if wide and conv.kernel_size[0] == 3 and _are_large(maps):
        result: Tensor = _Convolution3x3.apply(maps, conv.weight)
        return result
    plain: Tensor = conv(maps)
    return plain


def _are_large(maps: Tensor) -> bool:
    """Say whether ``maps`` are what this is written for: large, of float32, on the CPU, and without autocast."""
    plain = maps.device.type == "cpu" and maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and maps.shape[2] * maps.shape[3] >= _LARGE_MAP


def _channels_last(tensor: Tensor) -> Tensor:
    """Return ``tensor``, ``[k, C, H, W]``, with the strides of channels last.

    They decide the layout of what a convolution with it gives, which any other takes 20 times as long to pool. For a
    single channel, `contiguous` would leave the strides as they are.
    """
    k, channels, height, width = tensor.shape
    return tensor.permute(0, 2, 3, 1).reshape(-1).view(k, height, width, channels).permute(0, 3, 1, 2)


def _patches(maps: Tensor, size: int) -> Tensor:
    """Return what a filter of ``size`` sees at each pixel: ``[B, taps, H * W]``."""
    return functional.unfold(maps, size, padding=size // 2)


def _stamps_in_a_group(maps: Tensor, k: int) -> int:
    return max(1, _GROUP_BYTES // (4 * k * maps.shape[2] * maps.shape[3]))


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return filters and shift that convolve and normalise at once, so that no map is there before it is normalised."""
    scale = norm.weight.double() * torch.rsqrt(variance + norm.eps)
    shift = norm.bias.double() - mean * scale
    return (conv.weight.double() * scale[:, None, None, None]).float(), shift.float()


def _batch_moments(maps: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel that ``conv`` gives, float64 ``[k]``, and note them in ``norm``.

    They follow from the mean ``m`` and the covariance ``C`` of the patches that a filter ``w`` sees: ``w m`` and
    ``w C w``. In float64, since a variance is a small difference.
    """
    filters = conv.weight.flatten(1).double()
    count = len(maps) * maps.shape[2] * maps.shape[3]
    centre = filters.new_zeros(filters.shape[1])
    product = filters.new_zeros(filters.shape[1], filters.shape[1])
    for part in torch.split(maps, _stamps_in_a_group(maps, conv.out_channels)):
        patches = _patches(part, conv.kernel_size[0]).double()
        centre += patches.sum((0, 2)) / count
        product += torch.bmm(patches, patches.mT).sum(0) / count
    mean = filters @ centre
    # Rounding can leave the variance of a channel that is the same everywhere below 0.
    variance = ((filters @ (product - torch.outer(centre, centre))) * filters).sum(1).clamp_min(0)
    _note_moments(norm, mean.detach(), variance.detach() * (count / (count - 1)))
    return mean, variance


def _note_moments(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    running_mean, running_var = _buffers(norm)
    cast(Tensor, norm.num_batches_tracked).add_(1)
    momentum = cast(float, norm.momentum)
    running_mean.lerp_(mean.float(), momentum)
    running_var.lerp_(variance.float(), momentum)


def _running_moments(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = _buffers(norm)
    return mean.double(), variance.double()


def _buffers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of ``left``, ``[M, K]``, and ``right``, ``[K, N]``, to ``total``."""
    if is_pinned():
        # oneDNN's, as torch takes MKL's, and the portable ones of these take more than twice as long.
        total += torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    else:
        total.addmm_(left, right)


class _PooledConvolution(Function):
    """Convolution, shift, pooling, ReLU and the factors of a dropout, a group of stamps at a time."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, filters: Tensor, shift: Tensor, kept: Tensor) -> Tensor:
        """Return ``[B, k, H // 2, W // 2]``.

        Args:
            ctx: what is kept for the gradient.
            maps: ``[B, C, H, W]``.
            filters: ``[k, C, size, size]``.
            shift: ``[k]``.
            kept: ``[B, k, 1, 1]``, by which each channel is multiplied.
        """
        (batch, _, height, width), (k, _, size, _) = maps.shape, filters.shape
        group = _stamps_in_a_group(maps, k)
        last = _channels_last(filters)
        result = maps.new_empty(batch, height // 2, width // 2, k).permute(0, 3, 1, 2)
        chosen = []
        for part, factors, room in zip(*(torch.split(tensor, group) for tensor in (maps, kept, result)), strict=True):
            pooled, where = torch.ops.aten.max_pool2d_with_indices(
                functional.conv2d(part, last, padding=size // 2), [2, 2]
            )
            torch.mul(pooled.add_(shift[:, None, None]).relu_(), factors, out=room)
            chosen.append(where)
        ctx.save_for_backward(maps, filters, kept, result, *chosen)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, None]:
        """Return the gradients of filters and shift for that of the result."""
        maps, filters, kept, result, *chosen = ctx.saved_tensors
        (_, _, height, width), (k, _, size, _) = maps.shape, filters.shape
        group = _stamps_in_a_group(maps, k)
        # Says only the shape and the layout of a map.
        like = maps.new_empty(min(group, len(maps)), height, width, k).permute(0, 3, 1, 2)
        of_filters, of_shift = filters.new_zeros(filters[0].numel(), k), filters.new_zeros(k)
        groups = (torch.split(tensor, group) for tensor in (gradient, maps, kept, result))
        for part, seen, factors, given, where in zip(*groups, chosen, strict=True):
            reached = torch.ops.aten.threshold_backward(part * factors, given, 0)
            of_shift += reached.sum((0, 2, 3))
            spread = torch.ops.aten.max_pool2d_with_indices_backward(
                reached, like[: len(seen)], [2, 2], [2, 2], [0, 0], [1, 1], False, where
            )
            pixels = spread.permute(0, 2, 3, 1).reshape(len(seen), height * width, k)
            for patches, of_stamp in zip(_patches(seen, size), pixels, strict=True):
                _add_product(of_filters, patches, of_stamp)
        return None, of_filters.T.reshape(filters.shape), of_shift, None


class _Convolution3x3(Function):
    """A convolution whose filters get their gradient from products of matrices, as oneDNN's way is half as fast."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, filters: Tensor) -> Tensor:
        """Return ``[B, k, H, W]`` for maps ``[B, C, H, W]`` and filters ``[k, C, 3, 3]``."""
        ctx.save_for_backward(maps, filters)
        return functional.conv2d(maps, filters, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of maps, if they need one, and filters for that of the result."""
        maps, filters = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = None
        if ctx.needs_input_grad[0]:
            of_maps = conv2d_input(maps.shape, filters, gradient, padding=1)  # type: ignore[no-untyped-call]
        return of_maps, _gradient_of_filters(maps, gradient)


def _gradient_of_filters(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return ``[k, C, 3, 3]`` for maps ``[B, C, H, W]`` and the gradient ``[B, k, H, W]`` of their convolution."""
    (batch, channels, height, width), k = maps.shape, gradient.shape[1]
    # Each pixel beside its neighbours to the left and to the right, with a row of zeros above and below the map: what
    # the rows of a filter see are slices of it, without a copy.
    beside = maps.new_zeros(height + 2, width, 3 * channels)
    left, middle, right = torch.split(beside[1:-1], channels, dim=2)
    pixels = beside.view(-1, 3 * channels)
    total = maps.new_zeros(3, k, 3 * channels)
    parts = gradient.permute(0, 2, 3, 1).reshape(batch, height * width, k)
    for stamp, part in zip(maps.permute(0, 2, 3, 1), parts, strict=True):
        left[:, 1:], middle[:], right[:, :-1] = stamp[:, :-1], stamp, stamp[:, 1:]
        for row in range(3):
            _add_product(total[row], part.T, pixels[row * width : (row + height) * width])
    return total.view(3, k, 3, channels).permute(1, 3, 0, 2)
