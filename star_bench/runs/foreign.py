"""Pictures made elsewhere: which file is image k of which prompt.

Two layouts. GenEval's own: NNNNN/metadata.jsonl and NNNNN/samples/*.png. Flat: prompts.txt, one prompt per line, and
pictures named by the line's number from 0: 00000.png, or 00000_0.png, 00000_1.png for several.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.json_files import MAX_LINE, parse_json
from star_bench.protocol import digest_of
from star_bench.runs.store import Key

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
"""How files of PNG, JPEG and WebP begin."""
MAX_PICTURE = 128 << 20  # bytes, chosen here
FLAT_NAME = re.compile(r"(?P<line>\d+)(?:[_-](?P<k>\d+))?")


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def content_of(path: Path) -> bytes:
    """What is taken of a file: its bytes where it is a picture, by its first ones; else none, which no judge can score.

    A link is followed to a picture and to nothing else: what is copied into a run may be published with it.
    """
    if not path.is_file() or path.stat().st_size > MAX_PICTURE:
        return b""
    content = path.read_bytes()
    return content if content.startswith(MAGIC) else b""


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(MAX_LINE)


def _geneval(folder: Path) -> list[tuple[str, list[Path]]]:
    out = []
    for metadata in sorted(folder.glob("*/metadata.jsonl")):
        try:
            text = str(parse_json(_first_line(metadata))["prompt"])
        except (OSError, ValueError, LookupError, TypeError):
            raise UsageError(
                f"{metadata} has no prompt in its first line", "write GenEval's metadata row there"
            ) from None
        out.append((text, _pictures(metadata.parent / "samples")))
    return out


def _flat(folder: Path) -> list[tuple[str, list[Path]]]:
    listed = folder / "prompts.txt"
    try:
        lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{listed} can't be read ({error})", "check that it is a readable UTF-8 file") from None
    files: dict[int, list[tuple[int, Path]]] = {}
    for path in _pictures(folder):
        match = FLAT_NAME.fullmatch(path.stem)
        if match is None or int(match["line"]) >= len(lines):
            raise UsageError(
                f"{path} belongs to no line of prompts.txt ({len(lines)} lines)",
                "name pictures by the line's number from 0, as 00000.png or 00000_0.png",
            )
        files.setdefault(int(match["line"]), []).append((int(match["k"] or 0), path))
    return [(text, [path for _, path in sorted(files.get(i, []))]) for i, text in enumerate(lines) if text]


def find(folder: Path, prompts: Sequence[Prompt]) -> dict[Key, Path]:
    """The file of each image that is there, for the suite's prompts by their text.

    Raises UsageError for a folder in neither layout, one without any picture of the suite, and a prompt that the
    suite does not have.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "give the folder that holds the pictures")
    if any(folder.glob("*/metadata.jsonl")):
        found = _geneval(folder)
    elif (folder / "prompts.txt").is_file():
        found = _flat(folder)
    else:
        raise UsageError(
            f"{folder} holds neither NNNNN/metadata.jsonl nor prompts.txt",
            "lay it out as GenEval does, or add prompts.txt with one prompt per line",
        )
    by_text = {prompt.text: prompt for prompt in prompts}
    unknown = [text for text, _ in found if text not in by_text]
    if unknown:
        raise UsageError(f"the suite has no prompt {unknown[0]!r}", "use the suite that these pictures were made for")
    files = {(by_text[text].id, k): path for text, paths in found for k, path in enumerate(paths)}
    if not files:
        raise UsageError(f"{folder} holds no pictures", f"put files ending in {', '.join(SUFFIXES)} there")
    return files


def digest(files: dict[Key, Path]) -> str:
    """What the pictures are, by their bytes."""
    return digest_of([[*key, hashlib.sha256(content_of(path)).hexdigest()] for key, path in sorted(files.items())])
