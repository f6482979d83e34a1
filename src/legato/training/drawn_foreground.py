"""Clips with thin and sharp things before them: letters, twigs, wires, hair, bars and leaves.

A hundred clips and photographs hold few kinds of fine structure, and a network learns those by
heart. What is drawn here is never the same twice, moves by itself, and shows another clip or plain
colours. After the dead leaves model of natural pictures (Lee, Mumford and Huang 2001), which can
teach restoration without any photograph (Achddou, Gousseau and Ladjal 2021).
"""

import math
import string
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont  # comes with diffusers

FINENESS = 3
"""Drawn pixels per pixel of the clip, each way."""
MARGIN_PX = 12
"""Drawn beyond the edges of the clip, so that motion shows no border."""
MOST_LAYERS = 2
MANY = 400
"""Strokes or leaves of a layer at most."""
SPEED_PX = 1.5
"""Standard deviation of a layer's motion per frame and axis, if it moves."""
MOVING_SHARE = 0.7
"""Of layers that move; titles stand still."""
SOFTNESS_PX = (0.2, 0.65)
"""Standard deviation of a lens's blur: no camera draws a perfect edge."""
LETTERS = list(string.ascii_letters + string.digits + string.punctuation + " " * 12)
PEN_HEIGHT_PX = 30
"""Of a line in OpenCV's stroke fonts at scale 1."""

Clip = UInt8[ndarray, "T H W 3"]
Frames = Float32[ndarray, "T H W 3"]


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn of one layer, `FINENESS` times as large: colours, and where there are any."""

    colours: UInt8[ndarray, "rows cols 3"]
    alpha: UInt8[ndarray, "rows cols"]
    palette: UInt8[ndarray, "N 3"]

    @classmethod
    def empty(cls, size_px: tuple[int, ...], palette: UInt8[ndarray, "N 3"]) -> "Canvas":
        """Return one for clips of `size_px` rows and columns, in the palette's first colour."""
        size = tuple((n + 2 * MARGIN_PX) * FINENESS for n in size_px)
        ground = np.broadcast_to(palette[0], (*size, 3)).copy()
        return cls(ground, np.zeros(size, np.uint8), palette)

    def line(self, points: Float64[ndarray, "N 2"], thickness: int, colour: int) -> None:
        """Draw a line through `points`, x and y, in a colour of the palette by its number."""
        line = [points.round().astype(np.int32)]
        cv2.polylines(self.colours, line, False, self._shade(colour), thickness, cv2.LINE_AA)
        cv2.polylines(self.alpha, line, False, (255,), thickness, cv2.LINE_AA)

    def polygon(self, corners: Float64[ndarray, "N 2"], colour: int) -> None:
        """Fill a polygon, likewise."""
        outline = [corners.round().astype(np.int32)]
        cv2.fillPoly(self.colours, outline, self._shade(colour), cv2.LINE_AA)
        cv2.fillPoly(self.alpha, outline, (255,), cv2.LINE_AA)

    def _shade(self, colour: int) -> tuple[int, ...]:
        return tuple(map(int, self.palette[colour % len(self.palette)]))


def with_foreground(clip: Clip, other: Clip, rng: np.random.Generator) -> Clip:
    """Return the clip behind one to `MOST_LAYERS` layers of drawn things.

    Args:
        clip: of one shot.
        other: of the same shape; some layers show it where they would show plain colours.
        rng: decides on everything.
    """
    frames: Frames = clip.astype(np.float32)
    for _ in range(int(rng.integers(1, MOST_LAYERS + 1))):
        colours, alpha = _layer(clip.shape[:3], rng)
        if rng.random() < 0.4:
            gain = rng.uniform(0.5, 1.3, 3) if rng.random() < 0.5 else rng.uniform(0.5, 1.3)
            colours = np.minimum(other * np.float32(gain), 255)
        frames += (colours - frames) * alpha * np.float32(rng.choice((1.0, 1.0, 0.7, 0.4)))
    return np.asarray(frames.clip(0, 255).round().astype(np.uint8))


def _layer(
    shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Frames, Float32[ndarray, "T H W 1"]]:
    """Return the colours of a random layer and how far it covers what is behind it, 0 to 1."""
    canvas = Canvas.empty(shape[1:], random_palette(rng))
    _KINDS[int(rng.integers(len(_KINDS)))](canvas, rng)
    return moving(canvas, shape, rng)


def moving(
    canvas: Canvas, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Frames, Float32[ndarray, "T H W 1"]]:
    """Return colours and cover, 0 to 1, of a canvas that moves as a whole, or stands."""
    num_frames, rows, cols = shape
    size = canvas.alpha.shape
    moves = rng.random() < MOVING_SHARE
    speed_px = moves * rng.normal(0, SPEED_PX, 2)
    turn_deg, zoom = moves * rng.normal(0, 0.4), 1 + moves * rng.normal(0, 0.004)
    softness_px = rng.uniform(*SOFTNESS_PX)
    colours: list[ndarray] = []
    alpha: list[ndarray] = []
    for k in range(num_frames):
        away = np.clip(k * speed_px, -MARGIN_PX, MARGIN_PX) - MARGIN_PX
        matrix = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), k * turn_deg, zoom**k)
        matrix[:, 2] += away * FINENESS
        for drawn, frames in ((canvas.colours, colours), (canvas.alpha, alpha)):
            moved = cv2.warpAffine(drawn, matrix, (cols * FINENESS, rows * FINENESS))
            small = cv2.resize(moved, (cols, rows), interpolation=cv2.INTER_AREA)
            frames.append(cv2.GaussianBlur(small, (0, 0), softness_px).astype(np.float32))
    return np.stack(colours), np.stack(alpha)[..., None] / 255


def random_palette(rng: np.random.Generator) -> UInt8[ndarray, "N 3"]:
    """Return colours of one thing: shades around one, or anything at all."""
    base = rng.uniform(0, 255) + rng.normal(0, 1, 3) * rng.choice((5.0, 25.0, 80.0))
    spread = rng.choice((0.0, 12.0, 40.0))
    return np.asarray((base + rng.normal(0, 1, (16, 3)) * spread).clip(0, 255), np.uint8)


def _thickness(rng: np.random.Generator, largest_px: float = 5.0) -> int:
    """Return a line's thickness in drawn pixels; thin ones are as frequent as thick ones."""
    return max(1, round(FINENESS * math.exp(rng.uniform(math.log(0.5), math.log(largest_px)))))


def _curve(
    start: Float64[ndarray, "2"], angle: float, length: float, bend: float, rng: np.random.Generator
) -> Float64[ndarray, "N 2"]:
    """Return the points of a stroke that turns by `bend` on its way, unsteadily."""
    count = 12
    angles = angle + np.linspace(0, bend, count) + np.cumsum(rng.normal(0, 0.04, count))
    steps = np.stack((np.cos(angles), np.sin(angles)), axis=1) * length / count
    return np.asarray(start + np.cumsum(steps, axis=0))


def _anywhere(canvas: Canvas, rng: np.random.Generator) -> Float64[ndarray, "2"]:
    return rng.uniform(0, 1, 2) * canvas.alpha.shape[::-1]


def _twigs(canvas: Canvas, rng: np.random.Generator) -> None:
    """Branches that divide and taper."""
    side = max(canvas.alpha.shape)
    growing = [
        (_anywhere(canvas, rng), rng.uniform(0, 2 * math.pi), 1.6 * _thickness(rng), side / 4)
        for _ in range(int(rng.integers(1, 4)))
    ]
    spread, taper = rng.uniform(0.2, 1.0), rng.uniform(0.6, 0.85)
    for drawn in range(MANY):
        if not growing:
            break
        start, angle, thickness, length = growing.pop(0)
        points = _curve(start, angle, length, rng.normal(0, 0.5), rng)
        canvas.line(points, max(1, round(thickness)), drawn)
        if thickness > FINENESS / 3:
            for at in rng.integers(3, len(points), int(rng.integers(1, 4))):
                turned = angle + rng.choice((-1, 1)) * rng.uniform(0.5, 1.5) * spread
                growing.append((points[at], turned, thickness * taper, length * taper))


def _strands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Hair, grass or wires: strokes of about one direction."""
    side = max(canvas.alpha.shape)
    angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.6)
    disorder = rng.choice((0.0, 0.05, 0.3))
    largest_px = float(rng.choice((1.2, 2.5, 5.0)))
    length = side * rng.choice((0.1, 0.3, 2.0))
    for index in range(int(math.exp(rng.uniform(1, math.log(MANY))))):
        turned = angle + rng.normal(0, disorder)
        start = _anywhere(canvas, rng) - length / 2 * np.array([math.cos(angle), math.sin(angle)])
        points = _curve(start, turned, length, bend + rng.normal(0, disorder), rng)
        canvas.line(points, _thickness(rng, largest_px), index)


def _letters(canvas: Canvas, rng: np.random.Generator) -> None:
    """Lines of print or of a pen's strokes, level or turned."""
    rows, cols = canvas.alpha.shape
    height = FINENESS * math.exp(rng.uniform(math.log(6), math.log(60)))
    spacing = height * rng.uniform(1.1, 2.0)
    length = max(2, int(2 * cols / height))
    lines = [
        (int(rng.uniform(-0.2, 0.3) * cols), int(top), "".join(rng.choice(LETTERS, length)))
        for top in np.arange(rng.uniform(0, spacing), rows, spacing)
    ]
    if rng.random() < 0.5:
        page = Image.fromarray(canvas.alpha)
        font = ImageFont.load_default(height)
        for left, top, text in lines:
            ImageDraw.Draw(page).text((left, top), text, fill=255, font=font)
        written = np.array(page)
    else:
        written = canvas.alpha.copy()
        pen, face = _thickness(rng, max(1.0, height / FINENESS / 6)), int(rng.integers(8))
        for left, top, text in lines:
            at = left, top
            cv2.putText(written, text, at, face, height / PEN_HEIGHT_PX, (255,), pen, cv2.LINE_AA)
    turn_deg = 0.0 if rng.random() < 0.5 else rng.uniform(-90, 90)
    matrix = cv2.getRotationMatrix2D((cols / 2, rows / 2), turn_deg, 1.0)
    canvas.alpha[:] = cv2.warpAffine(written, matrix, (cols, rows))


def _bars(canvas: Canvas, rng: np.random.Generator) -> None:
    """Stripes, fences, grids, bricks: what repeats."""
    rows, cols = canvas.alpha.shape
    y, x = np.mgrid[:rows, :cols].astype(np.float32) / FINENESS
    angle = 0.0 if rng.random() < 0.4 else rng.uniform(0, math.pi)
    along, across = (
        x * math.cos(angle) + y * math.sin(angle),
        y * math.cos(angle) - x * math.sin(angle),
    )
    if rng.random() < 0.3:
        along = along + rng.uniform(1, 6) * np.sin(across / rng.uniform(4, 40))
    period = math.exp(rng.uniform(math.log(3), math.log(40)))
    share = rng.uniform(0.15, 0.7)
    drawn = along % period < share * period
    if rng.random() < 0.5:
        second = period * rng.uniform(0.3, 3.0)
        row = np.floor(along / period) * (second * rng.choice((0.0, 0.5)))
        drawn |= (across + row) % second < min(share * period, 0.7 * second)
    canvas.alpha[drawn] = 255


def _leaves(canvas: Canvas, rng: np.random.Generator) -> None:
    """Ellipses, polygons and blobs of all sizes before one another."""
    smallest, largest = 1.5 * FINENESS, max(canvas.alpha.shape) / 4
    corners = int(rng.integers(3, 9))
    is_round = rng.random() < 0.5
    for index in range(int(math.exp(rng.uniform(1.5, math.log(MANY))))):
        u = rng.random()  # density falls with the cube of the radius, as in natural pictures
        radius = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5
        middle, turned = _anywhere(canvas, rng), rng.uniform(0, 2 * math.pi)
        angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
        if is_round:
            angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        flat = np.stack((np.cos(angles), np.sin(angles) * rng.uniform(0.3, 1.0)), axis=1) * radius
        x_axis = np.array([math.cos(turned), math.sin(turned)])
        y_axis = np.array([-x_axis[1], x_axis[0]])
        canvas.polygon(middle + flat @ np.stack((x_axis, y_axis)), index)


_KINDS = (_twigs, _strands, _letters, _bars, _leaves)
