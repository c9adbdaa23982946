"""A run's picture as a page shows it: the file that was judged, and a small one for the overview."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import PIL.ExifTags
import PIL.Image

from star_bench.errors import Refused
from star_bench.files.pictures import decode_image, encode_png
from star_bench.runs.finished import SampleRow

SMALL_SIDE = 256
"""Pictures of at most this many pixels a side are enlarged without smoothing, and are their own thumbnails (chosen here)."""
THUMBNAIL_SIDE = 320
"""Pixels of a thumbnail's longest side: a card's width on a screen with two pixels per unit of length (chosen here)."""
QUALITY = 85
"""A thumbnail is a JPEG, since it is only looked at: of a picture of 512 px it takes a tenth of the time of a small PNG
and an eighth of its bytes. Chosen here; colours are kept at full resolution."""


@dataclass(frozen=True)
class Picture:
    """name and thumbnail_name are relative to the report; width and height are the picture's, in pixels.

    png and thumbnail are the files' bytes; thumbnail is empty where the picture is its own.
    """

    name: str
    width: int
    height: int
    png: bytes
    thumbnail: bytes
    thumbnail_name: str

    @property
    def url(self) -> str:
        return quote(self.name)

    @property
    def thumbnail_url(self) -> str:
        return quote(self.thumbnail_name)

    @property
    def is_small(self) -> bool:
        return max(self.width, self.height) <= SMALL_SIDE

    @property
    def files(self) -> dict[str, bytes]:
        """Name -> content of what is to be written."""
        return {self.name: self.png} | ({self.thumbnail_name: self.thumbnail} if self.thumbnail else {})


def read_picture(folder: Path, sample: SampleRow | None) -> Picture | None:
    """None where there never was a picture, or the file is gone or unreadable.

    Raises Refused for a path out of the run, and for a picture that is not the one that was scored.
    """
    if sample is None or sample.path is None:
        return None
    path = folder / sample.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"{folder} lists a picture outside itself, {sample.path!r}", "do not trust this run directory")
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sample.sha256:
        raise Refused(f"{path} has changed since it was scored", "run the suite again to redo this image")
    try:
        png, (width, height), small = _shown(content)
    except ValueError:
        return None
    place = f"{_folder(sample.prompt_id)}/{sample.k}"
    name = f"images/{place}.png"
    return Picture(name, width, height, png, small, f"thumbnails/{place}.jpg" if small else name)


def _folder(prompt_id: str) -> str:
    """The id where it is a plain file name, else its hash: two ids never share a folder."""
    if re.fullmatch(r"[\w-]+", prompt_id):
        return prompt_id
    return hashlib.sha256(prompt_id.encode(errors="surrogatepass")).hexdigest()


def _shown(content: bytes) -> tuple[bytes, tuple[int, int], bytes]:
    """PNG bytes that show what was judged, (width, height), and a thumbnail. Raises ValueError for no picture.

    A PNG is passed on untouched, unless its EXIF turns it or it is transparent: a reader must see it the same way up, and
    on the same ground, as the judges.
    """
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            turned = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) != 1
            if image.format == "PNG" and not turned and not image.has_transparency_data:
                return content, image.size, _thumbnail(image)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    pixels = decode_image(content)
    return encode_png(pixels), (pixels.shape[1], pixels.shape[0]), _thumbnail(PIL.Image.fromarray(pixels))


def _thumbnail(image: PIL.Image.Image) -> bytes:
    """JPEG bytes; none for a picture that is small itself."""
    if max(image.size) <= SMALL_SIDE:
        return b""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PIL.Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
