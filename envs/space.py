"""Observation and action spaces shared by the road environments."""

import numpy as np
from gymnasium import spaces

MIN_ACCEL, MAX_ACCEL = -8.0, 4.0
"""What a car can do [m/s^2]."""
MAX_CURVATURE = 0.1
"""Tightest turn an agent may ask for [1/m]."""


def action_space() -> spaces.Box:
    """Returns the space of actions `(accel [m/s^2], curvature [1/m])`."""
    low = np.array([MIN_ACCEL, -MAX_CURVATURE], dtype=np.float32)
    high = np.array([MAX_ACCEL, MAX_CURVATURE], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def observation_space(image: tuple[int, ...], road: tuple[int, ...]) -> spaces.Space:
    """Returns the space of observations: as `worldmodel.types.Obs`, for one ego.

    Args:
        image: shape `(K, C, H, W)` of the rasters.
        road: shape `(R, HR, WR)` of the road patch.
    """
    return spaces.Dict(
        {
            "image": spaces.Box(0, 255, image, np.uint8),
            "state": spaces.Box(-np.inf, np.inf, (image[0], 4), np.float32),
            "size": spaces.Box(0.0, np.inf, (2,), np.float32),
            "road": spaces.Box(-np.inf, np.inf, road, np.float32),
        }
    )
