"""Pictures show things where they are, and turned the right way."""

import numpy as np
import torch

from worldmodel.data import make_recording
from worldmodel.scene import Channel, RasterSpec
from worldmodel.types import CostTerms, Rollout
from worldmodel.viz import (
    Camera,
    Ego,
    EpisodeView,
    episode_frames,
    evaluate_field,
    paint_raster,
    strip,
    world_view,
)
from worldmodel.viz.draw import raster_pixels
from worldmodel.viz.palette import ASPHALT, CARS, OURS

SPEC = RasterSpec(height=20, width=10, resolution=1.0)


def test_ahead_is_right_and_left_is_up() -> None:
    raster = np.zeros((3, 20, 10), np.uint8)
    raster[Channel.VEHICLES, 0, 0] = 255  # farthest ahead, farthest left
    picture = paint_raster(raster, SPEC, scale=4)
    assert picture.shape == (40, 80, 3)
    assert np.abs(picture[1, -2].astype(int) - CARS[0]).max() < 20
    assert picture[-1, 0].tolist() == list(ASPHALT)


def test_bytes_and_floats_give_the_same_picture() -> None:
    raster = np.random.default_rng(0).integers(0, 256, (3, 20, 10)).astype(np.uint8)
    np.testing.assert_array_equal(paint_raster(raster, SPEC), paint_raster(raster / np.float32(255), SPEC))


def test_a_point_of_the_view_frame_lands_on_its_pixel() -> None:
    pixels = raster_pixels(np.array([[0.0, 0.0], [10.0, 5.0]]), SPEC, scale=4)
    np.testing.assert_allclose(pixels, [[40.0, 20.0], [80.0, 0.0]])


def test_a_strip_has_a_row_for_each_rollout() -> None:
    rollout = np.zeros((30, 3, 20, 10), np.float32)
    one = strip({"recorded": rollout}, [5, 30], SPEC)
    two = strip({"recorded": rollout, "predicted": rollout}, [5, 30], SPEC)
    assert two.shape[0] - one.shape[0] == 10 * 3 + 6


def test_the_ego_is_drawn_where_it_is() -> None:
    recording = make_recording(num_vehicles=4, num_frames=40)
    x, y = recording.tracks.state[0, 0, :2]
    camera = Camera((x, y), length=40.0, width=10.0, scale=8.0)
    ego = Ego(np.array([x + 10.0, y, 0.0, 4.0, 2.0]))
    picture = world_view(recording, 0, camera, egos=[ego], hide=0)
    assert picture[40, 160 + 80 - 8].tolist() == list(OURS)  # 1 m behind its centre
    assert picture[40, 160].tolist() != list(OURS)


def test_an_episode_has_a_picture_for_every_frame() -> None:
    recording = make_recording(num_vehicles=4, num_frames=40)
    view = EpisodeView(recording, 0, range(10, 15), recording.tracks.state[0, 10:15], ending="collision")
    pictures = list(episode_frames(view, scale=2.0))
    assert len(pictures) == 5
    assert len({picture.shape for picture in pictures}) == 1


def test_a_cost_field_holds_the_cost_at_its_place() -> None:
    def cost(rollout: Rollout) -> CostTerms:
        return CostTerms(
            {"ahead": rollout.ego[..., 0], "left": rollout.ego[..., 1]}, {"ahead": 2.0, "left": 1.0}
        )

    rollout = Rollout(
        image=torch.zeros(1, 2, 3, 20, 10), ego=torch.zeros(1, 2, 4),
        view=torch.tensor([[[0.0, 0, 0], [3.0, 1, 0]]]),
        action=torch.zeros(1, 2, 2), previous_action=torch.zeros(1, 2), size=torch.tensor([[4.0, 2.0]]),
        road=torch.zeros(1, 3, 4, 4),
    )  # fmt: skip
    field = evaluate_field(cost, rollout, 1, spec=SPEC, spacing=1.0)
    assert field.terms["total"].shape == (10, 20)
    np.testing.assert_allclose(field.terms["ahead"][0], 2.0 * (3.0 + np.arange(-9.5, 10.0)), rtol=1e-5)
    np.testing.assert_allclose(field.terms["left"][:, 0], 1.0 + np.arange(4.5, -5.0, -1.0), rtol=1e-5)
    np.testing.assert_allclose(field.ego, [-3.0, -1.0, 0.0, 4.0, 2.0])
