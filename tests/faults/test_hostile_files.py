"""YAML, JSON, pictures and prompts that are made to break whoever reads them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
from figures import Row, publish
from processes import call, environment
from stored import one_run
from stores import copy_of, file_of

from star_bench.catalogue.cards import load_yaml
from star_bench.catalogue.checkpoints import entries
from star_bench.catalogue.suites import load as load_suite
from star_bench.errors import Incomplete, StarBenchError
from star_bench.files.json import MAX_DEPTH, MAX_LINE, parse_json, read_json, read_rows
from star_bench.files.pictures import decode_image
from star_bench.training.recipe import load as load_recipe


def refusal(read: Callable[[], object]) -> str | None:
    """None where a reader refuses in one sentence; else what happened."""
    try:
        read()
    except StarBenchError as error:
        return None if error.exit_code in (2, 4) and "\n" not in str(error) else repr(error)
    except Exception as error:  # noqa: BLE001 - what is looked for
        return f"{type(error).__name__}: {error}"
    return "was taken"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
YAML = {
    "aliases that explode": LAUGHS,
    "a list that holds itself": "a: &a [*a]\n",
    "a tag of Python": "!!python/object/apply:os.system ['touch marker']\n",
    "a tag of Python inside": "name: !!python/name:os.system\n",
    "a mapping as key": "? {a: 1}\n: 2\n",
    "deep": "a: " + "[" * 5000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(300)),
    "large": "a: 1\n" * 2**18,
    "an impossible date": "a: 2001-99-99\n",
    "NUL": "a: \0\n",
    "a merge of a number": "<<: 7\n",
    "no UTF-8": "a: \udcff\n",
    "two documents": "a: 1\n---\nb: 2\n",
}


def test_hostile_yaml_is_refused_by_every_reader(tmp_path: Path) -> None:
    readers: dict[str, Callable[[Path], object]] = {
        "card.yaml": lambda path: load_suite(str(path)),
        "recipe.yaml": lambda path: load_recipe(str(path)),
        "checkpoints.yaml": lambda path: entries(path),
        "any.yaml": load_yaml,
    }
    failures, tried = [], 0
    for name, text in YAML.items():
        for file, read in readers.items():
            if name == "deep blocks" and file == "any.yaml":
                continue  # it is plain YAML, which any card but this refuses
            path = tmp_path / str(tried) / file
            path.parent.mkdir()
            path.write_bytes(text.encode(errors="surrogateescape"))
            tried += 1
            if wrong := refusal(lambda read=read, path=path: read(path)):
                failures.append(f"{name} as {file}: {wrong}")
    if (Path.cwd() / "marker").exists():
        failures.append("a tag ran")
    held = tried - len(failures)
    publish(Row("inputs", "hostile YAML", "refused with one sentence", tried, held), failures)


LINES = {
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a number beyond all": b'{"a": 1e999}',
    "deep lists": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deeper than the bound": b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    "no UTF-8": b'{"a": "\xff"}',
    "many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a list": b"[]",
    "a long line": b'{"a": "' + b"x" * MAX_LINE + b'"}',
    "NUL": b"\0",
}


def test_hostile_json_is_refused(tmp_path: Path) -> None:
    failures = []
    for name, line in LINES.items():
        path = tmp_path / "rows.jsonl"
        path.write_bytes(b'{"a": 1}\n' + line + b"\n")
        try:
            read_rows(path)
            failures.append(f"{name} was taken")
        except StarBenchError as error:
            if not re.search(r"line 2 of .*rows.jsonl", str(error)):
                failures.append(f"{name}: no line is named: {error}")
        except Exception as error:  # noqa: BLE001 - what is looked for
            failures.append(f"{name}: {type(error).__name__}: {error}")
        path.write_bytes(line)
        if name not in ("a list", "a long line") and (wrong := refusal(partial(read_json, path))):
            failures.append(f"{name} as a file: {wrong}")
    assert parse_json('{"a": [1.5, "\\ud83d\\ude00"]}') == {"a": [1.5, "\U0001f600"]}
    tried = len(LINES)
    held = tried - len(failures)
    publish(Row("inputs", "hostile JSON lines", "refused, with the line's number", tried, held), failures)


GIGABYTE = """
import sys
from pathlib import Path
from star_bench.errors import Refused
from star_bench.files.json import read_json, read_rows
for read in (read_rows, read_json):
    try:
        read(Path(sys.argv[1]))
        sys.exit("was taken")
    except Refused:
        pass
# Not ru_maxrss, which begins with that of the process that started this one.
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10)
"""


def test_a_line_of_a_gigabyte_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"")
    os.truncate(path, 1 << 30)
    done = subprocess.run(
        [sys.executable, "-c", GIGABYTE, str(path)], env=environment(), capture_output=True, text=True, check=False
    )
    good = done.returncode == 0 and int(done.stdout) < 1024
    publish(
        Row(
            "inputs",
            "a line of a gigabyte",
            "refused within 1 GB of memory",
            1,
            int(good),
            f"{done.stdout.strip()} MiB",
        ),
        [done.stderr] if not good else [],
    )


ROWS: dict[str, dict[str, object]] = {
    "a path above": {"path": "../../../../../../etc/passwd"},
    "an absolute path": {"path": "/etc/passwd"},
    "a path through images": {"path": "images/../../secret.png"},
    "a path of a drive": {"path": "images/C:\\x.png"},
    "a path with NUL": {"path": "images/a\0.png"},
    "a path that is a number": {"path": 7},
    "a prompt that is a list": {"prompt_id": ["a"]},
    "k that is a word": {"k": "0/../.."},
    "k that is true": {"k": True},
    "a digest that is a list": {"sha256": [1]},
}
VERBS = (("verify",), ("export", "--as", "bundle", "--out", "OUT"))


def test_rows_that_lead_out_of_a_run_are_refused(tmp_path: Path, undisturbed: tuple[Path, float]) -> None:
    from star_bench.runs.bundle import pack
    from star_bench.runs.finished import read_run

    failures, tried = [], 0
    for number, (name, news) in enumerate(ROWS.items()):
        run = copy_of(one_run(undisturbed[0]), tmp_path / str(number))
        samples = file_of(run, "samples.jsonl")
        lines = samples.read_text().splitlines()
        changed = json.loads(lines[0]) | news
        samples.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
        out = tmp_path / str(number) / "out.zip"
        readers = {"read_run": lambda run=run: read_run(run), "pack": lambda run=run, out=out: pack(run, out)}
        for reader, read in readers.items():
            if (reader, name) == ("read_run", "k that is true"):
                continue  # pydantic takes it for 1, which is an image of the run: not counted
            tried += 1
            if wrong := refusal(read):
                failures.append(f"{name} for {reader}: {wrong}")
        if out.exists():
            failures.append(f"{name}: a bundle was written")
    held = tried - len(failures)
    publish(
        Row(
            "inputs",
            "rows that lead out of the run",
            "refused; no file elsewhere is read",
            tried,
            held,
        ),
        failures,
    )


# Pictures


def png(pixels: np.ndarray, mode: str | None = None, **more: object) -> bytes:
    image = PIL.Image.fromarray(pixels, mode) if mode else PIL.Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **more)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG of many pixels, all 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gradient() -> np.ndarray:
    """(32, 48, 3) uint8."""
    y, x = np.mgrid[:32, :48]
    return np.stack([y * 8, x * 5, (x + y) * 3], axis=-1).astype(np.uint8)


def saved(pixels: np.ndarray, kind: str, mode: str = "RGB", **more: object) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(buffer, kind, **more)
    return buffer.getvalue()


def unreadable() -> dict[str, bytes]:
    pixels = gradient()
    other = PIL.Image.fromarray(255 - pixels)
    good = png(pixels)
    return {
        "a decompression bomb": bomb(30_000, 30_000),
        "100,000 pixels wide": bomb(100_000, 8),
        "animated PNG": png(pixels, save_all=True, append_images=[other]),
        "animated WebP": saved(pixels, "WEBP", save_all=True, append_images=[other]),
        "animated GIF": saved(pixels, "GIF", save_all=True, append_images=[other]),
        "EPS, which starts a program": saved(pixels, "EPS"),
        "cut off": good[: len(good) // 2],
        "its end is missing": good[:-12],
        "empty": b"",
        "text": b"not a picture",
        "a bit flipped": good[:60] + bytes([good[60] ^ 1]) + good[61:],
    }


def readable() -> dict[str, tuple[bytes, np.ndarray, int]]:
    """Content, the expected pixels, and by how much any value may differ."""
    pixels = gradient()
    grey16 = (np.arange(32 * 48).reshape(32, 48) * 40).astype(np.uint16)
    palette = PIL.Image.fromarray(pixels).quantize(64)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    table = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    flat = np.full((32, 48, 3), (200, 90, 30), np.uint8)
    return {
        "16-bit grey": (png(grey16), np.repeat((grey16 >> 8).astype(np.uint8)[..., None], 3, -1), 0),
        "palette": (buffer.getvalue(), table[np.asarray(palette)], 0),
        "alpha": (png(alpha), np.rint((pixels * 7.0 + 255 * 248) / 255).astype(np.uint8), 0),
        "one bit": (saved(pixels, "PNG", "1"), np.asarray(PIL.Image.fromarray(pixels).convert("1").convert("RGB")), 0),
        "CMYK JPEG": (saved(flat, "JPEG", "CMYK", quality=95), flat, 4),
        "WebP": (saved(pixels, "WEBP", lossless=True), pixels, 0),
    }


def test_pictures_are_converted_rightly_or_not_read(tmp_path: Path) -> None:
    failures = []
    for name, content in unreadable().items():
        try:
            decode_image(content)
            failures.append(f"{name} was read")
        except ValueError as error:
            if "\n" in str(error):
                failures.append(f"{name}: {error}")
    for name, (content, expected, near) in readable().items():
        got = decode_image(content).astype(int)
        if got.shape != expected.shape or abs(got - expected).max() > near:
            failures.append(f"{name}: other pixels")
    tried = len(unreadable()) + len(readable())
    held = tried - len(failures)
    publish(
        Row("inputs", "odd pictures", "the pixels that are meant, or unreadable", tried, held),
        failures,
    )


def test_a_folder_of_odd_pictures_is_counted_and_never_scored_zero(tmp_path: Path) -> None:
    """As `--images`, with a link to a secret, a FIFO and a folder named as pictures among them."""
    from star_bench.assets import prompt_files

    prompt = prompt_files.read(load_suite("ocr-miniature"))[0]
    folder, secret = tmp_path / "images", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("root:x:0:0:a secret")
    (folder / "prompts.txt").write_text(prompt + "\n")
    contents = list(unreadable().values())
    odd = [*contents, *(content for content, _, _ in readable().values())]
    for k, content in enumerate(odd, start=4):
        (folder / f"0_{k:02d}.png").write_bytes(content)
    (folder / "0_00.png").symlink_to(secret)
    os.mkfifo(folder / "0_01.png")
    (folder / "0_02.png").mkdir()
    (folder / "0_03.png").symlink_to(tmp_path / "nothing")
    bad, good = len(contents) + 3, len(readable())
    words = (
        "run",
        "--images",
        str(folder),
        "--suite",
        "ocr-miniature",
        "--limit",
        "1",
        "--samples",
        str(bad + good + 1),
    )
    done = call(tmp_path, *words, "--json", timeout=280)
    failures = []
    if done.returncode != Incomplete.exit_code or "Traceback" in done.stderr:
        failures.append(f"exit {done.returncode}: {done.stderr[-500:]}")
    else:
        counts = json.loads(done.stdout)["counts"]
        # A link that leads nowhere is a picture that is not there.
        failures += (
            [] if (counts["corrupt"], counts["missing"]) == (bad, 1) else [f"counted {counts}, and {bad} are corrupt"]
        )
        failures += [] if counts["ok"] + counts["degenerate"] == good else [f"counted {counts}, and {good} are good"]
        stored = [path for path in one_run(tmp_path).rglob("*") if path.is_file()]
        failures += [f"{path} holds the secret" for path in stored if b"a secret" in path.read_bytes()]
    tried = bad + good + 1
    held = tried - len(failures)
    publish(
        Row(
            "inputs",
            "a folder of odd pictures",
            "scored or counted corrupt, never 0; exit 3",
            tried,
            held,
        ),
        failures,
    )


HOSTILE_TEXTS = (
    "a\x1b[2J\x1b]0;owned\x07 cat",
    "a \x00 NUL",
    "\u202egnp.exe a bidi override",
    "../../../../etc/passwd",
    "CON",
    "/etc/passwd",
    "x" * 10_000,
    "\x9b31m eight-bit escape",
    "%s %n {0} $(touch marker) `touch marker`",
)


def test_hostile_prompts_stay_text_in_files_and_on_the_terminal(tmp_path: Path) -> None:
    card = Path(shutil.copytree(load_suite("ocr-miniature").folder, tmp_path / "suite"))
    name = load_suite("ocr-miniature").prompts.path
    quoted = [f'{text} with the text "CAT"' for text in HOSTILE_TEXTS]
    (card / str(name)).write_text("\n".join(quoted) + "\n")
    text = re.sub(r"(?m)^(\s*)(sha256|limit|repeats):.*\n", "", (card / "card.yaml").read_text())
    (card / "card.yaml").write_text(text)
    words = ("run", "--model", "miniature", "--suite", str(card / "card.yaml"), "--steps", "1", "--samples", "1")
    done = call(tmp_path, *words, timeout=280)
    said = done.stdout + done.stderr
    failures = []
    if done.returncode not in (0, 3) or "Traceback" in said:
        failures.append(f"exit {done.returncode}: {said[-500:]}")
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x80-\x9f\u202e]|\x1b(?!\\[[0-9;]*m)", said):
        failures.append("the terminal was given control characters")
    outside = {path.name for path in tmp_path.iterdir()} - {"suite", "runs", "reports"}
    failures += [f"{name} was made" for name in outside]
    unknown = call(tmp_path, "run", "--model", "\x1b[2Jnone", "--suite", "\u202eocr")
    if re.search("[\x1b\u202e]", unknown.stdout + unknown.stderr):
        failures.append("an error's words steer the terminal")
    tried = len(HOSTILE_TEXTS) + 1
    note = f"exit {done.returncode}"
    held = tried - len(failures)
    publish(
        Row(
            "inputs",
            "hostile prompts in a run",
            "pictures stay inside; no escape sequence",
            tried,
            held,
            note,
        ),
        failures,
    )
