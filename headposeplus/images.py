"""Images: reading raw files, separating a rendered head from its background, and cropping by one warp.

Images are RGB, uint8, (height, width, 3). Pixel (x, y) has its centre at whole numbers, so a box
(x, y, width, height) spans from x - 0.5 to x + width - 0.5.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from headposeplus.errors import ImageError
from headposeplus.rotations import Floats, in_plane

Image = np.ndarray
JPEG = (
    cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)  # fmt: skip
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_BLOCK = 8  # pixels a side of JPEG's blocks
_FAINTEST = 16  # of 255: with less of the head in a block, its colour in eight bits is too coarse to take over
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"

# Workers decode one image each; OpenCV's own threads would fight over the same cores.
cv2.setNumThreads(1)


def read_image(path: Path) -> Image:
    """Return an image file as RGB (height, width, 3), or RGBA (height, width, 4) where it has alpha.

    Raises
    ------
    ImageError
        If the file is missing, truncated or damaged. OpenCV fills what is missing of a truncated image
        with grey or black, so the end of the file is checked first.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    if data.startswith(_PNG_START):
        whole = data.rstrip(b"\0").endswith(_PNG_END)
    elif data.startswith(b"\xff\xd8"):
        whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    else:
        what = "an empty file" if not data else "something else"
        raise ImageError(f"{path}: expected a PNG or JPEG image, found {what}")
    if not whole:
        raise ImageError(f"{path}: truncated image ({len(data)} bytes); restore it from the raw archive")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header that promises more pixels than OpenCV takes
        decoded = None
    if decoded is None:
        raise ImageError(f"{path}: damaged image; restore it from the raw archive")
    if decoded.dtype != np.uint8:
        raise ImageError(f"{path}: expected eight bits a channel, found {decoded.dtype}")
    if decoded.ndim == 2:
        return cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA if decoded.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def encode(image: Image, lossless: bool) -> np.ndarray:
    """Return the bytes (n,), uint8, of an RGB image as PNG, or as JPEG of quality 95 with full colour."""
    kind, options = (".png", PNG) if lossless else (".jpg", JPEG)
    return cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].ravel()


def decode(data: np.ndarray) -> Image:
    """Return the RGB image of encoded bytes (n,); raises ImageError if they are damaged."""
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError("a crop in a shard cannot be decoded: the shard is damaged; delete it and build again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def foreground(image: Image) -> np.ndarray:
    """Return how much of each pixel is head (height, width), uint8, 0 to 255: from alpha or a black background.

    Without alpha, or where all of it is opaque, the background is the black that touches the
    border: a dark pupil is not part of it.
    """
    if image.shape[2] == 4:
        alpha = cv2.extractChannel(image, 3)
        if alpha.min() < 255:
            return alpha
    red, green, blue = cv2.split(image)[:3]
    lit = cv2.threshold(cv2.bitwise_or(cv2.bitwise_or(red, green), blue), 0, 255, cv2.THRESH_BINARY)[1]
    lit = cv2.copyMakeBorder(lit, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(lit, None, (0, 0), (1,))
    return (lit[1:-1, 1:-1] != 1).view(np.uint8) * np.uint8(255)


def premultiplied(image: Image) -> np.ndarray:
    """Return RGBA (height, width, 4), uint8, the colours multiplied by how much of each pixel is head.

    Such pixels can be averaged without mixing the background's colour into the head's.
    """
    if image.shape[2] == 3 or cv2.extractChannel(image, 3).min() == 255:
        alpha = foreground(image)
        image = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2RGBA)
        cv2.insertChannel(alpha, image, 3)
    return cv2.cvtColor(image, cv2.COLOR_RGBA2mRGBA)


def crop_matrix(box: Floats, size: int, degrees: float = 0.0, centre: Floats | None = None) -> Floats:
    """Return the affine (2, 3) from crop pixels to raw pixels.

    The raw image is turned by ``degrees`` clockwise about ``centre`` (the principal point, x and y), then
    the square about ``box`` (x, y, width, height; of the turned image) is scaled to ``size`` pixels a side.
    """
    x, y, width, height = (float(value) for value in box)
    side = max(width, height)
    step = side / size
    offset_x = x + width / 2 - side / 2 - 0.5 + step / 2
    offset_y = y + height / 2 - side / 2 - 0.5 + step / 2
    matrix = np.array([[step, 0, offset_x], [0, step, offset_y]])
    if degrees:
        assert centre is not None
        matrix[:, 2] -= centre
        matrix = in_plane(-degrees)[:2, :2] @ matrix
        matrix[:, 2] += centre
    return matrix


def _warp(image: Image, matrix: Floats, size: int, border: int) -> Image:
    step = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if step > 1.5:  # the linear interpolation would skip pixels: blur to the crop's resolution first
        image = cv2.GaussianBlur(image, (0, 0), 0.45 * step)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border)


def crop(image: Image, matrix: Floats, size: int) -> Image:
    """Return the crop (size, size, 3); beyond the raw image its border is repeated."""
    return _warp(image, matrix, size, cv2.BORDER_REPLICATE)


def crop_foreground(head: np.ndarray, matrix: Floats, size: int) -> tuple[Image, np.ndarray]:
    """Return the crop of a premultiplied head (height, width, 4): RGB (size, size, 3), and where it is, bool.

    Each background pixel takes the mean colour of the head in its block of 8 x 8 pixels, or of the whole head
    where there is hardly any, so that JPEG, whose blocks these are, does not smear an edge into the head.
    """
    warped = _warp(head, matrix, size, cv2.BORDER_CONSTANT)
    inside = cv2.threshold(cv2.extractChannel(warped, 3), 127, 255, cv2.THRESH_BINARY)[1]
    colours = cv2.cvtColor(warped, cv2.COLOR_mRGBA2RGBA)
    blocks = -(-size // _BLOCK)
    side = blocks * _BLOCK
    if side > size:
        warped = cv2.copyMakeBorder(warped, 0, side - size, 0, side - size, cv2.BORDER_CONSTANT)
    coarse = cv2.resize(warped, (blocks, blocks), interpolation=cv2.INTER_AREA)
    faint = coarse[..., 3] < _FAINTEST
    coarse = cv2.cvtColor(coarse, cv2.COLOR_mRGBA2RGBA)
    coarse[faint] = np.rint(cv2.mean(colours, inside))
    filled = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST)[:size, :size]
    return cv2.cvtColor(cv2.copyTo(colours, inside, filled.copy()), cv2.COLOR_RGBA2RGB), inside > 0


def inscribed_circle(mask: np.ndarray) -> tuple[Floats, float]:
    """Return the middle (2,), x and y, and the radius of the largest circle inside a foreground, in pixels.

    It keeps to the head whatever the neck and the pose. Where circles of nearly that size form a ridge, it
    is the ridge's middle. An empty foreground gives a radius of 0.
    """
    inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    radius = float(inside.max())
    rows, columns = np.nonzero(inside >= 0.97 * radius)
    return np.array([columns.mean(), rows.mean()]), radius
