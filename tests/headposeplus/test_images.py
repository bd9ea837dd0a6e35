import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from headposeplus import images
from headposeplus.boxes.geometry import fit_ball, framed, iou, of_rendered, place_of
from headposeplus.errors import ImageError
from headposeplus.rotations import in_plane, to_matrix


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def test_reading_tells_what_is_wrong(tmp_path, picture):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    assert (images.read_image(path) == picture).all()
    data = path.read_bytes()
    for content, says in (
        (b"", "an empty file"), (data[:-20], "truncated"), (data[: len(data) // 2], "truncated"),
        (b"GIF89a", "something else"), (data[:100] + bytes(50) + data[150:], "damaged"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ImageError) as error:
            images.read_image(path)
        assert str(path) in str(error.value) and says in str(error.value)
    with pytest.raises(ImageError, match="No such file"):
        images.read_image(tmp_path / "none.png")


def test_truncated_jpeg(tmp_path, picture):
    path = tmp_path / "a.jpg"
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    path.write_bytes(data[:-100])
    with pytest.raises(ImageError, match="truncated"):
        images.read_image(path)


def with_preview(data):
    """A JPEG that holds a preview, with an end of its own, as cameras write it."""
    preview = cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))[1].tobytes()
    segment = b"Exif\0\0" + preview
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


def kinds_of_files():
    """The same picture as PNG and as every kind of JPEG; as noise, so that FF comes among the compressed pixels."""
    picture = np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    scan = plain.index(b"\xff\xda")
    long_segment = b"\xff\xe0" + (60_002).to_bytes(2, "big") + bytes(60_000)
    assert b"\xff\x00" in plain[scan:]
    return {
        "png": cv2.imencode(".png", picture)[1].tobytes(),
        "jpeg": plain,
        "preview": with_preview(plain),
        "large preview": with_preview(plain[:2] + long_segment + plain[2:]),
        "progressive": cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes(),
        "restarts": cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_RST_INTERVAL, 2))[1].tobytes(),
        "fill bytes": plain[:scan] + b"\xff\xff" + plain[scan:-2] + b"\xff\xff\xff" + plain[-2:],
    }


FILES = kinds_of_files()
TRAILERS = {
    "nothing": b"", "line end": b"\n", "zeros": bytes(5000), "text": b"SEFT\0\0Image_UTC_Data1602\xff\xff",
    "a second image": FILES["jpeg"], "half an image": FILES["jpeg"][:900], "FF": b"\xff",
}  # fmt: skip


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", FILES)
def test_what_stands_behind_an_images_end_does_no_harm(tmp_path, kind, trailer):
    path = tmp_path / "a"
    path.write_bytes(FILES[kind])
    picture = images.read_image(path)
    path.write_bytes(FILES[kind] + TRAILERS[trailer])
    images.check_whole(path)
    assert (images.read_image(path) == picture).all()


@pytest.mark.parametrize("trailer", ["nothing", "line end", "zeros", "text", "FF"])
@pytest.mark.parametrize("kind", FILES)
def test_an_image_cut_anywhere_is_truncated(tmp_path, kind, trailer):
    path, data = tmp_path / "a", FILES[kind]
    cuts = {*np.linspace(8, len(data) - 1, 40).astype(int).tolist(), len(data) - 1, len(data) - 2}
    cuts |= {at + 2 for at in range(8, len(data) - 2) if data.startswith(b"\xff\xd9", at)}  # behind the preview's end
    for cut in cuts:
        path.write_bytes(data[:cut] + TRAILERS[trailer])
        for reader in (images.check_whole, images.read_image):
            with pytest.raises(images.TruncatedImageError, match="truncated image"):
                reader(path)


def chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def as_png(pixels, colour, *chunks, depth=8, interlaced=False):
    """The bytes of a PNG of pixels (height, width, bytes) in a type of colour, with chunks before its pixels."""
    height, width = pixels.shape[:2]
    # Of each pass, its first row and column, and the steps to the next ones.
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, interlaced])
    content = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(content)


def kinds_of_png():
    """Every kind of PNG, each with whether frames and rendered heads come so."""
    rng = np.random.default_rng(6)
    grey, two, rgb, rgba, deep = (rng.integers(0, 256, (21, 34, n), np.uint8) for n in (1, 2, 3, 4, 6))
    palette, animated = chunk(b"PLTE", bytes(range(30))), chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0]))
    remarks = (
        chunk(b"gAMA", (45455).to_bytes(4, "big")), chunk(b"sRGB", b"\0"), chunk(b"pHYs", bytes(9)),
        chunk(b"tEXt", b"a\0tRNS"), chunk(b"sBIT", b"\5\5\5"),
    )  # fmt: skip
    return {
        "rgb": (as_png(rgb, 2), True),
        "rgba": (as_png(rgba, 6), True),
        "rgb, filtered": (cv2.imencode(".png", cv2.GaussianBlur(rgb, (0, 0), 2))[1].tobytes(), True),
        "rgba, filtered": (cv2.imencode(".png", cv2.GaussianBlur(rgba, (0, 0), 2))[1].tobytes(), True),
        "rgb, interlaced": (as_png(rgb, 2, interlaced=True), True),
        "rgb with remarks": (as_png(rgb, 2, *remarks), True),
        "rgb, one colour transparent": (
            as_png(rgb, 2, chunk(b"tRNS", bytes(np.insert(rgb[0, 0], (0, 1, 2), 0)))),
            False,
        ),
        "rgb, animated": (as_png(rgb, 2, animated), False),
        "rgba with a palette": (as_png(rgba, 6, palette), False),
        "grey": (as_png(grey, 0), False),
        "grey with alpha": (as_png(two, 4), False),
        "palette": (as_png(grey % 10, 3, palette), False),
        "palette, transparent": (as_png(grey % 10, 3, palette, chunk(b"tRNS", b"\0\x80")), False),
        "rgb of 16 bits": (as_png(deep, 2, depth=16), False),
    }


def as_opencv_reads(data):
    """The pixels as RGB or RGBA, or None."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim == 2:
        return image if image is None else np.dstack([image] * 3)
    return image[..., [2, 1, 0, 3][: image.shape[2]]]


@pytest.mark.parametrize("kind", kinds_of_png())
def test_every_kind_of_png_is_read_as_opencv_reads_it(tmp_path, monkeypatch, kind):
    (tmp_path / "a.png").write_bytes(data := kinds_of_png()[kind][0])
    expected, fast = as_opencv_reads(data), kinds_of_png()[kind][1]
    asked = []
    monkeypatch.setattr(images.cv2, "imdecode", lambda *given, really=cv2.imdecode: asked.append(1) or really(*given))
    if expected.dtype == np.uint16:
        with pytest.raises(ImageError, match="expected eight bits a channel, found uint16"):
            images.read_image(tmp_path / "a.png")
    else:
        image = images.read_image(tmp_path / "a.png")
        assert image.shape == expected.shape and image.dtype == np.uint8 and (image == expected).all()
    assert bool(asked) is not fast


def test_a_png_that_opencv_refuses_is_damaged(tmp_path):
    """Bytes are changed anywhere: what is read is what OpenCV reads, and the rest is told as before."""
    rng, path = np.random.default_rng(7), tmp_path / "a.png"
    damaged = read = 0
    for data in (data for kind, (data, fast) in kinds_of_png().items() if fast and "filtered" in kind):
        for _ in range(150):
            changed = bytearray(data)
            changed[rng.integers(8, len(data) - 12)] = rng.integers(256)
            path.write_bytes(changed)
            try:
                image = images.read_image(path)
            except ImageError as error:
                assert as_opencv_reads(bytes(changed)) is None and "damaged image" in str(error)
                damaged += 1
            else:
                assert (image == as_opencv_reads(bytes(changed))).all()
                read += 1
    assert damaged > 100 and read > 0


def test_a_small_file_that_promises_a_huge_image_is_damaged(tmp_path):
    path, start = tmp_path / "a.png", as_png(np.zeros((1, 1, 3), np.uint8), 2)
    for side in (60_000, 2**20, 2**31 - 1):
        header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
        path.write_bytes(start[:8] + chunk(b"IHDR", header) + start[33:])
        with pytest.raises(ImageError, match="damaged image"):
            images.read_image(path)


@pytest.mark.real
def test_real_frames_are_read_as_opencv_reads_them(real):
    frames = sorted(real.rglob("frame_*_rgb.png"))
    assert len(frames) >= 11
    for path in frames:
        assert (images.read_image(path) == as_opencv_reads(path.read_bytes())).all()


def test_encoding_round_trip(picture):
    assert (images.decode(images.encode(picture, lossless=True)) == picture).all()
    assert np.abs(images.decode(images.encode(picture, lossless=False)).astype(int) - picture).mean() < 2
    with pytest.raises(ImageError):
        images.decode(np.zeros(10, np.uint8))


def kinds_of_crops():
    """Encoded images of every kind, each with whether it is decoded without OpenCV."""
    noise = np.random.default_rng(3).integers(0, 256, (37, 50, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 1.5)
    own = images.encode(picture, lossless=False).tobytes()
    four = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    half = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    lies = Image.Exif()
    lies[0x0112] = 6  # on its side

    def opencv(*options, pixels=picture, kind=".jpg"):
        return cv2.imencode(kind, pixels, options)[1].tobytes()

    def pillow(pixels, mode=None, kind="JPEG", **options):
        Image.fromarray(pixels).convert(mode).save(file := io.BytesIO(), kind, **options)
        return file.getvalue()

    return {
        "own": (own, True),
        "own, lossless": (images.encode(picture, lossless=True).tobytes(), False),
        "own, of noise": (images.encode(noise, lossless=False).tobytes(), True),
        "bad quality": (opencv(*four, cv2.IMWRITE_JPEG_QUALITY, 3), True),
        "progressive": (opencv(*four, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), True),
        "restarts": (opencv(*four, cv2.IMWRITE_JPEG_RST_INTERVAL, 2), True),
        "colours of 2 x 2 pixels": (opencv(*half), False),
        "grey": (opencv(pixels=picture[..., 0]), False),
        "cmyk": (pillow(picture, "CMYK"), False),
        "kept as RGB": (pillow(picture, quality=95, keep_rgb=True), False),
        "on its side": (pillow(picture, quality=95, subsampling=0, exif=lies), False),
        "png on its side": (pillow(picture, kind="PNG", exif=lies), False),
        "with a preview": (with_preview(own), False),
        "png with alpha": (opencv(pixels=np.dstack([picture, noise[..., 0]]), kind=".png"), False),
        "grey png": (opencv(pixels=picture[..., 0], kind=".png"), False),
        "bmp": (opencv(kind=".bmp"), False),
    }


def as_a_crop(data):
    """The pixels that OpenCV makes of bytes as RGB, or None."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else image[..., ::-1]


@pytest.mark.parametrize("kind", kinds_of_crops())
def test_every_kind_of_crop_is_decoded_as_opencv_decodes_it(monkeypatch, kind):
    data, fast = kinds_of_crops()[kind]
    expected = as_a_crop(data)
    if "on its side" in kind:
        assert expected.shape[0] > expected.shape[1]
    asked = []
    monkeypatch.setattr(images.cv2, "imdecode", lambda *given, really=cv2.imdecode: asked.append(1) or really(*given))
    room = np.zeros((3, *expected.shape), np.uint8)
    given = images.decode(np.frombuffer(data, np.uint8), room[1])
    assert np.shares_memory(given, room) and (room[1] == expected).all() and not room[[0, 2]].any()
    alone = images.decode(np.frombuffer(data, np.uint8))
    assert alone.shape == expected.shape and alone.dtype == np.uint8 and (alone == expected).all()
    assert alone.flags.c_contiguous and bool(asked) is not fast
    with pytest.raises(ImageError, match=r"is 50 x 37, expected 50 x 36|is 37 x 50, expected 37 x 49"):
        images.decode(np.frombuffer(data, np.uint8), room[1, :-1])
    with pytest.raises(ImageError, match=r"is 50 x 37, expected 51 x 37|is 37 x 50, expected 38 x 50"):
        images.decode(np.frombuffer(data, np.uint8), np.zeros(np.add(expected.shape, (0, 1, 0)), np.uint8))


@pytest.mark.parametrize("kind", ["own", "own, lossless", "progressive", "restarts", "colours of 2 x 2 pixels"])
def test_a_damaged_crop_is_what_opencv_makes_of_it(kind):
    """Bytes are changed or missing anywhere, in the headers above all."""
    rng, data = np.random.default_rng(8), kinds_of_crops()[kind][0]
    refused = read = 0
    for number in range(300):
        changed = bytearray(data)
        changed[rng.integers(2, 300 if number % 2 else len(data))] = rng.integers(256)
        if number % 4 == 0:
            changed = changed[: rng.integers(len(data))]
        encoded, room = np.frombuffer(bytes(changed), np.uint8), np.empty((37, 50, 3), np.uint8)
        expected = as_a_crop(changed) if len(changed) else None
        if expected is None or expected.shape != room.shape:
            says = "cannot be decoded: the shard is damaged" if expected is None else "expected 50 x 37"
            with pytest.raises(ImageError, match=f"{says}; delete it and build again"):
                images.decode(encoded, room)
            refused += 1
        else:
            assert (images.decode(encoded, room) == expected).all()
            read += 1
    assert refused > 20 and read > (0 if "lossless" in kind else 20)


@pytest.mark.real
def test_crops_of_real_frames_are_decoded_as_opencv_decodes_them(real):
    frames = sorted((real / "sequence19").rglob("frame_*_rgb.jpg"))[::20]
    assert len(frames) > 20
    for path in frames:
        for lossless in (False, True):
            encoded = images.encode(images.read_image(path)[100:324, 200:424], lossless)
            assert (images.decode(encoded) == as_a_crop(encoded.tobytes())).all()


def test_a_box_of_the_crops_size_is_a_plain_cut(picture):
    matrix = images.crop_matrix(np.array([10, 20, 32, 32]), 32)
    assert (images.crop(picture, matrix, 32) == picture[20:52, 10:42]).all()


def test_a_box_of_twice_the_size_averages(picture):
    # Each crop pixel's centre lies between four raw ones, where the linear interpolation is their mean.
    matrix = images.crop_matrix(np.array([0, 0, 48, 48]), 32)
    smooth = np.tile(np.arange(80, dtype=np.uint8), (60, 1))[..., None].repeat(3, 2)
    expected = (np.arange(32) + 0.5) * 1.5 - 0.5
    assert np.abs(images.crop(smooth, matrix, 32)[5, 1:-1, 0] - expected[1:-1]).max() <= 1


def test_a_turn_moves_points_as_the_rotation_says():
    image = np.zeros((101, 101, 3), np.uint8)
    image[48:53, 78:83] = 255  # a square 30 to the right of the middle
    centre = np.array([50.0, 50.0])
    for degrees in (90, -90, 35):
        matrix = images.crop_matrix(np.array([0, 0, 101, 101]), 101, degrees, centre)
        turned = images.crop(image, matrix, 101)[..., 0]
        rows, columns = np.nonzero(turned > 127)
        expected = centre + in_plane(degrees)[:2, :2] @ [30, 0]
        assert [columns.mean(), rows.mean()] == pytest.approx(expected, abs=0.2)


def test_foreground_crop_mixes_no_black_in():
    image = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    cv2.circle(disc := np.zeros((64, 64), np.uint8), (32, 32), 20, 1, -1)
    mask[disc > 0] = True
    image[mask] = (200, 150, 100)
    matrix = images.crop_matrix(np.array([4, 4, 56, 56]), 40, 20.0, np.array([31.5, 31.5]))
    head = np.dstack((image, mask.astype(np.uint8) * 255))
    crop, inside = images.crop_foreground(head, matrix, 40)
    assert 0.2 < (inside > 0).mean() < 0.9 and set(np.unique(inside)) == {0, 255}
    off = np.abs(crop.astype(int) - (200, 150, 100)).max(axis=2)
    assert off[inside > 0].max() <= 1
    # Around the head, in blocks that hold a fair share of it, stands its colour, not the background's black.
    share = (inside > 0).reshape(5, 8, 5, 8).mean(axis=(1, 3))
    rim = np.kron((share > 0.1) & (share < 1), np.ones((8, 8))) > 0
    assert off[rim].max() <= 8 and rim.sum() > 300


def test_a_crop_needs_only_its_footprint():
    """Pixels beyond what the crop is made from do not change it, nor does where the image is cut."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (90, 120, 4), np.uint8)
    for degrees in (0.0, 25.0, -140.0):
        matrix = images.crop_matrix(np.array([30, 20, 44, 44]), 40, degrees, np.array([59.5, 44.5]))
        crop, inside = images.crop_foreground(image, matrix, 40)
        corners = matrix @ np.array([[0, 39, 0, 39], [0, 0, 39, 39], [1, 1, 1, 1]])
        low, high = np.floor(corners.min(axis=1)).astype(int) - 3, np.ceil(corners.max(axis=1)).astype(int) + 4
        rows, columns = np.mgrid[:90, :120]
        beyond = (columns < low[0]) | (columns > high[0]) | (rows < low[1]) | (rows > high[1])
        other = image.copy()
        other[beyond] = rng.integers(0, 255, (int(beyond.sum()), 4))
        again, inside_again = images.crop_foreground(other, matrix, 40)
        assert beyond.any() and (again == crop).all() and (inside_again == inside).all()


def test_inscribed_circle_keeps_to_the_head():
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 35), 25, 1, -1)
    cv2.rectangle(mask, (42, 40), (58, 99), 1, -1)  # a neck
    middle, radius = images.inscribed_circle(mask > 0)
    assert middle == pytest.approx([50, 35], abs=1) and radius == pytest.approx(25.5, abs=1)
    assert images.inscribed_circle(np.zeros((9, 9), bool))[1] == 0


def test_ball_fit_finds_pivot_and_offset():
    rng = np.random.default_rng(1)
    rotations = to_matrix(rng.normal(0, 25, (200, 3)))
    pivot, ball = np.array([200.0, 190.0]), np.array([1.0, -40.0, 50.0])
    middles = pivot + rotations[:, :2] @ ball + rng.normal(0, 1, (200, 2))
    found = fit_ball(middles, 80 + rng.normal(0, 1, 200), rotations)
    assert found.pivot == pytest.approx(pivot, abs=1) and found.ball == pytest.approx(ball, abs=2)
    assert found.radius == pytest.approx(80, abs=1) and found.spread == pytest.approx(np.sqrt(2), rel=0.2)
    # The ball's middle turns about the image's; the box is that of the turned pose.
    head = found.pivot + (found.ball + found.radius * np.array([0, 0.51, -0.72]))[:2]
    for degrees in (0.0, 90.0):
        box = of_rendered(place_of(found), np.eye(3), degrees, np.array([199.5, 199.5]))
        turn = in_plane(degrees)
        side, shift = framed(turn)
        middle = 199.5 + turn[:2, :2] @ (head - 199.5) + found.radius / 82.3 * shift
        assert box[:2] + box[2:] / 2 - 0.5 == pytest.approx(middle, abs=1)
        assert box[2:] == pytest.approx(found.radius / 82.3 * side, abs=0.5)


def test_iou_by_counting_pixels():
    def pixels(x, y, width, height):
        grid = np.zeros((60, 60), bool)
        grid[y : y + height, x : x + width] = True
        return grid

    rng = np.random.default_rng(2)
    for a, b in rng.integers(1, 28, (50, 2, 4)):
        p, q = pixels(*a), pixels(*b)
        assert iou(a, b) == pytest.approx((p & q).sum() / (p | q).sum())
