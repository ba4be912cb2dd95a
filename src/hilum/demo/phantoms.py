"""CT series and chest radiographs of a chest that does not exist, for a demonstration that has something to look at.

The chest of a seed is the same person each time: a prior and a current examination differ in the nodule and the noise.
Pixels only; `headers` makes DICOM of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilum.demo.anatomy import Chest, Image, Mask, Plane

Pixels = npt.NDArray[np.int16]

CT_MATRIX, CT_FIELD_OF_VIEW, CT_SLICES, CT_SPACING, CT_TOP = 512, 380.0, 64, 5.0, -18.0
CT_NOISE = 13.0  # deviation in soft tissue, HU
NODULE_CENTRE = (-78.0, -8.0, 92.0)  # the right upper lobe
RADIOGRAPH_ROWS, RADIOGRAPH_COLUMNS, RADIOGRAPH_SPACING = 1536, 1536, 0.25
WATER_ATTENUATION = 0.0205  # per millimetre, at the energy of a chest radiograph


@dataclass(frozen=True)
class Branches:
    """Points along the vessels of both lungs, as columns of x, y, z and radius."""

    x: Image
    y: Image
    z: Image
    radius: Image


def chest_ct(seed: int, nodule_mm: float, noise_seed: int = 0, slices: int = CT_SLICES) -> Pixels:
    """A contrast-enhanced chest CT as (slices, rows, columns) in Hounsfield units, head first."""
    spacing = CT_FIELD_OF_VIEW / CT_MATRIX
    plane = Plane(CT_MATRIX, CT_MATRIX, spacing, spacing)
    chest, branches = Chest(seed, plane), lung_vessels(seed)
    rng = np.random.default_rng([seed, noise_seed, 7])
    tiles = _noise_tiles(rng, CT_MATRIX)
    circle = plane.x[None, :] ** 2 + plane.y[:, None] ** 2 > (CT_FIELD_OF_VIEW / 2) ** 2
    couch = _couch(plane)
    volume = np.empty((slices, CT_MATRIX, CT_MATRIX), np.int16)
    for index in range(slices):
        z = CT_TOP + index * CT_SPACING
        hu, lung = chest.slice_at(z)
        _draw_branches(hu, lung, plane, branches, z, CT_SPACING)
        _draw_nodule(hu, plane, z, nodule_mm, CT_SPACING)
        hu[couch & (hu < -990)] = -380
        hu = _blurred(hu) + _noise(rng, tiles, hu)
        hu[circle] = -1024
        volume[index] = np.clip(np.rint(hu), -1024, 3071)
    return volume


def chest_radiograph(seed: int, nodule_mm: float, noise_seed: int = 0) -> Pixels:
    """A postero-anterior chest radiograph, 12 bits, dense is high: the chest projected along its depth."""
    fine, coarse = 1.0, 3.2
    rows, columns = int(RADIOGRAPH_ROWS * RADIOGRAPH_SPACING), int(RADIOGRAPH_COLUMNS * RADIOGRAPH_SPACING)
    plane = Plane(columns, 76, fine, coarse)
    chest, branches = Chest(seed, plane), lung_vessels(seed)
    path = np.empty((rows, columns), np.float32)
    for row in range(rows):
        z = -60.0 + row * fine
        hu, lung = chest.slice_at(z)
        _draw_branches(hu, lung, plane, branches, z, fine)
        _draw_nodule(hu, plane, z, nodule_mm, fine)
        bone = np.maximum(hu - 185, 0) * 1.9  # calcium absorbs more than its CT number says
        path[row] = (np.maximum(hu + 1000 + bone, 0)).sum(axis=0) * (coarse * WATER_ATTENUATION / 1000)
    rng = np.random.default_rng([seed, noise_seed, 11])
    return _developed(path, rng)


def lung_vessels(seed: int) -> Branches:
    """Two trees that fork from each hilum towards the pleura, thinner at each fork."""
    rng = np.random.default_rng([seed, 5])
    points: list[Image] = []
    for side in (-1.0, 1.0):
        starts = np.tile(np.array([side * 44.0, 8.0, 128.0]), (15, 1)) + rng.normal(0, 5, (15, 3))
        ways = rng.normal(0, 1, (15, 3)) * [0.8, 0.9, 1.3] + [side * 0.75, 0, 0]
        radius, length = 3.9, 27.0
        for _ in range(7):
            ways /= np.linalg.norm(ways, axis=1, keepdims=True)
            lengths = length * rng.uniform(0.7, 1.25, len(ways))
            steps = np.linspace(0, 1, 40)
            bow = rng.normal(0, 0.12, ways.shape)[:, None, :] * np.sin(steps * np.pi)[None, :, None]
            line = starts[:, None, :] + (ways[:, None, :] * steps[None, :, None] + bow) * lengths[:, None, None]
            thick = np.broadcast_to(radius * (1 - 0.25 * steps), line.shape[:2])[..., None]
            points.append(np.concatenate([line, thick], axis=2).reshape(-1, 4).astype(np.float32))
            ends = starts + ways * lengths[:, None]
            starts = np.repeat(ends, 2, axis=0)
            fork = rng.normal(0, 0.52, ways.shape)
            ways = np.stack([ways + fork, ways - fork], axis=1).reshape(-1, 3)
            radius, length = radius * 0.74, length * 0.86
    every = np.concatenate(points)
    return Branches(every[:, 0], every[:, 1], every[:, 2], every[:, 3])


def _draw_branches(hu: Image, lung: Mask, plane: Plane, tree: Branches, z: float, thickness: float) -> None:
    """Stamp what this slice cuts of the tree into its lung; thin vessels only partly fill a thick slice."""
    near = np.abs(tree.z - z) < np.maximum(tree.radius, thickness / 2)
    if not near.any() or not lung.any():
        return
    x, y, radius = tree.x[near], tree.y[near], tree.radius[near]
    filling = np.minimum(1.0, 0.20 + 1.7 * radius / thickness)
    layer = np.full(hu.shape, -1100, np.float32)
    for size in (0.6, 1.0, 1.6, 2.4, 3.4, 4.4):
        chosen = np.abs(radius - size) <= np.array(0.5 if size > 1.3 else 0.31)
        reach_x, reach_y = int(size / plane.dx) + 1, int(size / plane.dy) + 1
        down, across = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
        disc = ((across * plane.dx) ** 2 + (down * plane.dy) ** 2 <= size**2) | ((across == 0) & (down == 0))
        rows = np.rint((y[chosen] - plane.y[0]) / plane.dy).astype(int)[:, None] + down[disc][None, :]
        columns = np.rint((x[chosen] - plane.x[0]) / plane.dx).astype(int)[:, None] + across[disc][None, :]
        values = np.broadcast_to((-850 + 900 * filling[chosen])[:, None], rows.shape)
        fits = (rows >= 0) & (rows < hu.shape[0]) & (columns >= 0) & (columns < hu.shape[1])
        np.maximum.at(layer, (rows[fits], columns[fits]), values[fits])
    vessel = lung & (layer > hu)
    hu[vessel] = layer[vessel]


def _draw_nodule(hu: Image, plane: Plane, z: float, diameter: float, thickness: float) -> None:
    """A lobulated nodule with short spicules in the right upper lobe."""
    x, y, level = NODULE_CENTRE
    reach = diameter / 2
    gap = max(abs(z - level) - thickness / 4, 0.0)
    if diameter <= 0 or gap >= reach:
        return
    section = float(np.sqrt(reach**2 - gap**2))
    box = plane.window(x, y, reach + 6)
    u, v = plane.wx[box] - x, plane.wy[box] - y
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    edge = section * (1 + 0.10 * np.sin(3 * angle + 1) + 0.07 * np.sin(5 * angle)) + 2.6 * (np.sin(9 * angle) > 0.90)
    hu[box] = np.where(distance < edge, np.maximum(hu[box], 42), hu[box])


def _couch(plane: Plane) -> Mask:
    """The two shells of the patient table under the body."""
    bow = 128 - (plane.x[None, :] / 62) ** 2 * 3.2
    under = plane.y[:, None] - bow
    return np.asarray(((np.abs(under) < 0.9) | (np.abs(under - 17) < 0.9)) & (np.abs(plane.x[None, :]) < 178))


def _blurred(image: Image) -> Image:
    """The point spread of the scanner: a binomial kernel in both directions."""
    for axis in (0, 1):
        image = image * 0.5 + (np.roll(image, 1, axis) + np.roll(image, -1, axis)) * 0.25
    return image


def _noise_tiles(rng: np.random.Generator, size: int) -> list[Image]:
    """White noise given the texture of filtered back projection: few low frequencies, few very high ones."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    shape = (frequency * np.exp(-((frequency / 0.21) ** 2))).astype(np.float32)
    tiles = []
    for _ in range(4):
        tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * shape, (size, size))
        tiles.append((tile / tile.std()).astype(np.float32))
    return tiles


def _noise(rng: np.random.Generator, tiles: list[Image], hu: Image) -> Image:
    """Fresh noise for a slice: two tiles, shifted, a little less where the body is thin."""
    one, two = rng.choice(len(tiles), 2, replace=False)
    shift = rng.integers(0, len(hu), 4)
    mixed = np.roll(tiles[one], (int(shift[0]), int(shift[1])), (0, 1))
    mixed = mixed + np.roll(tiles[two], (int(shift[2]), int(shift[3])), (0, 1))
    strength = np.where(hu < -980, 0.45, 0.72).astype(np.float32) * CT_NOISE
    return np.asarray(mixed * strength, np.float32)


def _developed(path: Image, rng: np.random.Generator) -> Pixels:
    """From attenuation along each ray to the picture a radiographer sees: enlarged, evened out, grainy, marked."""
    coarse = _smooth(path, 34)
    even = path - 0.64 * coarse
    body = path > 0.9
    low, high = np.percentile(even[body], [1.0, 99.4])
    picture = _enlarged((even - low) / (high - low), RADIOGRAPH_ROWS, RADIOGRAPH_COLUMNS)
    dose = np.exp(-0.35 * _enlarged(path, RADIOGRAPH_ROWS, RADIOGRAPH_COLUMNS))
    grain = rng.standard_normal(picture.shape).astype(np.float32)
    picture = picture + _blurred(grain) * (0.010 + 0.012 / np.sqrt(dose + 0.05))
    picture = 420 + 2900 * np.clip(picture, -0.14, 1.2)
    _lead_marker(picture)
    return np.asarray(np.clip(np.rint(picture), 0, 4095), np.int16)


def _smooth(image: Image, width: int) -> Image:
    """Two box filters in each direction, edges held."""
    for axis in (0, 1, 0, 1):
        padded = np.pad(image, [(width + 1, width) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        total = np.cumsum(padded, axis=axis, dtype=np.float64)
        size = image.shape[axis]
        upper, lower = np.arange(2 * width + 1, 2 * width + 1 + size), np.arange(size)
        image = ((np.take(total, upper, axis) - np.take(total, lower, axis)) / (2 * width + 1)).astype(np.float32)
    return image


def _enlarged(image: Image, rows: int, columns: int) -> Image:
    """Bilinear enlargement, softened so that the source rows do not show."""
    for axis, size in ((0, rows), (1, columns)):
        place = np.linspace(0, image.shape[axis] - 1, size)
        low = np.minimum(place.astype(int), image.shape[axis] - 2)
        part = (place - low).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None, :]
        image = np.take(image, low, axis) * (1 - part) + np.take(image, low + 1, axis) * part
    return _blurred(_blurred(image))


LETTER_R = ("1111.", "1...1", "1...1", "1111.", "1.1..", "1..1.", "1...1")


def _lead_marker(picture: Image) -> None:
    """The radiographer's lead letter at the patient's right shoulder."""
    letter = np.array([[cell == "1" for cell in row] for row in LETTER_R]).repeat(9, 0).repeat(9, 1)
    patch = picture[90 : 90 + letter.shape[0], 80 : 80 + letter.shape[1]]
    patch[letter] = 3900
