import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spacewarps.survey.augmentation import Augmentation

OFF = dict.fromkeys(
    ["rotation_degrees", "shift", "scale", "shear_degrees", "flip", "brightness", "contrast", "colour", "noise"], 0.0
)
KINDS = {
    "rotation_degrees": 180.0,
    "shift": 0.1,
    "scale": 0.3,
    "shear_degrees": 20.0,
    "flip": 0.5,
    "brightness": 1.0,
    "contrast": 0.5,
    "colour": 0.5,
    "noise": 0.5,
}


def only(**strengths: float) -> Augmentation:
    return Augmentation(**(OFF | strengths))


def draw(augmentation: Augmentation, stamps: Tensor, seed: int = 1) -> Tensor:
    return augmentation(stamps, torch.Generator().manual_seed(seed))


def random_stamps(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 255


def blob(side: int, x: float = 0, y: float = 0, width: float = 3.0, aspect: float = 1.0) -> Tensor:
    """A Gaussian whose centre lies ``x``, ``y`` pixels from that of the stamp."""
    at = torch.arange(side) - (side - 1) / 2
    return torch.exp(-((at - x) ** 2 + ((at[:, None] - y) / aspect) ** 2) / (2 * width**2))[None, None]


def centres(stamps: Tensor) -> tuple[Tensor, Tensor]:
    height, width = stamps.shape[2:]
    weight = stamps.sum(dim=(1, 2, 3))
    x = (stamps.sum(dim=(1, 2)) * (torch.arange(width) - (width - 1) / 2)).sum(dim=1) / weight
    y = (stamps.sum(dim=(1, 3)) * (torch.arange(height) - (height - 1) / 2)).sum(dim=1) / weight
    return x, y


def spreads(stamps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The second moments about the centre of the stamp: xx, yy, xy."""
    x = torch.arange(stamps.shape[3]) - (stamps.shape[3] - 1) / 2
    y = (torch.arange(stamps.shape[2]) - (stamps.shape[2] - 1) / 2)[:, None]
    weight = stamps.sum(dim=(1, 2, 3))
    return tuple((stamps * moment).sum(dim=(1, 2, 3)) / weight for moment in (x**2, y**2, x * y))  # type: ignore[return-value]


@pytest.mark.parametrize("shape", [(5, 1, 9, 9), (5, 3, 8, 12)])
def test_without_strengths_a_batch_comes_back_as_it_went_in(shape: tuple[int, ...]) -> None:
    stamps = random_stamps(*shape)
    assert torch.equal(draw(only(), stamps), stamps)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_changes_stamps_and_draws_for_every_sample_by_itself(kind: str) -> None:
    stamps = random_stamps(1, 3, 16, 16).expand(32, -1, -1, -1)
    results = draw(only(**{kind: KINDS[kind]}), stamps)
    different = torch.unique(results.flatten(1), dim=0)
    assert len(different) == (4 if kind == "flip" else 32)
    assert not torch.equal(results, stamps)


def test_identical_stamps_all_come_out_different_with_the_default_strengths() -> None:
    results = draw(Augmentation(), random_stamps(1, 1, 16, 16).expand(64, -1, -1, -1)).flatten(1)
    assert len(torch.unique(results, dim=0)) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_every_draw(kind: str) -> None:
    stamps = random_stamps(8, 3, 16, 16)
    augmentation = only(**{kind: KINDS[kind]})
    assert torch.equal(draw(augmentation, stamps, 1), draw(augmentation, stamps, 1))
    assert not torch.equal(draw(augmentation, stamps, 1), draw(augmentation, stamps, 2))


def test_the_given_batch_is_never_changed() -> None:
    stamps = random_stamps(8, 3, 16, 16)
    before = stamps.clone()
    draw(Augmentation(), stamps)
    assert torch.equal(stamps, before)


@pytest.mark.parametrize("shape", [(4, 1, 9, 9), (4, 3, 8, 12)])
def test_a_certain_flip_mirrors_both_axes(shape: tuple[int, ...]) -> None:
    stamps = random_stamps(*shape)
    torch.testing.assert_close(draw(only(flip=1.0), stamps), stamps.flip(2, 3), rtol=0, atol=1e-3)


def test_flips_mirror_each_axis_as_often_as_asked() -> None:
    stamp = random_stamps(1, 1, 8, 8)
    results = draw(only(flip=0.25), stamp.expand(2000, -1, -1, -1))
    mirrored = {axes: stamp.flip(axes) if axes else stamp for axes in [(), (2,), (3,), (2, 3)]}
    share = {
        axes: ((results - image).abs().amax(dim=(1, 2, 3)) < 1e-2).float().mean().item()
        for axes, image in mirrored.items()
    }
    assert share == pytest.approx({(): 0.5625, (2,): 0.1875, (3,): 0.1875, (2, 3): 0.0625}, abs=0.04)


def test_a_shift_moves_a_point_within_its_share_of_the_side_and_nothing_else() -> None:
    stamps = blob(64).expand(500, -1, -1, -1)
    results = draw(only(shift=0.125), stamps)
    x, y = centres(results)
    for moved in (x, y):
        assert moved.abs().max() <= 8 + 0.01
        assert moved.min() < -7.5
        assert moved.max() > 7.5
        assert abs(moved.mean()) < 0.6
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.15
    for index in (0, 7):
        expected = blob(64, x[index].item(), y[index].item())
        torch.testing.assert_close(results[index : index + 1], expected, rtol=0, atol=0.02)


def test_a_shift_is_a_share_of_each_side_by_itself() -> None:
    stamp = torch.zeros(1, 1, 20, 60)
    stamp[..., 9:11, 29:31] = 1
    x, y = centres(draw(only(shift=0.2), stamp.expand(400, -1, -1, -1)))
    assert 11 < x.abs().max() <= 12.01
    assert 3.6 < y.abs().max() <= 4.01


def test_rotation_keeps_what_is_round_and_centred() -> None:
    stamps = blob(33).expand(50, -1, -1, -1)
    torch.testing.assert_close(draw(only(rotation_degrees=180.0), stamps), stamps, rtol=0, atol=0.03)


@pytest.mark.parametrize("largest", [180.0, 30.0])
def test_rotation_turns_a_point_on_its_circle_by_up_to_the_angle_either_way(largest: float) -> None:
    x, y = centres(draw(only(rotation_degrees=largest), blob(65, x=12.0, width=2.0).expand(500, -1, -1, -1)))
    torch.testing.assert_close(torch.hypot(x, y), torch.full((500,), 12.0), rtol=0, atol=0.05)
    angles = torch.rad2deg(torch.atan2(y, x))
    assert -largest - 0.2 <= angles.min() < -0.95 * largest
    assert 0.95 * largest < angles.max() <= largest + 0.2
    assert abs(angles.mean()) < largest / 8


def test_rotation_keeps_shapes_on_stamps_that_are_not_square() -> None:
    stamp = torch.zeros(1, 1, 41, 81)
    stamp[..., 20:21, 30:51] = 1
    results = draw(only(rotation_degrees=180.0), stamp.expand(100, -1, -1, -1))
    # Mirrored sky lies beyond the shorter side.
    xx, yy, _ = spreads(results[..., 20:61])
    torch.testing.assert_close(xx + yy, torch.full((100,), 36.7), rtol=0, atol=2.5)


def test_scale_changes_the_size_within_its_share_and_keeps_the_shape() -> None:
    xx, yy, xy = spreads(draw(only(scale=0.3), blob(65, width=4.0).expand(500, -1, -1, -1)))
    sizes = xx.sqrt() / 4
    torch.testing.assert_close(xx, yy, rtol=1e-3, atol=0)
    assert xy.abs().max() < 1e-2
    assert 0.69 < sizes.min() < 0.72
    assert 1.28 < sizes.max() < 1.31


def test_rotation_and_scale_together_keep_what_is_round() -> None:
    results = draw(only(rotation_degrees=180.0, scale=0.3), blob(65, width=4.0).expand(500, -1, -1, -1))
    # Corners see mirrored sky.
    xx, yy, xy = spreads(results[..., 10:55, 10:55])
    torch.testing.assert_close(xx, yy, rtol=5e-3, atol=0)
    assert xy.abs().max() < 0.1
    # The spread of sizes drawn evenly between 0.7 and 1.3, at whatever angle.
    assert (xx.sqrt() / 4).std().item() == pytest.approx(0.3 / math.sqrt(3), abs=0.02)


def test_shear_slants_within_its_angle_and_keeps_the_area() -> None:
    xx, yy, xy = spreads(draw(only(shear_degrees=20.0), blob(65, width=4.0).expand(500, -1, -1, -1)))
    slants = torch.rad2deg(torch.atan(xy / yy))
    assert 19 < slants.max() < 20.5
    assert -20.5 < slants.min() < -19
    torch.testing.assert_close(yy, torch.full((500,), 16.0), rtol=0.02, atol=0)
    torch.testing.assert_close(xx * yy - xy**2, torch.full((500,), 256.0), rtol=0.03, atol=0)


def test_what_moves_in_from_outside_is_mirrored_sky() -> None:
    stamps = torch.full((20, 1, 16, 16), 7.0)
    moved = draw(only(rotation_degrees=180.0, shift=0.3, scale=0.3, shear_degrees=20.0), stamps)
    torch.testing.assert_close(moved, stamps)


def test_brightness_moves_the_mean_by_its_share_of_the_spread_and_keeps_the_spread() -> None:
    stamps = random_stamps(300, 3, 8, 8)
    results = draw(only(brightness=0.5), stamps)
    offsets = (results - stamps) / stamps.std(dim=(2, 3), keepdim=True)
    shift = offsets.mean(dim=(1, 2, 3))
    torch.testing.assert_close(offsets, shift[:, None, None, None].expand_as(offsets), rtol=0, atol=1e-4)
    assert -0.5 <= shift.min() < -0.45
    assert 0.45 < shift.max() <= 0.5


def test_contrast_changes_the_spread_within_its_share_and_keeps_the_mean() -> None:
    stamps = random_stamps(300, 3, 8, 8)
    results = draw(only(contrast=0.4), stamps)
    torch.testing.assert_close(results.mean(dim=(2, 3)), stamps.mean(dim=(2, 3)), rtol=1e-4, atol=0)
    gains = results.std(dim=(2, 3)) / stamps.std(dim=(2, 3))
    torch.testing.assert_close(gains, gains[:, :1].expand_as(gains), rtol=1e-4, atol=0)
    assert 0.6 <= gains.min() < 0.64
    assert 1.36 < gains.max() <= 1.4


def test_colour_changes_each_channel_by_itself_and_leaves_grey_stamps_alone() -> None:
    stamps = random_stamps(300, 3, 8, 8)
    gains = draw(only(colour=0.4), stamps).std(dim=(2, 3)) / stamps.std(dim=(2, 3))
    assert 0.599 <= gains.min() < 0.62
    assert 1.38 < gains.max() <= 1.401
    assert torch.corrcoef(gains.T).fill_diagonal_(0).abs().max() < 0.2
    assert torch.equal(draw(only(colour=0.4), stamps[:, :1]), stamps[:, :1])


def test_noise_is_gaussian_independent_and_as_strong_as_asked() -> None:
    stamps = random_stamps(200, 2, 32, 32)
    noise = (draw(only(noise=0.5), stamps) - stamps) / stamps.std(dim=(2, 3), keepdim=True)
    sigma = noise.std(dim=(1, 2, 3))
    assert sigma.min() < 0.03
    assert 0.46 < sigma.max() < 0.52
    unit = noise / sigma[:, None, None, None]
    assert abs(unit.mean()) < 0.01
    assert (unit.abs() < 1).float().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    assert abs((unit[..., 1:] * unit[..., :-1]).mean()) < 0.01
    assert abs((unit[:, 0] * unit[:, 1]).mean()) < 0.01


@settings(max_examples=25, deadline=None)
@given(
    strengths=st.fixed_dictionaries({kind: st.sampled_from([0.0, most]) for kind, most in KINDS.items()}),
    data=st.data(),
)
def test_any_strengths_keep_shape_type_and_finiteness(strengths: dict[str, float], data: Any) -> None:
    count, channels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    stamps = random_stamps(count, channels, data.draw(st.integers(2, 12)), data.draw(st.integers(2, 12)))
    results = draw(Augmentation(**strengths), stamps)
    assert results.shape == stamps.shape
    assert results.dtype == torch.float32
    assert results.isfinite().all()


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_flat_stamp_stays_flat(kind: str | None) -> None:
    stamps = torch.full((4, 1, 6, 6), 3.0)
    results = draw(only(**({} if kind is None else {kind: KINDS[kind]})), stamps)
    torch.testing.assert_close(results, stamps)


def masked(batch: int, side: int = 16) -> Tensor:
    """Stamps of two channels, the first of which is the mask's own pixels, and the mask."""
    mask = (torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    return torch.cat([mask, random_stamps(batch, 1, side, side), mask], dim=1)


@given(
    strengths=st.fixed_dictionaries({kind: st.floats(0, strongest) for kind, strongest in KINDS.items()}),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_a_mask_stays_between_0_and_1_and_is_not_distorted(strengths: dict[str, float], seed: int) -> None:
    stamps = masked(4)
    found = Augmentation(**strengths)(stamps, torch.Generator().manual_seed(seed), mask_channel=True)
    assert ((found[:, 2] >= 0) & (found[:, 2] <= 1)).all()
    geometry = {kind: strength for kind, strength in strengths.items() if kind in list(KINDS)[:5]}
    moved = only(**geometry)(stamps, torch.Generator().manual_seed(seed), mask_channel=True)
    assert torch.equal(found[:, 2], moved[:, 2])


@pytest.mark.parametrize("kind", [*KINDS][:5])
def test_a_mask_moves_with_the_image_and_what_comes_from_outside_is_masked(kind: str) -> None:
    stamps = masked(8)
    # A border of two pixels that are measured in all channels, so that what comes from outside is told from them.
    stamps[:, ::2, :2] = stamps[:, ::2, -2:] = stamps[:, ::2, :, :2] = stamps[:, ::2, :, -2:] = 0
    augmentation, generator = only(**{kind: KINDS[kind]}), torch.Generator().manual_seed(3)
    found = augmentation(stamps, generator, mask_channel=True)
    # A pixel that is 1 where there is a stamp at all, and 0 outside.
    inside = 1 - augmentation(torch.zeros(8, 2, 16, 16), torch.Generator().manual_seed(3), mask_channel=True)[:, 1]
    within = inside > 0.999
    assert torch.allclose(found[:, 2][within], found[:, 0][within], atol=1e-3)
    assert (found[:, 2][inside == 0] == 1).all()
    assert (inside == 0).any() == (kind not in ("flip",))


def test_the_image_beside_a_mask_is_augmented_as_it_is_alone() -> None:
    stamps = masked(6)
    augmentation = Augmentation()
    alone, both = stamps[:, :2], augmentation(stamps, torch.Generator().manual_seed(4), mask_channel=True)
    assert torch.equal(both[:, :2], augmentation(alone, torch.Generator().manual_seed(4)))
    # One channel and its mask are a stamp of one channel, which has no colour.
    grey = stamps[:, 1:]
    found = only(colour=0.5)(grey, torch.Generator().manual_seed(4), mask_channel=True)
    assert torch.equal(found, grey)
