"""Labels and grids of pictures. Knows no roads and no models: a picture is `uint8 (H, W, 3)` RGB."""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from worldmodel.viz.palette import CARD, FAINT_INK, INK, Colour

Picture = UInt8[np.ndarray, "_ _ 3"]
GAP = 6


def encode_png(picture: Picture) -> bytes:
    """Returns the picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_text(
    picture: Picture, text: str, at: tuple[float | int, float | int], *, size: int = 13, colour: Colour = INK,
    anchor: str = "la", bold: bool = False,
) -> Picture:  # fmt: skip
    """Returns the picture with `text` at pixel `at` (column, row); `anchor` as in Pillow."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(at, text, font=_font(size, bold), fill=colour, anchor=anchor)
    return np.asarray(image)


def text_width(text: str, *, size: int = 13, bold: bool = False) -> int:
    """Returns how many pixels wide `text` is."""
    return int(np.ceil(_font(size, bold).getlength(text)))


def blank(height: int, width: int, colour: Colour = CARD) -> Picture:
    """Returns a picture of one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def grid(
    pictures: Sequence[Sequence[Picture]], *, rows: Sequence[str] = (), columns: Sequence[str] = (),
    size: int = 13,
) -> Picture:  # fmt: skip
    """Returns pictures of one size in rows and columns on a dark card, with labels left and above."""
    height, width = pictures[0][0].shape[:2]
    left = GAP + (max(text_width(label, size=size) for label in rows) + 2 * GAP if rows else 0)
    top = GAP + (size + 2 * GAP if columns else 0)
    card = blank(
        top + len(pictures) * (height + GAP), left + max(len(line) for line in pictures) * (width + GAP)
    )
    for i, line in enumerate(pictures):
        for j, picture in enumerate(line):
            y, x = top + i * (height + GAP), left + j * (width + GAP)
            card[y : y + height, x : x + width] = picture
    for i, label in enumerate(rows):
        middle = (2 * GAP, top + i * (height + GAP) + height / 2)
        card = write_text(card, label, middle, size=size, anchor="lm")
    for j, label in enumerate(columns):
        middle = (left + j * (width + GAP) + width / 2, top - GAP)
        card = write_text(card, label, middle, size=size, colour=FAINT_INK, anchor="ms")
    return card


def stack(pictures: Sequence[Picture], *, gap: int = GAP) -> Picture:
    """Returns the pictures below one another, narrower ones padded on the right."""
    width = max(one.shape[1] for one in pictures)
    parts = []
    for one in pictures:
        padded = blank(one.shape[0], width)
        padded[:, : one.shape[1]] = one
        parts += [padded, blank(gap, width)]
    return np.concatenate(parts[:-1])


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    # matplotlib ships its fonts, so the pictures look the same everywhere
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
