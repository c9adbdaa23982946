"""Pictures as judges see them: what is transparent is laid on white, and hidden colours are never seen."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from star_bench.files.pictures import UnusablePicture, check_picture, decode_image, encode_png
from star_bench.reporting.gallery.thumbnails import _shown


def saved(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(bits: int, kind: int, row: bytes, key: bytes | None = None, palette: bytes | None = None) -> bytes:
    """A PNG of two pixels in one row, as the standard writes it. kind: 0 grey, 2 colours, 3 palette, 4 and 6 with alpha."""
    header = struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tRNS", key),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
        if data is not None
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


WHITE = [255, 255, 255]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # 10 * 128 / 255 + 255 * 127 / 255 = 132.02, and so on
        (png(8, 6, bytes([10, 20, 31, 128, 9, 9, 9, 0])), [[132, 137, 143], WHITE]),
        (png(8, 6, bytes([10, 20, 31, 255, 9, 9, 9, 1])), [[10, 20, 31], [254, 254, 254]]),
        (png(8, 4, bytes([0, 51, 0, 0])), [[204, 204, 204], WHITE]),  # a fifth of black
        (png(16, 6, struct.pack(">8H", 0, 65535, 0x8000, 65535, 7, 7, 7, 0)), [[0, 255, 128], WHITE]),
        (png(16, 4, struct.pack(">4H", 0x4000, 65535, 0, 0)), [[64, 64, 64], WHITE]),
        (png(8, 3, b"\0\1", key=b"\x00", palette=bytes([9, 9, 9, 4, 5, 6])), [WHITE, [4, 5, 6]]),
        (png(8, 3, b"\0\1", key=b"\xff\x80", palette=bytes([4, 5, 6, 0, 0, 0])), [[4, 5, 6], [127, 127, 127]]),
        (png(8, 2, bytes([1, 2, 3, 1, 2, 4]), key=struct.pack(">3H", 1, 2, 3)), [WHITE, [1, 2, 4]]),
        (png(8, 0, bytes([18, 19]), key=struct.pack(">H", 18)), [WHITE, [19, 19, 19]]),
        (png(4, 0, bytes([0x3C]), key=struct.pack(">H", 3)), [WHITE, [204, 204, 204]]),
        (png(2, 0, bytes([0x40]), key=struct.pack(">H", 1)), [WHITE, [0, 0, 0]]),
        (png(1, 0, bytes([0x40]), key=struct.pack(">H", 0)), [WHITE, WHITE]),
        (png(16, 0, struct.pack(">2H", 0x1234, 0x1235), key=struct.pack(">H", 0x1234)), [WHITE, [18, 18, 18]]),
        (png(8, 2, bytes([1, 2, 3, 1, 2, 4])), [[1, 2, 3], [1, 2, 4]]),  # opaque
        (png(16, 2, struct.pack(">6H", 0x1234, 0, 65535, 0, 0, 0x80FF)), [[18, 0, 255], [0, 0, 128]]),
    ],
)
def test_transparency_is_laid_on_white(content: bytes, expected: list[list[int]]) -> None:
    assert decode_image(content).tolist() == [expected]


def test_a_transparent_16_bit_colour_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="16-bit colours stands for transparency"):
        decode_image(png(16, 2, struct.pack(">6H", 1, 2, 3, 1, 2, 4), key=struct.pack(">3H", 1, 2, 3)))


def test_every_alpha_and_every_colour_as_its_formula_says() -> None:
    color, alpha = (each.astype(np.uint8) for each in np.mgrid[0:256, 0:256])
    picture = PIL.Image.fromarray(np.dstack([color, color, color, alpha]), "RGBA")
    exact = np.floor((color.astype(float) * alpha + 255.0 * (255 - alpha.astype(float))) / 255 + 0.5)
    for content in (saved(picture), saved(picture, "WEBP", lossless=True, exact=True)):
        assert np.array_equal(decode_image(content)[..., 0], exact)


def test_a_turned_picture_is_laid_on_white_too() -> None:
    picture = PIL.Image.fromarray(np.array([[[9, 9, 9, 0], [1, 2, 3, 255]]], np.uint8), "RGBA")
    exif = picture.getexif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    assert decode_image(saved(picture, exif=exif)).tolist() == [[WHITE], [[1, 2, 3]]]


def test_a_picture_that_shows_nothing_is_flat_whatever_lies_hidden() -> None:
    hidden = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = saved(PIL.Image.fromarray(np.dstack([hidden, np.zeros((64, 64), np.uint8)]), "RGBA"))
    with pytest.raises(UnusablePicture, match="one flat colour"):
        check_picture(content)


def test_a_page_shows_what_was_judged() -> None:
    clear = saved(PIL.Image.fromarray(np.array([[[9, 9, 9, 0], [1, 2, 3, 255]]], np.uint8), "RGBA"))
    shown, size, _ = _shown(clear)
    assert np.array_equal(decode_image(shown), decode_image(clear)) and size == (2, 1)
    assert not PIL.Image.open(io.BytesIO(shown)).has_transparency_data
    opaque = encode_png(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8))
    assert _shown(opaque)[0] == opaque
