"""H.264 video, in memory: pictures in, the bytes of an mp4 that every browser plays out."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from jaxtyping import UInt8

from worldmodel.viz.layout import Picture


def encode_video(pictures: Iterable[Picture], *, fps: int = 10, quality: int = 26, hold: int = 0) -> bytes:
    """Returns an mp4 (H.264, yuv420p) of the pictures, all of one size; odd sizes lose a row or column.

    Args:
        quality: x264's constant rate factor; lower is better and larger.
        hold: how many times the last picture is shown again, so that an ending can be seen.
    """
    buffer = io.BytesIO()
    count = 0
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(quality), "preset": "veryfast", "threads": "1"}
        for picture in _held(pictures, hold):
            even = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
            if count == 0:
                stream.height, stream.width = even.shape[:2]
            elif even.shape[:2] != (stream.height, stream.width):
                raise ValueError(
                    f"picture {count} is {even.shape[:2]}, the first was {(stream.height, stream.width)}; "
                    "a video needs pictures of one size"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            count += 1
        if count == 0:
            raise ValueError("got no pictures; a video needs at least one")
        container.mux(stream.encode())
    return buffer.getvalue()


def decode_video(video: bytes) -> UInt8[np.ndarray, "T H W 3"]:
    """Returns the pictures of a video."""
    with av.open(io.BytesIO(video), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _held(pictures: Iterable[Picture], hold: int) -> Iterator[Picture]:
    last = None
    for last in pictures:
        yield last
    if last is not None:
        yield from (last for _ in range(hold))
