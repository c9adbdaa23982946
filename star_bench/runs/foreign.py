"""Pictures made elsewhere: which file is image k of which prompt.

Two layouts. GenEval's own, with the rules of its evaluator (djghosh13/geneval at af4902f, evaluate_images.py, restated):
NNNNN/metadata.jsonl and NNNNN/samples/KKKKK.png, where a prompt's folder and a picture are named by digits alone. Flat:
prompts.txt, one prompt per line, and pictures named by the line's number from 0: 00000.png, or 00000_0.png, 00000_1.png
for several. k is the number in a name, never a place in an order. Nothing that begins with a dot is a picture.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_bench.assets.prompt_files import lines_of
from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.files.digests import digest_of
from star_bench.files.json import BLANK, read_objects
from star_bench.runs.notices import Notice, named
from star_bench.runs.store import Key

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
UNREAD = (".avif", ".bmp", ".gif", ".heic", ".jfif", ".jxl", ".tif", ".tiff")
"""Pictures too, that no judge is given: where they lie they are counted (the list is chosen here)."""
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
"""How files of PNG, JPEG and WebP begin."""
MAX_PICTURE = 128 << 20  # bytes, chosen here
NUMBER = re.compile(r"[0-9]+")
FLAT_NAME = re.compile(r"(?P<line>[0-9]+)(?:[_-](?P<k>[0-9]+))?")

Asked = Callable[[dict[str, Any], str], str | None]
"""`Evaluator.asked`."""


@dataclass(frozen=True)
class Found:
    """The file of each image that is there, of all the suite's prompts, and what a reader of the results must know."""

    files: dict[Key, Path]
    notices: tuple[Notice, ...] = ()


@dataclass
class _Place:
    """One prompt as the folder has it: where that stands, the number of its folder or line, its text, its metadata where
    it has any, its pictures by k."""

    where: Path
    number: int
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    pictures: dict[int, Path] = field(default_factory=dict)

    def add(self, k: int, path: Path) -> None:
        if k in self.pictures:
            one, other = sorted((self.pictures[k], path))
            raise UsageError(f"{one} and {other} are both image {k} of one prompt", "leave one of them there")
        self.pictures[k] = path


def content_of(path: Path) -> bytes:
    """What is taken of a file: its bytes where it is a picture, by its first ones; else none, which no judge can score.

    A link is followed to a picture and to nothing else: what is copied into a run may be published with it.
    """
    if not path.is_file() or path.stat().st_size > MAX_PICTURE:
        return b""
    content = path.read_bytes()
    return content if content.startswith(MAGIC) else b""


def find(folder: Path, prompts: Sequence[Prompt], samples: int, *, asked: Asked, chosen: Iterable[str]) -> Found:
    """Which file is which image of the suite's prompts. `chosen` are the ids of those that are judged, `samples` images
    of each.

    A prompt is matched by what its metadata ask for where the judge goes by that, else by its text. Of prompts that are
    alike, a folder or line has the one that its number says, else the n-th has the n-th; where the suite has one prompt
    for several lines, the n-th line has its n-th image.

    Raises UsageError for a folder in neither layout, one without any picture of the suite, a prompt that the suite does
    not have, two files for one image, two folders of one number, and numbers that seem to begin at 1.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "give the folder that holds the pictures")
    numbered = sorted(
        (each for each in folder.iterdir() if each.is_dir() and NUMBER.fullmatch(each.name)),
        key=lambda each: (int(each.name), each.name),
    )
    if any((each / "metadata.jsonl").is_file() for each in numbered):
        places, expected = _geneval(numbered), folder / "NNNNN" / "samples"
    elif (folder / "prompts.txt").is_file():
        places, expected = _flat(folder), folder
    else:
        raise UsageError(
            f"{folder} holds neither NNNNN/metadata.jsonl nor prompts.txt",
            "lay it out as GenEval does, or add prompts.txt with one prompt per line",
        )
    if not any(place.pictures for place in places):
        left = _left(folder, numbered, set())
        raise UsageError(
            f"{folder} holds no pictures" + (f" that are images by name and place (but {named(left)})" if left else ""),
            f"put them into {expected} as 00000.png, 00001.png and so on, ending in {', '.join(SUFFIXES)}",
        )
    if not any(0 in place.pictures for place in places):
        k, path = min((k, path) for place in places for k, path in place.pictures.items())
        raise UsageError(
            f"no prompt has an image 0, and {path} is image {k}", "number the images of each prompt from 0"
        )
    files, rewritten = _matched(places, prompts, asked)
    chosen = set(chosen)
    ours = [key for key in files if key[0] in chosen]
    told = {name: text for name, text in rewritten.items() if name in chosen}
    left = _left(folder, numbered, set(files.values()))
    return Found(files, tuple(_rewritten(told, len(chosen)) + _beyond(ours, samples) + _ignored(left)))


def digest(files: dict[Key, Path]) -> str:
    """What the pictures are, by their bytes."""
    return digest_of([[*key, hashlib.sha256(content_of(path)).hexdigest()] for key, path in sorted(files.items())])


def _pictures(folder: Path) -> list[Path]:
    """Files that may be images; a link that leads nowhere is one that can't be read."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def _geneval(folders: Sequence[Path]) -> list[_Place]:
    out: list[_Place] = []
    for folder in folders:
        number, metadata = int(folder.name), folder / "metadata.jsonl"
        example = "write GenEval's metadata row there, a JSON object with a 'prompt'"
        if out and out[-1].number == number:
            raise UsageError(
                f"{out[-1].where.parent} and {folder} are both the folder of prompt {number}", "leave one of them there"
            )
        if not metadata.exists():
            raise UsageError(f"{folder} has no metadata.jsonl", f"{example}, or move that folder away")
        rows = [each.value for each in read_objects(metadata, example)]
        if len(rows) > 1:
            raise UsageError(f"{metadata} holds {len(rows)} objects, and a prompt has one", example)
        text = rows[0].get("prompt")
        if not isinstance(text, str):
            raise UsageError(f"{metadata} has no prompt", example)
        place = _Place(metadata, number, text.strip(BLANK), rows[0])
        for path in _pictures(folder / "samples"):
            if NUMBER.fullmatch(path.stem):
                place.add(int(path.stem), path)
        out.append(place)
    return out


def _flat(folder: Path) -> list[_Place]:
    listed = folder / "prompts.txt"
    places = [_Place(listed, number, text) for number, text in enumerate(lines_of(listed))]
    for path in _pictures(folder):
        match = FLAT_NAME.fullmatch(path.stem)
        if match is None:
            continue
        line = int(match["line"])
        if line >= len(places) or not places[line].text:
            raise UsageError(
                f"{path} belongs to no line of prompts.txt ({len(places)} lines)",
                "name pictures by the line's number from 0, as 00000.png or 00000_0.png",
            )
        places[line].add(int(match["k"] or 0), path)
    begun = [line for line, place in enumerate(places) if place.pictures]
    if begun and begun[0] == 1 and places[0].text:
        raise UsageError(
            f"{folder} has pictures of line 1 and none of line 0, so they seem to be numbered from 1",
            "number them from 0; if only that picture is lost, put an empty 0.png in its place",
        )
    return [place for place in places if place.text]


def _matched(
    places: Sequence[_Place], prompts: Sequence[Prompt], asked: Asked
) -> tuple[dict[Key, Path], dict[str, str]]:
    """The file of each image, and of prompts that have another text in the folder that text, by id."""
    by_text: dict[str, list[int]] = defaultdict(list)
    by_rule: dict[str, list[int]] = defaultdict(list)
    for line, prompt in enumerate(prompts):
        by_text[prompt.text].append(line)
        if rule := asked(prompt.metadata, f"prompt {prompt.id}"):
            by_rule[rule].append(line)
    alike: dict[tuple[int, ...], list[_Place]] = defaultdict(list)
    for place in places:
        rule = asked(place.metadata, str(place.where))
        same = by_text.get(place.text, []) if rule is None else by_rule.get(rule, [])
        if not same:
            known = by_text.get(place.text)
            what = f"the suite's prompt {place.text!r} asks for something else than {place.where}" if known else ""
            raise UsageError(
                what or f"the suite has no prompt {place.text!r}", "use the suite that these pictures were made for"
            )
        alike[tuple(line for line in same if prompts[line].text == place.text) or tuple(same)].append(place)
    files: dict[Key, Path] = {}
    rewritten: dict[str, str] = {}
    for lines, group in alike.items():
        for place, line, pictures in _shared(group, lines):
            prompt = prompts[line]
            for k, path in pictures.items():
                if (other := files.setdefault((prompt.id, k), path)) != path:
                    raise UsageError(
                        f"{other} and {path} are both image {k} of the prompt {prompt.text!r}",
                        "leave one of them there, or give folders and lines the suite's numbers",
                    )
            if pictures and place.text != prompt.text:
                rewritten[prompt.id] = place.text
    return files, rewritten


def _shared(places: Sequence[_Place], lines: Sequence[int]) -> list[tuple[_Place, int, dict[int, Path]]]:
    """Which of the suite's prompts, given by their lines, each place has, and its images. All are alike, and in order."""
    if {place.number for place in places} <= set(lines):
        return [(place, place.number, place.pictures) for place in places]
    if len(places) <= len(lines):
        return [(place, line, place.pictures) for place, line in zip(places, lines, strict=False)]
    one, other = places[0].where, places[1].where
    if one != other:
        raise UsageError(
            f"{one.parent} and {other.parent} are both of the prompt {places[0].text!r}", "leave one of them there"
        )
    many = next((path for place in places for k, path in place.pictures.items() if k > 0), None)
    if len(lines) > 1 or many:
        raise UsageError(
            f"{one} has {places[0].text!r} on {len(places)} lines, and "
            + (f"{many} is one of several pictures of a line" if many else f"the suite has it {len(lines)} times"),
            "write each prompt on one line, and name its pictures 00000_0.png, 00000_1.png",
        )
    return [(place, lines[0], {n: place.pictures[0]}) for n, place in enumerate(places) if place.pictures]


def _rewritten(texts: dict[str, str], of: int) -> list[Notice]:
    if not texts:
        return []
    ids = tuple(sorted(texts))
    text = (
        f"PROMPTS REWRITTEN: the pictures of {len(ids)} of {of} prompts were made with another text than the suite's "
        f"({named(ids)}; the first: {texts[ids[0]]!r}), and are judged by what their metadata ask for"
    )
    return [Notice("prompts_rewritten", text, ids)]


def _beyond(keys: Sequence[Key], samples: int) -> list[Notice]:
    beyond = [key for key in keys if key[1] >= samples]
    if not beyond:
        return []
    ids = tuple(sorted({prompt_id for prompt_id, _ in beyond}))
    text = f"PICTURES NOT JUDGED: {len(beyond)} of {len(keys)}, as {samples} of each prompt are planned"
    all_of_them = 1 + max(k for _, k in beyond)
    if all_of_them <= max(Counter(prompt_id for prompt_id, _ in keys).values()):
        text += f" (--samples {all_of_them} judges all)"
    return [Notice("pictures_not_judged", text, ids)]


def _left(folder: Path, numbered: Sequence[Path], taken: set[Path]) -> list[str]:
    """Pictures that lie in the folder and are no image by their names, places or endings. Prompts' folders are walked even
    where they are links, which the walk of the whole folder does not follow."""
    roots = [folder, *numbered, *(each / "samples" for each in numbered)]
    there = {path for root in roots for path in root.rglob("*") if path.suffix.lower() in SUFFIXES + UNREAD}
    return [path.relative_to(folder).as_posix() for path in sorted(there - taken) if not path.is_dir()]


def _ignored(left: Sequence[str]) -> list[Notice]:
    if not left:
        return []
    return [Notice("pictures_ignored", f"PICTURES IGNORED: {len(left)} whose name is no image's ({named(left)})")]
