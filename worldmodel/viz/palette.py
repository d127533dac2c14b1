"""The colours of every picture and chart, as 8-bit RGB; they suit a light and a dark page."""

Colour = tuple[int, int, int]

CARD: Colour = (24, 26, 30)
INK: Colour = (222, 225, 230)
FAINT_INK: Colour = (146, 152, 162)

OFF_ROAD: Colour = (84, 98, 84)
ASPHALT: Colour = (52, 55, 61)
UNSEEN: Colour = (30, 32, 36)
MARKING: Colour = (206, 208, 210)
CARS: tuple[Colour, ...] = ((238, 239, 241), (214, 217, 221), (190, 194, 200), (168, 173, 181))
GLASS: Colour = (70, 78, 90)

RECORDED: Colour = (246, 196, 69)
OURS: Colour = (76, 152, 255)
PLAN: Colour = (126, 206, 255)
DANGER: Colour = (240, 92, 84)

SERIES: tuple[Colour, ...] = (
    (62, 128, 229),
    (226, 120, 46),
    (46, 155, 107),
    (160, 98, 200),
    (204, 62, 88),
    (128, 134, 144),
    (150, 124, 40),
)
"""Curves and dots, in order; legible on white and on near-black."""


def hex_of(colour: Colour) -> str:
    """Returns the colour as CSS writes it: `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
