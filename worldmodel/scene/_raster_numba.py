"""The numba kernels of the raster: loops over crops, one thread, without the GIL. Knows arrays only.

`no_type_check` keeps jaxtyping's import hook from wrapping what numba is to compile.
"""

from math import ceil, cos, floor, hypot, pi, sin
from typing import no_type_check

import numpy as np
from numba import njit

FRACTION_BITS = 24
"""Of the fixed-point texel coordinates; 39 bits remain for the texel."""


@njit(cache=True, nogil=True)
@no_type_check
def draw_vehicles(views, frames, exclude, index, reach, resolution, target):
    """Draws the boxes of each view's frame, except that of row `exclude`.

    Args:
        views: `(N, 3)`, world pose of the viewer [m, m, rad].
        frames: `(N,)`.
        exclude: `(N,)`, vehicle row or -1.
        index: `offsets (T + 1,)`, `rows (S,)` and `boxes (S, 6)`: x, y, cos and sin of the heading, half
            length and half width; those of a frame adjacent and ordered by x.
        reach: largest half diagonal of a box [m].
        resolution: [m/px]
        target: `out (M, C, H, W)` uint8, the row of it for each view, the channel.
    """
    out, where, channel = target
    offsets, rows, boxes = index
    height, width = out.shape[2], out.shape[3]
    ahead, aside = height * resolution / 2, width * resolution / 2
    for n in range(views.shape[0]):
        image = out[where[n], channel]
        image[:] = 0
        x, y, cos_view, sin_view = views[n, 0], views[n, 1], cos(views[n, 2]), sin(views[n, 2])
        reach_x = abs(cos_view) * ahead + abs(sin_view) * aside + reach
        last = offsets[frames[n] + 1]
        slot = offsets[frames[n]] + np.searchsorted(boxes[offsets[frames[n]] : last, 0], x - reach_x)
        while slot < last and boxes[slot, 0] <= x + reach_x:
            if rows[slot] != exclude[n]:
                dx, dy = boxes[slot, 0] - x, boxes[slot, 1] - y
                along, across = cos_view * dx + sin_view * dy, cos_view * dy - sin_view * dx
                if abs(along) < ahead + reach and abs(across) < aside + reach:
                    _draw_box(
                        image,
                        along / resolution,
                        across / resolution,
                        cos_view * boxes[slot, 2] + sin_view * boxes[slot, 3],
                        cos_view * boxes[slot, 3] - sin_view * boxes[slot, 2],
                        boxes[slot, 4] / resolution,
                        boxes[slot, 5] / resolution,
                    )
            slot += 1


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _overlap(t, h):
    return min(max(min(t + 0.5, h) - max(t - 0.5, -h), 0.0), 1.0)


@njit(cache=True, nogil=True)
@no_type_check
def _draw_box(image, along, across, cos_box, sin_box, half_length, half_width):
    """Adds a box, all in pixels and in the view's frame, to `image`; the sum saturates."""
    height, width = image.shape
    # Pixels with any coverage have |u| < half length + 1/2 and |v| < half width + 1/2.
    extent_ahead = abs(cos_box) * (half_length + 0.5) + abs(sin_box) * (half_width + 0.5)
    extent_aside = abs(sin_box) * (half_length + 0.5) + abs(cos_box) * (half_width + 0.5)
    row, col = height / 2 - 0.5 - along, width / 2 - 0.5 - across  # of the box centre
    first_col, last_col = max(0, ceil(col - extent_aside)), min(width - 1, floor(col + extent_aside))
    for r in range(max(0, ceil(row - extent_ahead)), min(height - 1, floor(row + extent_ahead)) + 1):
        u = cos_box * (row - r) + sin_box * (col - first_col)
        v = cos_box * (col - first_col) - sin_box * (row - r)
        for c in range(first_col, last_col + 1):
            grey = _overlap(u, half_length) * _overlap(v, half_width) * 255.0 + 0.5
            image[r, c] = min(255, image[r, c] + int(grey))
            u -= sin_box
            v -= cos_box


@njit(cache=True, nogil=True)
@no_type_check
def draw_texture(views, texture, frame, resolution, target):
    """Looks up the nearest texel at every pixel centre; outside the texture is off-road.

    Args:
        views: `(N, 3)`, world pose of the viewer [m, m, rad].
        texture: `(NX, NY)` uint16, lane + 256 off-road.
        frame: x and y of the texture's corner, size of a texel along x and y [m].
        resolution: [m/px]
        target: `out (M, C, H, W)` uint8, the row of it for each view, the channels for lane and off-road
            (-1: nowhere).
    """
    out, where, lane_channel, off_road_channel = target
    rows, cols = out.shape[2] - 1, out.shape[3] - 1
    scale_x, scale_y = resolution / frame[2], resolution / frame[3]
    crop = np.empty(out.shape[2] * out.shape[3], dtype=np.uint16)
    for n in range(views.shape[0]):
        cos_view, sin_view = cos(views[n, 2]), sin(views[n, 2])
        # One row back and one column to the right, in texels.
        row_x, row_y = -cos_view * scale_x, -sin_view * scale_y
        col_x, col_y = sin_view * scale_x, -cos_view * scale_y
        x = (views[n, 0] - frame[0]) / frame[2] - rows / 2 * row_x - cols / 2 * col_x
        y = (views[n, 1] - frame[1]) / frame[3] - rows / 2 * row_y - cols / 2 * col_y
        inside = _inside(x, y, texture.shape)
        inside &= _inside(x + rows * row_x, y + rows * row_y, texture.shape)
        inside &= _inside(x + cols * col_x, y + cols * col_y, texture.shape)
        inside &= _inside(x + rows * row_x + cols * col_x, y + rows * row_y + cols * col_y, texture.shape)
        steps = (x, y, row_x, row_y, col_x, col_y)
        if inside:
            _look_up(texture, steps, out.shape[2], out.shape[3], crop)
        else:
            _look_up_checked(texture, steps, out.shape[2], out.shape[3], crop)
        if lane_channel >= 0:
            lane = out[where[n], lane_channel].reshape(crop.size)
            for pixel in range(crop.size):
                lane[pixel] = np.uint8(crop[pixel])
        if off_road_channel >= 0:
            off_road = out[where[n], off_road_channel].reshape(crop.size)
            for pixel in range(crop.size):
                off_road[pixel] = np.uint8(crop[pixel] >> np.uint16(8))


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _inside(x, y, shape):
    return 0.01 < x < shape[0] - 0.01 and 0.01 < y < shape[1] - 0.01


@njit(cache=True, nogil=True)
@no_type_check
def _look_up(texture, steps, height, width, crop):
    """Copies the texels of a crop that lies inside the texture.

    Views look along `x`, more or less, so neighbouring columns mostly share the texel's `x`: the inner loop
    runs over those, with `y` in fixed point and an unsigned index, which spares every check.
    """
    x, y, row_x, row_y, col_x, col_y = steps
    flat = texture.reshape(texture.size)
    unit, bits = float(1 << FRACTION_BITS), np.uint64(FRACTION_BITS)
    stride, step_y = np.uint64(texture.shape[1]), np.uint64(int(col_y * unit))
    # Its sign is that of `col_x`: a view along the road must not walk backwards for ever.
    columns_per_texel = 1.0 / col_x if abs(col_x) > 1e-6 else (1e6 if col_x > 0 else -1e6)
    pixel = np.uint64(0)
    for r in range(height):
        fixed_y = np.uint64(int((y + r * row_y) * unit))
        c = 0
        while c < width:
            here = x + r * row_x + c * col_x
            i = int(here)
            to_border = i + 1 - here if col_x > 0 else i - here
            num = min(width - c, int(min(to_border * columns_per_texel, 1e6)) + 1)
            base = np.uint64(i) * stride
            for _ in range(num):
                crop[pixel] = flat[base + (fixed_y >> bits)]
                pixel += np.uint64(1)
                fixed_y += step_y
            c += num


@njit(cache=True, nogil=True)
@no_type_check
def _look_up_checked(texture, steps, height, width, crop):
    """Copies the texels of a crop of which any part may lie outside the texture."""
    x, y, row_x, row_y, col_x, col_y = steps
    for r in range(height):
        for c in range(width):
            i, j = floor(x + r * row_x + c * col_x), floor(y + r * row_y + c * col_y)
            crop[r * width + c] = 0xFF00
            if 0 <= i < texture.shape[0] and 0 <= j < texture.shape[1]:
                crop[r * width + c] = texture[i, j]


@njit(cache=True, nogil=True)
@no_type_check
def mark_covered(views, coverage, ahead, out):
    """Writes whether each row's centre, `ahead` of the view, has an x within the view's `coverage`."""
    for n in range(views.shape[0]):
        cos_view = cos(views[n, 2])
        for r in range(ahead.shape[0]):
            x = views[n, 0] + cos_view * ahead[r]
            out[n, r] = coverage[n, 0] <= x <= coverage[n, 1]


@njit(cache=True, nogil=True)
@no_type_check
def segment_distance(segments, shape, texel, limit):
    """Returns the distance from every texel centre to the nearest segment, at most `limit` [m].

    Args:
        segments: `(S, 4)`, both end points from the texture's corner [m].
        shape: of the texture.
        texel: its size along x and y [m].
        limit: [m]
    """
    distance = np.full(shape, limit, dtype=np.float32)
    for s in range(segments.shape[0]):
        ax, ay, bx, by = segments[s]
        dx, dy = bx - ax, by - ay
        squared = max(dx * dx + dy * dy, 1e-12)
        first_i = max(0, floor((min(ax, bx) - limit) / texel[0]))
        last_i = min(shape[0] - 1, ceil((max(ax, bx) + limit) / texel[0]))
        slope_y = dy / dx if abs(dx) > 1e-9 else 0.0
        for i in range(first_i, last_i + 1):
            x = (i + 0.5) * texel[0]
            # The part of the segment within `limit` of this x bounds the y worth looking at.
            y0, y1 = ay, by
            if abs(dx) > 1e-9:
                near = ay + slope_y * (min(max(x - limit, min(ax, bx)), max(ax, bx)) - ax)
                far = ay + slope_y * (min(max(x + limit, min(ax, bx)), max(ax, bx)) - ax)
                y0, y1 = near, far
            first_j = max(0, floor((min(y0, y1) - limit) / texel[1]))
            last_j = min(shape[1] - 1, ceil((max(y0, y1) + limit) / texel[1]))
            for j in range(first_j, last_j + 1):
                y = (j + 0.5) * texel[1]
                t = min(max(((x - ax) * dx + (y - ay) * dy) / squared, 0.0), 1.0)
                distance[i, j] = min(distance[i, j], hypot(x - ax - t * dx, y - ay - t * dy))
    return distance


@njit(cache=True, nogil=True)
@no_type_check
def fill_rings(segments, shape, texel):
    """Returns which texel centres lie inside the closed rings that the segments make (even-odd rule)."""
    crossed = np.zeros((shape[0], shape[1] + 1), dtype=np.uint8)
    for s in range(segments.shape[0]):
        ax, ay, bx, by = segments[s]
        if ax > bx:
            ax, ay, bx, by = bx, by, ax, ay
        # Texel centres with ax <= x < bx: half open, so that a shared corner counts once.
        first, last = max(0, ceil(ax / texel[0] - 0.5)), min(shape[0], ceil(bx / texel[0] - 0.5))
        for i in range(first, last):
            y = ay + (by - ay) * ((i + 0.5) * texel[0] - ax) / (bx - ax)
            crossed[i, min(max(ceil(y / texel[1] - 0.5), 0), shape[1])] ^= 1
    inside = np.zeros(shape, dtype=np.bool_)
    for i in range(shape[0]):
        parity = False
        for j in range(shape[1]):
            parity ^= crossed[i, j] == 1
            inside[i, j] = parity
    return inside


@njit(cache=True, nogil=True)
@no_type_check
def crop_fields(views, fields, frame, ahead, aside, out):
    """Cuts patches out of the gridded road fields; beyond the grid its border is repeated.

    Args:
        views: `(N, 3)`, world pose of the patch's origin [m, m, rad].
        fields: `(NX, NY, 3)`: two fields to interpolate and a direction [rad], the nearest of which is taken.
        frame: x and y of the first grid point and the spacing [m].
        ahead: `(HR,)`, of the patch's rows [m].
        aside: `(WR,)`, of its columns [m].
        out: `(N, 3, HR, WR)`; the direction becomes relative to the view's.
    """
    num_x, num_y = fields.shape[0], fields.shape[1]
    flat = fields.reshape(fields.size)
    next_x, next_y = np.uint64(3 * num_y), np.uint64(3)
    half_turn, whole_turn = np.float32(pi), np.float32(2 * pi)
    for n in range(views.shape[0]):
        cos_view, sin_view = cos(views[n, 2]) / frame[2], sin(views[n, 2]) / frame[2]
        origin_x, origin_y = (views[n, 0] - frame[0]) / frame[2], (views[n, 1] - frame[1]) / frame[2]
        heading = np.float32(views[n, 2] - 2 * pi * floor((views[n, 2] + pi) / (2 * pi)))
        for r in range(ahead.shape[0]):
            row_x, row_y = origin_x + cos_view * ahead[r], origin_y + sin_view * ahead[r]
            for c in range(aside.shape[0]):
                x = min(max(row_x - sin_view * aside[c], 0.0), num_x - 1.0)
                y = min(max(row_y + cos_view * aside[c], 0.0), num_y - 1.0)
                i, j = min(int(x), num_x - 2), min(int(y), num_y - 2)
                x, y = np.float32(x - i), np.float32(y - j)
                corner = np.uint64(3 * (i * num_y + j))  # unsigned: no check for a negative index
                for k in range(2):
                    near = flat[corner] + (flat[corner + next_y] - flat[corner]) * y
                    beyond = corner + next_x
                    far = flat[beyond] + (flat[beyond + next_y] - flat[beyond]) * y
                    out[n, k, r, c] = near + (far - near) * x
                    corner += np.uint64(1)
                corner += next_x if x >= 0.5 else np.uint64(0)
                corner += next_y if y >= 0.5 else np.uint64(0)
                turn = flat[corner] - heading
                if turn >= half_turn:
                    turn -= whole_turn
                elif turn < -half_turn:
                    turn += whole_turn
                out[n, 2, r, c] = turn
