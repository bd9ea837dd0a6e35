"""Images: reading raw files, separating a rendered head from its background, and cropping by one warp.

Images are RGB, uint8, (height, width, 3). Pixel (x, y) has its centre at whole numbers, so a box
(x, y, width, height) spans from x - 0.5 to x + width - 0.5.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import cv2
import numpy as np

from headposeplus.errors import ImageError
from headposeplus.faults import RESTORE, Fault, unreadable
from headposeplus.files import opened_file, read_file
from headposeplus.rotations import Floats, in_plane

Image = np.ndarray
_FULL_COLOUR = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
SUFFIXES = (".png", ".jpg", ".jpeg")  # of image files, in capitals too
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, *_FULL_COLOUR)
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_BLOCK = 8  # pixels a side of JPEG's blocks
# How the kinds of images begin and end.
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
# What PNG notes of itself in its first chunk: eight bits a channel, and which channels.
_DEPTH, _PNG_COLOURS = 24, {b"\x08\x02": "rgb", b"\x08\x06": "rgba"}
# Chunks before the pixels from which OpenCV takes nothing; transparency and animations are not among them.
_REMARKS = {b"bKGD", b"cHRM", b"eXIf", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sBIT", b"sRGB", b"tEXt", b"tIME", b"zTXt"}
_MOST_PIXELS = 1 << 24  # of an image that is decoded fast
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# A marker of JPEG. 00 stands behind an FF of the compressed pixels, D0 to D7 part these, further FF fill up.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN = 0xDA  # the marker before compressed pixels
_LONE = (0x01, 0xD8)  # markers without a segment
_EXIF = (b"Exif", b"eXIf")  # may say, in JPEG and PNG, that an image lies on its side, and OpenCV turns it
_OWN_COLOURS = ["YCbCr", "444"]  # how a JPEG crop keeps its colours: as many of each as there are pixels
_BUILD_AGAIN = "delete it and build again"  # a shard
_JPEG_NOISE = 3  # up to this bright, of 255, is what JPEG makes of the black around a head
_FIRST = 4096  # bytes of a file, in which a JPEG's pixels begin unless it holds a preview or a profile

# Workers decode one image each; OpenCV's own threads would fight over the same cores.
cv2.setNumThreads(1)


class TruncatedImageError(ImageError):
    """An image file ends early."""


def _check_kind(path: Path, start: bytes, size: int) -> None:
    """Raise ImageError unless a file of ``size`` bytes begins as an image does."""
    if not start.startswith((_PNG_START, _JPEG_START)):
        what = "an empty file" if not size else "something else"
        raise ImageError(Fault(f"expected a PNG or JPEG image, found {what}", RESTORE, path))


def _has_end(data: bytes) -> bool:
    """Return whether a PNG or JPEG reaches its end, whatever stands behind: zeros, a line's end, a camera's trailer."""
    return _png_has_end(data) if data.startswith(_PNG_START) else _jpeg_has_end(data)


def _png_has_end(data: bytes) -> bool:
    if data.endswith(_PNG_END):
        return True
    at = len(_PNG_START)
    while data[at + 4 : at + 8].isalpha():  # a chunk: its length, its kind, its content, its checksum
        if data.startswith(_PNG_END, at):
            return True
        at += len(_PNG_END) + int.from_bytes(data[at : at + 4], "big")
    return False


def _jpeg_has_end(data: bytes) -> bool:
    # Previews inside segments have ends of their own, so segments are passed over; pixels hold no end.
    at, scanned = len(_JPEG_START), False
    while marker := _MARKER.search(data, at):
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == _JPEG_END[1]:
            return scanned
        scanned = scanned or kind == _SCAN
        if scanned and data.endswith(_JPEG_END):
            return True
        at += 0 if kind in _LONE else int.from_bytes(data[at : at + 2], "big")
    return False


def check_whole(path: Path) -> bool:
    """Return whether a file is a JPEG; raise ImageError, as :func:`read_image` does, if it is missing, no image or cut.

    Nothing is decoded.
    """
    try:
        with opened_file(path) as file:
            data, size = file.read(_FIRST), file.seek(0, os.SEEK_END)
            _check_kind(path, data, size)
            file.seek(max(size - len(_PNG_END), len(data)))
            if not _has_end(data + file.read()):  # the end lies before a trailer, or the pixels begin late
                file.seek(0)
                data = file.read()
                _check_end(path, data)
            return data.startswith(_JPEG_START)
    except OSError as error:
        raise ImageError(unreadable(path, error)) from error


def _check_end(path: Path, data: bytes) -> None:
    if not _has_end(data):
        raise TruncatedImageError(Fault(f"truncated image ({len(data)} bytes)", RESTORE, path))


def read_image(path: Path, upright: bool = False) -> Image:
    """Return an image file as RGB (height, width, 3), or RGBA (height, width, 4) where it has alpha.

    With ``upright`` it is turned as its EXIF says, comes without alpha, and may have sixteen bits a channel.

    Raises
    ------
    ImageError
        If the file is missing, truncated or damaged. OpenCV fills what is missing of a truncated image
        with grey or black, so the end of the file is checked first.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise ImageError(unreadable(path, error)) from error
    _check_kind(path, data, len(data))
    _check_end(path, data)
    if not upright and (plain := plain_png(data)) is not None:
        return plain
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if upright else cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header that promises more pixels than OpenCV takes
        decoded = None
    if decoded is None:
        raise ImageError(Fault("damaged image", RESTORE, path))
    if decoded.dtype != np.uint8:
        raise ImageError(Fault(f"expected eight bits a channel, found {decoded.dtype}", file=path))
    if decoded.ndim == 2:
        return cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA if decoded.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def plain_png(data: bytes) -> Image | None:
    """Return the pixels of a PNG of the kinds that frames and rendered heads have, as OpenCV would, but faster.

    None is any other image, and what this decoder refuses: OpenCV says whether it is damaged.
    """
    mode = _PNG_COLOURS.get(data[_DEPTH : _DEPTH + 2]) if data.startswith(_PNG_START) else None
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    if mode is None or not 0 < width * height <= _MOST_PIXELS:
        return None
    at = 33  # behind the first chunk
    while (kind := data[at + 4 : at + 8]) != b"IDAT":
        if kind not in _REMARKS:
            return None
        at += len(_PNG_END) + int.from_bytes(data[at : at + 4], "big")
    try:
        # Loaded here: most commands read no image.
        from kornia_rs.io import decode_image_png_u8

        return decode_image_png_u8(data, (height, width), mode)
    except Exception:  # it raises no kinds of its own
        return None


def is_jpeg(path: Path) -> bool:
    """Return whether a file begins as a JPEG does; raises ImageError if it cannot be read."""
    try:
        with opened_file(path) as file:
            return file.read(len(_JPEG_START)) == _JPEG_START
    except OSError as error:
        raise ImageError(unreadable(path, error)) from error


def read_rendered(path: Path) -> Image:
    """Return the image of a rendered head, as :func:`read_image` does; one in JPEG with where the head is as alpha.

    JPEG spreads a head by up to two of its blocks into the black around it. So the head is what is brighter than that
    noise, but for specks and for threads of one or two pixels.
    """
    image = read_image(path)
    if image.shape[2] == 4 or not is_jpeg(path):
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    inside = _before_black(cv2.threshold(grey, _JPEG_NOISE, 255, cv2.THRESH_BINARY)[1])
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, figures, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    areas = figures[1:, cv2.CC_STAT_AREA]
    alpha = (parts == 1 + areas.argmax()).view(np.uint8) * np.uint8(255) if len(areas) else inside
    return np.dstack((image, alpha))


def encode(image: Image, lossless: bool) -> np.ndarray:
    """Return the bytes (n,), uint8, of an RGB image as PNG, or as JPEG of quality 95 with full colour."""
    kind, options = (".png", PNG) if lossless else (".jpg", JPEG)
    return cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].ravel()


def decode(data: np.ndarray, out: Image | None = None) -> Image:
    """Return the RGB image of encoded bytes (n,), in ``out`` (height, width, 3), contiguous, where that is given.

    Raises
    ------
    ImageError
        If the bytes are damaged, or the image is of another size than ``out``.
    """
    image = _plain_crop(data, out)
    if image is None:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            what = "a crop in a shard cannot be decoded: the shard is damaged"
            raise ImageError(Fault(what, _BUILD_AGAIN))
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if out is None or image is out:
        return image
    if image.shape != out.shape:
        (height, width), (high, wide) = image.shape[:2], out.shape[:2]
        what = f"a crop in a shard is {width} x {height}, expected {wide} x {high}"
        raise ImageError(Fault(what, _BUILD_AGAIN))
    out[:] = image
    return out


def _plain_crop(data: np.ndarray, out: Image | None) -> Image | None:
    """Return the pixels of a JPEG as :func:`encode` writes it, as OpenCV would, but faster, in ``out``.

    None is any other image, and what this decoder refuses: OpenCV says whether it is damaged. PNG is among them, since
    :func:`plain_png` lets no other thread run meanwhile, and crops are decoded by several.
    """
    encoded = data.tobytes()
    if not encoded.startswith(_JPEG_START) or any(mark in encoded for mark in _EXIF):
        return None
    try:
        # Loaded here: most commands read no image.
        from simplejpeg import decode_jpeg, decode_jpeg_header

        height, width, *colours = decode_jpeg_header(encoded)
        if colours != _OWN_COLOURS or height * width > _MOST_PIXELS:
            return None
        if out is None:
            out = np.empty((height, width, 3), np.uint8)
        elif out.shape != (height, width, 3):
            return None
        decode_jpeg(encoded, "RGB", buffer=out)
        return out
    except (ValueError, KeyError):  # damaged, if only a little; or colours that it has no name for
        return None


def foreground(image: Image) -> np.ndarray:
    """Return how much of each pixel is head (height, width), uint8, 0 to 255: from alpha or a black background.

    Without alpha, or where all of it is opaque, the background is the black that touches the
    border: a dark pupil is not part of it.
    """
    if image.shape[2] == 4:
        alpha = cv2.extractChannel(image, 3)
        if alpha.min() < 255:
            return alpha
    return _before_black(cv2.bitwise_not(cv2.inRange(image, (0, 0, 0, 0), (0, 0, 0, 255))))


def _before_black(lit: np.ndarray) -> np.ndarray:
    """Return all but the black that touches the border (height, width), 255 or 0, of what is lit, 255 or 0."""
    lit = cv2.copyMakeBorder(lit, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(lit, None, (0, 0), (1,))
    return (lit[1:-1, 1:-1] != 1).view(np.uint8) * np.uint8(255)


def _premultiplied(image: Image) -> np.ndarray:
    """Return the image with alpha (height, width, 4), its colours multiplied by how much of each pixel is head.

    Such pixels can be averaged without mixing the background's colour into the head's.
    """
    if image.shape[2] == 3 or (image[0, 0, 3] == 255 and cv2.extractChannel(image, 3).min() == 255):
        alpha = foreground(image)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) if image.shape[2] == 3 else image.copy()
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
    left = x + width / 2 - side / 2 - 0.5 + step / 2
    top = y + height / 2 - side / 2 - 0.5 + step / 2
    if not degrees:
        return np.array([[step, 0, left], [0, step, top]])
    assert centre is not None
    turn = in_plane(-degrees)[:2, :2]
    corner = turn @ np.subtract([left, top], centre)
    return np.column_stack((step * turn, np.add(corner, centre)))


def _blur(matrix: Floats) -> float:
    """Return the blur (pixels) that a crop needs so that its linear interpolation skips no pixels; 0 for none."""
    step = math.hypot(matrix[0, 0], matrix[1, 0])
    return 0.45 * step if step > 1.5 else 0.0


def _footprint(matrix: Floats, size: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of an image that a crop is made from."""
    margin = 2 + int(4 * _blur(matrix))
    spans = []
    # In plain numbers: on arrays this small NumPy takes as long as the warp.
    for (a, b, start), length in zip(matrix.tolist(), (shape[1], shape[0]), strict=True):
        low, high = start + min(a, 0) * size + min(b, 0) * size, start + max(a, 0) * size + max(b, 0) * size
        first = min(max(int(low) - margin, 0), length - 1)
        spans.append(slice(first, max(int(high) + margin + 1, first + 1)))
    return spans[1], spans[0]


def _warp(image: Image, matrix: Floats, size: int, border: int) -> Image:
    blur = _blur(matrix)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border)


def crop(image: Image, matrix: Floats, size: int) -> Image:
    """Return the crop (size, size, 3); beyond the raw image its border is repeated."""
    return _warp(image, matrix, size, cv2.BORDER_REPLICATE)


def crop_foreground(image: Image, matrix: Floats, size: int) -> tuple[Image, np.ndarray]:
    """Return the crop of a rendered head (size, size, 3), and where in it the head is (size, size), 255 or 0.

    Each background pixel takes the mean colour of the head in its block of 8 x 8 pixels, so that JPEG, whose blocks
    these are, does not smear an edge into the head.
    """
    rows, columns = _footprint(matrix, size, image.shape)
    matrix = matrix.copy()
    matrix[:, 2] -= columns.start, rows.start
    warped = _warp(_premultiplied(image[rows, columns]), matrix, size, cv2.BORDER_CONSTANT)
    inside = cv2.threshold(cv2.extractChannel(warped, 3), 127, 255, cv2.THRESH_BINARY)[1]
    colours = cv2.cvtColor(warped, cv2.COLOR_mRGBA2RGBA)
    blocks = -(-size // _BLOCK)
    side = blocks * _BLOCK
    if side > size:
        warped = cv2.copyMakeBorder(warped, 0, side - size, 0, side - size, cv2.BORDER_CONSTANT)
    coarse = cv2.cvtColor(cv2.resize(warped, (blocks, blocks), interpolation=cv2.INTER_AREA), cv2.COLOR_mRGBA2RGBA)
    filled = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST)
    if side > size:
        filled = np.ascontiguousarray(filled[:size, :size])
    cv2.copyTo(colours, inside, filled)
    return cv2.cvtColor(filled, cv2.COLOR_RGBA2RGB), inside


def inscribed_circle(mask: np.ndarray) -> tuple[Floats, float]:
    """Return the middle (2,), x and y, and the radius of the largest circle inside a foreground, in pixels.

    It keeps to the head whatever the neck and the pose. Where circles of nearly that size form a ridge, it
    is the ridge's middle. An empty foreground gives a radius of 0.
    """
    inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    radius = float(inside.max())
    rows, columns = np.nonzero(inside >= 0.97 * radius)
    return np.array([columns.mean(), rows.mean()]), radius


def square(middle: Floats, side: float) -> Floats:
    """Return the square box (4,) about the point ``middle`` (2,): the last pixel is at x + side - 1."""
    x, y = middle.tolist()
    return np.array([x - side / 2 + 0.5, y - side / 2 + 0.5, side, side])
