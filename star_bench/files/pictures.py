"""Pictures as bytes and as arrays, without loss."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from star_bench.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\n"
BIT_DEPTH = 24
"""Where a PNG says how many bits a value has (PNG, third edition, section 11.2.1)."""
WHITE = 255
"""What transparent pictures are laid on, in every channel: the page that most viewers show (chosen here)."""
FORMATS = ("PNG", "JPEG", "WEBP")
"""Others are not tried: some of Pillow's readers start programs or know little of broken files."""
MAX_SIDE = 16_384  # pixels, chosen here
MAX_PIXELS = 4096 * 4096  # chosen here: 48 MiB decoded, some 0.5 GiB while it is checked
NOISE = 0.1
"""Pixels that correlate less than this with their neighbours, in every channel and both directions, are noise (chosen
here: in noise of 64 x 64 pixels correlations stray from 0 by 0.016, so 0.1 is six times that; the miniature's pictures
have 0.5 and more)."""
UNLIKE = 0.25
"""In noise at least this share of neighbours differ (chosen here: in noise of two colours it is a half); a few dots on a
plain ground do not correlate either."""
SMALLEST_NOISE = 64 * 64  # pixels; in fewer, a small correlation can be chance


class UnusablePicture(ValueError):
    """Why a picture is not scored. degenerate: it can be read, and can't be meant to show anything; else corrupt."""

    def __init__(self, reason: str, *, degenerate: bool = False) -> None:
        super().__init__(reason)
        self.degenerate = degenerate


def read_picture(path: Path) -> np.ndarray:
    """A file that a user named, as `decode_image` gives it. Raises UsageError, naming it, where it can't be read."""
    try:
        return decode_image(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read ({error})", "give a picture such as a PNG") from None


def encode_png(pixels: np.ndarray) -> bytes:
    """Lossless bytes of uint8 RGB (H, W, 3)."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def decode_image(content: bytes) -> np.ndarray:
    """uint8 RGB (H, W, 3), EXIF orientation applied, laid on white where it is transparent, of 16 bits the upper 8, CMYK
    as Pillow converts it. What colours lie under full transparency is never seen.

    Raises ValueError in words for anything broken, too large, animated (none of its frames is the picture that was meant)
    or in a format that is not among FORMATS.
    """
    try:
        _check_png(content)
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than are read")
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise ValueError("it is animated")
            image.load()
            bits = content[BIT_DEPTH] if image.format == "PNG" else 8
            return _on_white(PIL.ImageOps.exif_transpose(image), bits)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything for a broken file
        raise ValueError(f"not a readable picture: {error}") from None


def _on_white(image: PIL.Image.Image, bits: int) -> np.ndarray:
    """uint8 RGB (H, W, 3): colour * alpha + white * (1 - alpha), rounded. bits: of each value in the file.

    Pillow takes the upper byte of 16-bit colours, but cuts 16-bit greys off at 255: here they are treated alike. And it
    compares a transparent colour, which a PNG gives in the file's own bits, with values that it has scaled to 8.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.uint32)
        grey = np.where(values == key, WHITE, values >> 8) if key is not None else values >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    if image.mode == "L" and isinstance(key, int) and bits < 8:
        image.info["transparency"] = key * WHITE // (2**bits - 1)
    if isinstance(key, tuple) and bits > 8:
        raise ValueError("one of its 16-bit colours stands for transparency, which is not read")
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
    colors, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colors * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_png(content: bytes) -> None:
    """Raises ValueError where a PNG's own checksums don't fit, which Pillow does not ask of the pixels, or its end lacks.

    PNG, third edition, section 5: after the signature, chunks of length, type, data and the CRC-32 of type and data.
    """
    if not content.startswith(PNG):
        return
    place, kind = len(PNG), b""
    while kind != b"IEND":
        if len(content) < place + 12:
            raise ValueError("the file is cut off")
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 8 + length
        if len(content) < end + 4:
            raise ValueError("the file is cut off")
        if zlib.crc32(content[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise ValueError(f"the checksum of its {kind.decode('latin-1')!r} part does not fit")
        place = end + 4


def check_picture(content: bytes | None, size: tuple[int, int] | None = None) -> np.ndarray:
    """The pixels of a stored picture, checked in every way there is before a judge may see them: uint8 RGB (H, W, 3).

    content: None where the file is gone or its sha256 is another. size: (height, width) that was asked for; None where
    any is right, as for pictures made elsewhere. Raises UnusablePicture, also for a single flat colour, which is what
    NaN and a black-out give, and for noise.
    """
    if content is None:
        raise UnusablePicture("the stored file is gone or changed")
    try:
        pixels = decode_image(content)
    except ValueError as error:
        raise UnusablePicture(str(error)) from None
    if size is not None and pixels.shape[:2] != size:
        raise UnusablePicture(f"it has {pixels.shape[0]} x {pixels.shape[1]} pixels, not {size[0]} x {size[1]}")
    if (pixels == pixels[0, 0]).all():
        raise UnusablePicture("the picture is one flat colour", degenerate=True)
    if is_noise(pixels):
        raise UnusablePicture("the picture is noise: no pixel is like its neighbours", degenerate=True)
    return pixels


def is_noise(pixels: np.ndarray) -> bool:
    """Whether pixels (H, W, 3) are drawn each for itself, as by an untrained decoder. Noise in latents decodes to soft
    blobs, which can't be told from a picture this way."""
    height, width = pixels.shape[:2]
    if height * width < SMALLEST_NOISE or min(height, width) < 2:
        return False
    values = pixels.astype(np.float32)
    pairs = ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1]))
    if any((one != other).any(axis=-1).mean() < UNLIKE for one, other in pairs):
        return False
    return all(
        abs(_correlation(one[..., channel], other[..., channel])) < NOISE
        for channel in range(3)
        for one, other in pairs
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 in a channel of one value, which tells nothing."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale else 0.0
