"""An adult chest as tables of shapes, painted slice by slice in Hounsfield units.

Millimetres throughout: x grows to the patient's left, y to the back, z towards the feet, z = 0 at the lungs' apex.
Nothing here is a real person: every chest is drawn from a seed. It knows nothing of DICOM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

AIR, LUNG, FAT, SKIN, MUSCLE, BLOOD = -1000.0, -862.0, -98.0, 15.0, 58.0, 165.0
CORTEX, MARROW, DISC, CORD = 780.0, 190.0, 85.0, 32.0

# The outline by level: half width and half depth of the body, then of the rib cage and how far back its centre lies.
LEVELS = np.array([-60, -35, -10, 15, 45, 90, 150, 210, 260, 310], np.float32)
BODY_WIDTH = np.array([64, 92, 148, 170, 171, 167, 163, 158, 154, 151], np.float32)
BODY_DEPTH = np.array([66, 74, 84, 94, 102, 110, 115, 117, 115, 112], np.float32)
CAGE_WIDTH = np.array([8, 20, 46, 74, 98, 117, 128, 132, 131, 128], np.float32)
CAGE_DEPTH = np.array([8, 18, 34, 52, 68, 79, 87, 92, 91, 88], np.float32)
CAGE_BACK = np.array([10, 12, 14, 13, 10, 6, 2, 0, 0, 0], np.float32)

RIB_SPACING, RIB_SLOPE, RIB_HALF_HEIGHT, RIB_HALF_DEPTH = 25.0, 104.0, 6.4, 4.2
VERTEBRA_SPACING, DISC_HEIGHT = 24.0, 5.0


@dataclass(frozen=True)
class Organ:
    """An ellipsoid: centre, half axes and density; `tilt` turns it in the axial plane."""

    x: float
    y: float
    z: float
    rx: float
    ry: float
    rz: float
    density: float
    tilt: float = 0.0


@dataclass(frozen=True)
class Tube:
    """A vessel or airway along a path of (x, y, z, radius)."""

    path: tuple[tuple[float, float, float, float], ...]
    density: float


# Painted in this order, later ones over earlier ones.
MEDIASTINUM = (
    Organ(0, 4, 40, 33, 44, 80, -85),
    Organ(2, -6, 110, 36, 62, 75, -85),
    Organ(2, 6, 225, 34, 66, 60, -85),
    Organ(14, -22, 182, 70, 57, 66, -92, 0.35),  # the pericardial fat
)
HEART = (
    Organ(-34, -14, 178, 25, 31, 40, 158),  # right atrium
    Organ(4, 14, 158, 34, 22, 26, 150),  # left atrium
    Organ(4, -42, 188, 42, 25, 40, 152, 0.25),  # right ventricle
    Organ(40, -20, 190, 37, 33, 44, 108, 0.6),  # left ventricle: myocardium, then its blood
    Organ(39, -18, 186, 23, 20, 32, 160, 0.6),
    Organ(0, -60, 205, 40, 12, 30, -95, 0.1),  # fat in front of the heart
)
# fmt: off
VESSELS = (
    Tube(((-20, -2, -20, 7), (-22, -6, 40, 8), (-27, -14, 90, 9.5), (-30, -14, 150, 11)), 175.0),  # upper vena cava
    Tube(((28, -2, -20, 6), (12, -22, 30, 7), (-14, -20, 58, 7), (-26, -12, 80, 8)), 170.0),  # left innominate vein
    Tube(((18, 2, -20, 4.5), (16, 4, 30, 5), (14, 6, 70, 6)), 172.0),  # left common carotid
    Tube(((34, 10, -20, 5), (28, 18, 40, 5.5), (22, 22, 72, 6.5)), 172.0),  # left subclavian
    Tube(((-14, 2, -20, 6), (-8, -2, 40, 7), (2, -6, 72, 8)), 172.0),  # brachiocephalic trunk
    # the aorta, up, over and down; then the pulmonary trunk and its two arteries
    Tube(((6, -4, 158, 17), (-8, -20, 130, 17), (-10, -22, 105, 16.5), (-3, -12, 84, 15.5), (10, 4, 76, 15),
          (21, 24, 80, 14), (25, 40, 98, 13), (24, 47, 140, 12.5), (20, 50, 200, 12), (10, 48, 310, 11.5)), BLOOD),
    Tube(((6, -38, 150, 15), (12, -34, 130, 15), (18, -20, 116, 14), (22, -4, 110, 12), (42, 10, 112, 9)), 172.0),
    Tube(((14, -24, 118, 13), (0, -4, 120, 11.5), (-24, 2, 124, 10), (-44, 4, 128, 8.5)), 172.0),
    Tube(((-20, 16, 152, 7), (-44, 14, 150, 6)), 155.0),  # right and left pulmonary veins
    Tube(((26, 18, 150, 7), (46, 18, 150, 6)), 155.0),
    Tube(((-26, 4, 205, 12), (-24, 12, 240, 12.5), (-22, 20, 310, 12.5)), 140.0),  # inferior vena cava
    Tube(((8, 24, -60, 6), (6, 32, 60, 6.5), (8, 36, 150, 6.5), (16, 28, 230, 7), (26, 10, 250, 8)), 45.0),  # gullet
)
# fmt: on
AIRWAYS = (
    Tube(((0, -2, -60, 8), (0, 6, 0, 8.5), (1, 12, 60, 8.5), (0, 16, 98, 9), (0, 17, 104, 9)), AIR),
    Tube(((0, 17, 102, 7.5), (-16, 16, 114, 7), (-34, 13, 128, 6), (-46, 16, 150, 4.5)), AIR),
    Tube(((0, 17, 102, 7), (18, 16, 118, 6.3), (38, 16, 134, 5.5), (48, 20, 152, 4.3)), AIR),
    Tube(((-30, 13, 122, 5), (-50, 6, 108, 3.6), (-60, 0, 92, 2.6)), AIR),
    Tube(((36, 15, 132, 4.6), (54, 2, 120, 3.4), (62, -6, 104, 2.4)), AIR),
)
ABDOMEN = (
    Organ(104, 42, 278, 25, 44, 50, 122, -0.25),  # spleen
    Organ(66, -22, 286, 48, 40, 52, 62, 0.2),  # stomach: wall, contents, bubble
    Organ(66, -20, 286, 43, 35, 48, 18, 0.2),
    Organ(64, -46, 280, 30, 17, 36, AIR, 0.1),
    Organ(-46, 58, 318, 26, 18, 26, 150, 0.4),  # the upper pole of the right kidney
)


class Plane:
    """An axial grid of pixel centres, with the smooth warp that keeps a slice from looking drawn with a compass."""

    def __init__(self, columns: int, rows: int, dx: float, dy: float) -> None:
        self.dx, self.dy = dx, dy
        self.x = ((np.arange(columns) - (columns - 1) / 2) * dx).astype(np.float32)
        self.y = ((np.arange(rows) - (rows - 1) / 2) * dy).astype(np.float32)
        self.wx: Image = np.broadcast_to(self.x, (rows, columns)).copy()
        self.wy: Image = np.broadcast_to(self.y[:, None], (rows, columns)).copy()

    def warp(self, east: Image, south: Image) -> None:
        """Bend the grid by these displacements in millimetres."""
        self.wx = self.x[None, :] + east
        self.wy = self.y[:, None] + south

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """The rows and columns that a shape of this reach can touch."""
        reach += 8.0
        left, right = np.searchsorted(self.x, [x - reach, x + reach])
        top, bottom = np.searchsorted(self.y, [y - reach, y + reach])
        return slice(int(top), int(bottom)), slice(int(left), int(right))

    def ellipse(self, hu: Image, x: float, y: float, rx: float, ry: float, density: float, tilt: float = 0.0) -> None:
        box = self.window(x, y, max(rx, ry))
        u, v = self.wx[box] - x, self.wy[box] - y
        if tilt:
            cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
            u, v = cos * u + sin * v, cos * v - sin * u
        hu[box][(u / rx) ** 2 + (v / ry) ** 2 < 1] = density


class Texture:
    """Smooth random fields that flow from slice to slice: one coarse cube, interpolated by matrix products."""

    def __init__(self, rng: np.random.Generator, plane: Plane, cell: float) -> None:
        self.cell = cell
        across = int(np.ptp(plane.x) / cell) + 4
        down = int(np.ptp(plane.y) / cell) + 4
        self.cube = rng.standard_normal((int(420 / cell) + 4, down, across)).astype(np.float32)
        self.to_columns = _interpolation(plane.x, cell, across).T
        self.to_rows = _interpolation(plane.y, cell, down)

    def at(self, z: float) -> Image:
        """The field at this level, mean 0 and deviation about 0.6."""
        level = (z + 70.0) / self.cell
        low = int(np.clip(level, 0, len(self.cube) - 2))
        part = level - low
        part = part * part * (3 - 2 * part)
        coarse = self.cube[low] * (1 - part) + self.cube[low + 1] * part
        return np.asarray(self.to_rows @ coarse @ self.to_columns, np.float32)


def _interpolation(positions: Image, cell: float, count: int) -> Image:
    """A matrix that samples `count` coarse values, `cell` apart, at these positions."""
    place = (positions - positions[0]) / cell + 1
    low = np.floor(place).astype(int)
    part = place - low
    part = part * part * (3 - 2 * part)
    matrix = np.zeros((len(positions), count), np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = 1 - part
    matrix[rows, low + 1] = part
    return matrix


def squircle(x: Image, y: Image, rx: float, ry: float) -> Image:
    """1 on the outline, less inside: an ellipse with fuller corners, as a trunk has."""
    u, v = np.minimum((x / rx) ** 2, 2.3), np.minimum((y / ry) ** 2, 2.3)
    return np.asarray(np.sqrt(np.maximum(u + v - 0.42 * u * v, 0)), np.float32)


class Chest:
    """One person's chest; `slice_at` paints the slice at a level and says where its lung is."""

    def __init__(self, seed: int, plane: Plane) -> None:
        rng = np.random.default_rng(seed)
        self.plane = plane
        self.bend = Texture(rng, plane, 46.0), Texture(rng, plane, 46.0)
        self.ripple = Texture(rng, plane, 14.0), Texture(rng, plane, 14.0)
        self.grain = Texture(rng, plane, 5.0)
        self.fat = float(rng.uniform(12.0, 20.0))
        self.fullness = float(rng.uniform(0.96, 1.03))

    def slice_at(self, z: float) -> tuple[Image, Mask]:
        """Hounsfield units without noise, and the mask of aerated lung, at this level."""
        plane = self.plane
        ripple, other = self.ripple[0].at(z), self.ripple[1].at(z)
        plane.warp(self.bend[0].at(z) * 3.2 + ripple * 0.8, self.bend[1].at(z) * 3.0 + other * 0.8)
        grain = self.grain.at(z)
        hu = np.full(plane.wx.shape, AIR, np.float32)
        depth = self._wall(hu, z, ripple, other)
        cage_width, cage_depth, back = (float(np.interp(z, LEVELS, t)) for t in (CAGE_WIDTH, CAGE_DEPTH, CAGE_BACK))
        cage_width *= self.fullness
        cage = squircle(plane.wx, plane.wy - back, cage_width, cage_depth)
        self._ribs(hu, cage, z, cage_width, cage_depth, back, grain)
        inside = (cage < 1) & (depth > 0)
        below = inside & (z >= _diaphragm(plane.wx, plane.wy))
        lung = inside & ~below & (cage**2 + (max(0.0, 14 - z) / 32) ** 2 < 1)  # the apex is a dome
        hu[lung] = (LUNG + 0.32 * plane.wy + 16 * ripple + 9 * grain)[lung]
        self._abdomen(hu, below, z, ripple, other, grain)
        before = hu.copy()
        self._mediastinum(hu, z, grain)
        hu[below] = before[below]
        self._bones(hu, z, cage_depth, back, grain)
        for organ in HEART if z < 232 else ():
            self._organ(hu, organ, z, ~below)
        for tube in VESSELS:
            self._tube(hu, tube, z, 0.0)
        for tube in AIRWAYS:
            self._tube(hu, Tube(tube.path, 40.0), z, 1.7)
        for tube in AIRWAYS:
            self._tube(hu, tube, z, 0.0)
        return hu, lung & (hu < -700)

    def _wall(self, hu: Image, z: float, ripple: Image, other: Image) -> Image:
        """Skin, fat and muscle; returns the depth under the skin in millimetres, negative outside."""
        plane = self.plane
        width, thick = (float(np.interp(z, LEVELS, table)) for table in (BODY_WIDTH, BODY_DEPTH))
        outline = squircle(plane.wx, plane.wy, width * self.fullness, thick)
        depth = (1 - outline) * (thick + 0.25 * (width - thick))
        hu[depth > 0] = SKIN
        fat = self.fat * (1 - 0.35 * plane.wy / thick) + 2.5 * ripple
        hu[depth > 1.9] = (FAT + 9 * other)[depth > 1.9]
        muscle = depth > np.maximum(fat, 4)
        hu[muscle] = (MUSCLE + 9 * other)[muscle]
        inner = depth - fat + 3.0 * other
        sheets = (np.abs(inner % 14.0 - 11.0) < 0.6 + 0.9 * ripple) & (inner < 28)  # fat between the muscles
        pads = (inner > 20) & (ripple + 0.8 * other > 0.75)
        hu[muscle & (sheets | pads)] = -66.0
        return np.asarray(depth, np.float32)

    def _ribs(self, hu: Image, cage: Image, z: float, width: float, deep: float, back: float, grain: Image) -> None:
        """Twelve sloping hoops around the cage, cut by this level; cartilage in front."""
        plane = self.plane
        if z < -12:
            return
        spot = np.nonzero((cage > 1.0) & (cage < 1.22))
        x, y, ring = plane.wx[spot], plane.wy[spot] - back, cage[spot]
        scale = np.sqrt(x * x + y * y) / ring
        outward = (ring - 1) * scale - 5.4
        around = np.arctan2(np.abs(x) / width, y / deep) / np.pi  # 0 at the spine, 1 at the breastbone
        phase = (z + 12 - RIB_SLOPE * around**0.8 - np.where(x > 0, 2.0, 0.0)) / RIB_SPACING
        vertical = (phase - np.round(phase)) * RIB_SPACING
        section = (vertical / RIB_HALF_HEIGHT) ** 2 + (outward / RIB_HALF_DEPTH) ** 2
        exists = (np.round(phase) >= 0) & (around < 0.9) & (around > 0.05)
        rib = exists & (section < 1)
        values = np.where(section > 0.36, CORTEX - 120, MARROW + 50 * grain[spot])
        values = np.where(around > 0.74, 95 + 25 * (section > 0.6), values)
        rows, columns = spot[0][rib], spot[1][rib]
        hu[rows, columns] = values[rib]

    def _abdomen(self, hu: Image, below: Mask, z: float, ripple: Image, other: Image, grain: Image) -> None:
        """Liver, spleen, stomach and fat under the two domes."""
        if not below.any():
            return
        plane = self.plane
        hu[below] = (FAT - 4 + 7 * other)[below]
        rim = below & (z < _diaphragm(plane.wx, plane.wy) + 3.0)
        liver = below & (plane.wx + 0.35 * plane.wy < 34 - 0.12 * (z - 250)) & (plane.wy < 76)
        veins = np.abs(self.bend[0].at(z * 1.4 + 30) + 0.15 * ripple) < 0.032
        hu[liver] = (112 + 5 * ripple + 4 * grain + np.where(veins, 38, 0))[liver]
        for organ in ABDOMEN:
            self._organ(hu, organ, z, below)
        hu[rim] = 55.0

    def _mediastinum(self, hu: Image, z: float, grain: Image) -> None:
        everywhere = np.ones(hu.shape, np.bool_)
        for organ in MEDIASTINUM:
            self._organ(hu, organ, z, everywhere)
        nodes = (hu < -70) & (hu > -96) & (grain > 1.15)
        hu[nodes] = 30.0

    def _bones(self, hu: Image, z: float, cage_depth: float, back: float, grain: Image) -> None:
        """Vertebra or disc with its arch, breastbone, shoulder blades and collar bones."""
        plane = self.plane
        spine = back + cage_depth - 8 if z > 0 else back + 30
        level = (z + 60) % VERTEBRA_SPACING
        plane.ellipse(hu, 0, spine, 22, 18, 45.0)
        solid = level > DISC_HEIGHT
        plane.ellipse(hu, 0, spine, 18.5, 14.5, CORTEX * 0.62 if solid else DISC)
        if solid:
            plane.ellipse(hu, 0, spine, 16.6, 12.8, MARROW)
        for side in (-1, 1):
            if 8 < level < 20:
                plane.ellipse(hu, side * 12, spine + 17, 4.2, 9, CORTEX * 0.6, side * 0.3)
                plane.ellipse(hu, side * 25, spine + 20, 15, 4.6, CORTEX * 0.5, side * 0.35)
                plane.ellipse(hu, side * 25, spine + 20, 12, 2.6, MARROW, side * 0.35)
            plane.ellipse(hu, side * 8, spine + 28, 9, 3.2, CORTEX * 0.6, side * 0.75)
            self._shoulder(hu, z, side)
        plane.ellipse(hu, 0, spine + 20, 8.4, 7.2, -20.0)
        plane.ellipse(hu, 0, spine + 20, 5.2, 4.4, CORD)
        plane.ellipse(hu, 0, spine + 36, 2.8, 9 + 4 * float(np.sin(level / 4)), CORTEX * 0.55)
        if 25 < z < 205:
            front = back - cage_depth - 8
            wide = float(np.interp(z, [25, 60, 80, 190, 205], [28, 22, 15, 17, 6]))
            plane.ellipse(hu, 0, front, wide, 6.0, CORTEX * 0.6)
            plane.ellipse(hu, 0, front, wide - 2, 4.2, MARROW - 60)
        box = plane.window(0, spine, 24)
        spongy = (hu[box] > 150) & (hu[box] < 240)
        hu[box][spongy] += (42 * grain[box])[spongy]

    def _shoulder(self, hu: Image, z: float, side: int) -> None:
        plane = self.plane
        if -5 < z < 120:  # the blade slides outward and down
            x, y = side * float(np.interp(z, [-5, 120], [112, 92])), float(np.interp(z, [-5, 120], [62, 88]))
            half = float(np.interp(z, [-5, 30, 90, 120], [34, 40, 28, 6]))
            plane.ellipse(hu, x, y, half, 4.4, CORTEX * 0.55, -side * 0.62)
            plane.ellipse(hu, x, y, half - 2, 2.1, MARROW, -side * 0.62)
        if -16 < z < 28:  # the collar bone runs from the breastbone up and out
            out, front = float(np.interp(z, [-16, 28], [104, 26])), float(np.interp(z, [-16, 28], [-36, -68]))
            plane.ellipse(hu, side * out, front, 17, 6.2, CORTEX * 0.7, side * 0.32)
            plane.ellipse(hu, side * out, front, 14, 3.6, MARROW, side * 0.32)

    def _organ(self, hu: Image, organ: Organ, z: float, where: Mask) -> None:
        cut = 1 - ((z - organ.z) / organ.rz) ** 2
        if cut <= 0:
            return
        scale = float(np.sqrt(cut))
        box = self.plane.window(organ.x, organ.y, max(organ.rx, organ.ry))
        patch = hu[box].copy()
        self.plane.ellipse(hu, organ.x, organ.y, organ.rx * scale, organ.ry * scale, organ.density, organ.tilt)
        hu[box] = np.where(where[box], hu[box], patch)

    def _tube(self, hu: Image, tube: Tube, z: float, wall: float) -> None:
        path = np.asarray(tube.path, np.float32)
        if not path[:, 2].min() - 20 < z < path[:, 2].max() + 20:
            return
        steps = np.linspace(0, len(path) - 1, 24 * (len(path) - 1) + 1)
        x, y, level, radius = (np.interp(steps, np.arange(len(path)), path[:, k]) for k in range(4))
        radius = radius + wall
        cut = radius**2 - (level - z) ** 2
        for k in np.nonzero(cut > 0.5)[0]:
            reach = float(np.sqrt(cut[k]))
            self.plane.ellipse(hu, float(x[k]), float(y[k]), reach, reach, tube.density)


def _diaphragm(x: Image, y: Image) -> Image:
    """The level of the diaphragm: a higher dome over the liver, a lower one on the left, deep gutters at the back."""
    right = 196 + 92 * np.minimum(((x + 62) / 84) ** 2 + ((y + 12) / 98) ** 2, 1.3)
    left = 211 + 84 * np.minimum(((x - 66) / 84) ** 2 + ((y + 8) / 98) ** 2, 1.3)
    return np.asarray(np.minimum(right, left), np.float32)
