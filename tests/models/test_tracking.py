"""Telling cars apart and measuring how they moved, on rendered cars whose motion is known."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.models import label_cars, mean_over_cars, track_cars
from worldmodel.scene import RasterSpec, render_boxes

SPEC = RasterSpec(height=60, width=24)


def drawn(*boxes: tuple[float, ...], spec: RasterSpec = SPEC) -> Float[Tensor, "1 1 H W"]:
    """A raster of boxes `(x, y, heading, length, width)`."""
    return render_boxes(torch.tensor(boxes), torch.ones(len(boxes), dtype=torch.bool), spec)[None, None]


def image_of(*rows: str) -> Float[Tensor, "1 1 H W"]:
    """A raster of letters: # is grey value 1, + one half, - one tenth."""
    grey = {"#": 1.0, "+": 0.5, "-": 0.1, ".": 0.0}
    return torch.tensor([[grey[one] for one in row] for row in rows])[None, None]


def test_what_hangs_together_is_one_car() -> None:
    label = label_cars(image_of("##..#", "##..#", ".....", "..#..", ".#..."), margin=0)[0]
    assert label[:2, :2].unique().numel() == 1
    assert label[:2, 4].unique().numel() == 1
    assert label[label > 0].unique().numel() == 4  # touching at a corner is not touching
    assert (label > 0).sum() == 8


def test_the_margin_goes_to_the_car_it_surrounds() -> None:
    label = label_cars(image_of(".......", ".#...#.", "......."), margin=2)[0]
    assert label[1, :3].unique().numel() == label[1, 4:].unique().numel() == 1
    assert label[1, 0] != label[1, 6]
    assert label[0, 1] == label[1, 1]


def test_faint_pixels_are_no_car_of_their_own() -> None:
    assert label_cars(image_of("-.-", "...", "-.-")).count_nonzero() == 0


def test_a_lorry_is_one_car() -> None:
    """18 m and 2.5 m: about 30 pixels and 4."""
    label = label_cars(drawn((0.0, 0.0, 0.0, 18.0, 2.5)), margin=0)
    assert label[label > 0].unique().numel() == 1


def test_the_mean_over_a_car_is_weighted_by_its_grey_values() -> None:
    image = image_of("#+.#", "....")
    label = torch.tensor([[[1, 1, 0, 4], [1, 1, 0, 0]]])
    field = torch.tensor([[[[3.0, 9.0, 7.0, 2.0], [5.0, 5.0, 5.0, 5.0]]]])
    mean = mean_over_cars(field, image, label)
    torch.testing.assert_close(mean, torch.tensor([[[[5.0, 5.0, 0.0, 2.0], [5.0, 5.0, 0.0, 0.0]]]]))


def test_cars_of_other_rasters_are_other_cars() -> None:
    image = torch.ones(2, 1, 1, 2)
    field = torch.tensor([[[[1.0, 3.0]]], [[[10.0, 30.0]]]])
    mean = mean_over_cars(field, image, torch.ones(2, 1, 2, dtype=torch.int64))
    assert mean.flatten().tolist() == [2.0, 2.0, 20.0, 20.0]


@pytest.mark.parametrize("seed", range(4))
def test_cars_are_tracked_within_a_tenth_of_a_pixel(seed: int) -> None:
    """Five cars at velocities of up to 8 m/s and accelerations of up to 3 m/s^2."""
    generator = torch.Generator().manual_seed(seed)
    ages = [0.9, 0.6, 0.3, 0.0]
    place = torch.tensor([[-9.0, 3.7], [0.0, 3.7], [9.0, 3.7], [-4.0, 0.0], [6.0, -3.7]])
    velocity = (2 * torch.rand(5, 2, generator=generator) - 1) * torch.tensor([8.0, 0.8])
    velocity[:3] = velocity[0]  # one lane: nobody runs into anybody
    accel = (2 * torch.rand(5, 1, generator=generator) - 1) * torch.tensor([[3.0, 0.0]])
    accel[:3] = accel[0]
    frames, moved = [], []
    for age in ages:
        since = velocity * age - 0.5 * accel * age**2
        box = torch.cat([place - since, torch.tensor([[0.0, 4.6, 1.9]]).expand(5, -1)], dim=1)
        frames.append(render_boxes(box, torch.ones(5, dtype=torch.bool), SPEC))
        moved.append(since / SPEC.resolution)
    stack = torch.stack(frames)[None]
    label = label_cars(stack[:, -1:])
    found = track_cars(stack, ages, label)
    assert found.shape == (1, 3, 2, SPEC.height, SPEC.width)
    assert label.unique().numel() == 6
    for index, expected in enumerate(moved[:-1]):
        for car in range(5):
            row = round((SPEC.height - 1) / 2 - float(place[car, 0]) / SPEC.resolution)
            column = round((SPEC.width - 1) / 2 - float(place[car, 1]) / SPEC.resolution)
            torch.testing.assert_close(found[0, index, :, row, column], expected[car], atol=0.1, rtol=0)


def test_every_pixel_of_a_car_says_the_same_and_all_others_nothing() -> None:
    frames = torch.cat([drawn((1.0, 0.0, 0.0, 4.6, 1.9)), drawn((2.0, 0.0, 0.0, 4.6, 1.9))], dim=1)
    label = label_cars(frames[:, -1:])
    found = track_cars(frames, [0.3, 0.0], label)
    assert found[0, 0, :, label[0] == 0].abs().max() == 0
    assert found[0, 0, 0, label[0] > 0].unique().numel() == 1


def test_empty_rasters_have_no_cars() -> None:
    frames = torch.zeros(2, 3, 8, 6)
    label = label_cars(frames[:, -1:])
    assert label.count_nonzero() == 0
    assert track_cars(frames, [0.6, 0.3, 0.0], label).count_nonzero() == 0


def test_who_was_not_there_before_keeps_a_finite_place() -> None:
    """A car that came in at the edge: its older rasters show nothing to find it by."""
    frames = torch.cat([torch.zeros(1, 2, 60, 24), drawn((17.0, 0.0, 0.0, 4.6, 1.9))], dim=1)
    found = track_cars(frames, [0.6, 0.3, 0.0], label_cars(frames[:, -1:]))
    assert found.isfinite().all()
    assert found.abs().max() < 20


def test_scenes_of_a_batch_do_not_mix() -> None:
    one = torch.cat([drawn((1.0, 0.0, 0.0, 4.6, 1.9)), drawn((2.0, 0.0, 0.0, 4.6, 1.9))], dim=1)
    other = torch.cat([drawn((-5.0, 3.0, 0.0, 4.6, 1.9)), drawn((-6.0, 3.0, 0.0, 4.6, 1.9))], dim=1)
    both = torch.cat([one, other])
    found = track_cars(both, [0.3, 0.0], label_cars(both[:, -1:]))
    for row, alone in enumerate((one, other)):
        expected = track_cars(alone, [0.3, 0.0], label_cars(alone[:, -1:]))[0]
        torch.testing.assert_close(found[row], expected)
