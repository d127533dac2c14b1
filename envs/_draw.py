"""A raster as a picture for people, in NumPy alone; the handsome pictures are in `worldmodel.viz`."""

import numpy as np
from jaxtyping import UInt8

from worldmodel.scene import Channel, RasterSpec

PIXELS = 4
"""Screen pixels per raster pixel."""
ROAD = np.array([70.0, 74.0, 82.0])
COLOURS = {
    Channel.OFF_ROAD: np.array([38.0, 60.0, 44.0]),
    Channel.LANE: np.array([205.0, 205.0, 205.0]),
    Channel.VEHICLES: np.array([244.0, 240.0, 230.0]),
}
"""In the order in which they cover each other."""
EGO = np.array([76.0, 148.0, 255.0])


def enlarge(
    image: UInt8[np.ndarray, "C H W"], size: np.ndarray, spec: RasterSpec
) -> UInt8[np.ndarray, "H4 W4 3"]:
    """Returns an RGB picture of a raster with the ego, of `size` length and width [m], at its centre."""
    picture = np.tile(ROAD, (spec.height, spec.width, 1))
    for channel, colour in COLOURS.items():
        if channel in spec.channels:
            share = image[spec.channels.index(channel), :, :, None] / 255.0
            picture += share * (colour - picture)
    picture = picture.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    ahead = np.abs(np.arange(len(picture)) + 0.5 - len(picture) / 2) * spec.resolution / PIXELS
    aside = np.abs(np.arange(picture.shape[1]) + 0.5 - picture.shape[1] / 2) * spec.resolution / PIXELS
    picture[(ahead < size[0] / 2)[:, None] & (aside < size[1] / 2)] = EGO
    return picture.round().astype(np.uint8)
