"""Changed copies of valid files for every reader, in a process of its own: python fuzzing.py FOLDER COUNT SEED.

Prints JSON: inputs tried, what escaped (an error that is not documented, an input that is read without end, a file
that was made), the slowest input and the peak of memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from star_bench.assets import prompt_files
from star_bench.catalogue import checkpoints
from star_bench.catalogue.cards import load_yaml
from star_bench.catalogue.checkpoints import entries
from star_bench.catalogue.model_parts import check_folder
from star_bench.catalogue.suites import load as load_suite
from star_bench.errors import StarBenchError
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.geneval import metadata, official_results
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.files.json import read_json, read_rows
from star_bench.files.pictures import decode_image
from star_bench.runs import bundle, foreign
from star_bench.runs.finished import SampleRow, ScoreRow, read_records, read_results
from star_bench.runs.manifest import read_manifest
from star_bench.training.recipe import load as load_recipe

GIGABYTE = 1 << 30
ENDLESS = 30
"""Seconds of CPU time after which a reader is taken for one that never ends; each takes less than a tenth of one."""
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\0", b"null", b"NaN", b"-1", b"1e999", b"true", b"[[[["),
    *(
        b"../",
        b"\xff\xfe",
        b"&a ",
        b"*a",
        b"!!python/none ",
        b"<<: ",
        b"- ",
        b"? ",
        b"|\n",
        b"9" * 30,
        b"\\ud800",
        b"%",
    ),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bytes, tokens, spans doubled, dropped or swapped, the end cut off."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(out) + 1)
        end = min(len(out), place + rng.choice((1, 2, 8, 64)))
        match rng.randrange(7):
            case 0 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                out[place:end] = rng.choice(TOKENS)
            case 2:
                out[place:place] = rng.choice(TOKENS)
            case 3:
                out[place:place] = out[place:end] * rng.choice((1, 2, 50))
            case 4:
                del out[place:end]
            case 5:
                out[place:end] = rng.randbytes(end - place)
            case 6 if rng.random() < 0.3:
                del out[place:]
    return bytes(out)


def picture(kind: str) -> bytes:
    y, x = np.mgrid[:24, :24]
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.stack([y * 9, x * 9, x + y], -1).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def archive(folder: Path) -> bytes:
    """A bundle's shape, with little in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name in (*bundle.FILES, bundle.SUMS, "images/00000/0.png"):
            zipped.writestr(name, b"{}\n")
    return buffer.getvalue()


GENEVAL = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1}],
    "prompt": "a cat",
}
OFFICIAL = {"filename": "a.png", "tag": "t", "prompt": "a cat", "correct": True, "reason": "", "details": "{}"}
SAMPLE = {"prompt_id": "00000", "k": 0, "path": "images/00000/0.png", "sha256": "0" * 64, "status": "ok"}
SCORE = {"prompt_id": "00000", "k": 0, "sha256": "0" * 64, "status": "ok", "value": 0.5, "detail": {"read": ["x"]}}
RECIPE = (
    "title: t\nmodel: miniature\nrewards:\n  - {suite: ocr-miniature, weight: 1}\noptimiser: {learning_rate: 1e-4}\n"
)


def readers(folder: Path, run: Path) -> list[tuple[str, bytes, Path, Callable[[Path], object]]]:
    """Name, a valid content, the file that takes it, and what reads it."""

    def lines(*rows: object) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    card = (load_suite("geneval-miniature").folder / "card.yaml").read_bytes()
    unpacked = folder / "unpacked"
    pipeline = folder / "pipeline"
    index = {"_class_name": "X", "transformer": ["diffusers", "Y"], "vae": ["diffusers", "Z"]}
    (pipeline / "transformer").mkdir(parents=True)
    prompt = [Prompt("00000", "a cat")]
    foreign_row = folder / "foreign" / "00000" / "metadata.jsonl"
    prompts = folder / "flat" / "prompts.txt"
    (prompts.parent).mkdir()
    (prompts.parent / "0.png").write_bytes(picture("PNG"))

    def taken(place: Path) -> object:
        judge = GenEval(load_suite("geneval-miniature"))
        return foreign.find(place, prompt, 1, asked=judge.asked, chosen=["00000"])

    official = lines(OFFICIAL | {"metadata": json.dumps(GENEVAL)})

    def lora(path: Path) -> object:
        from safetensors import SafetensorError
        from safetensors.torch import load as load_tensors

        with contextlib.suppress(SafetensorError):  # what the reader of adapters turns into a refusal
            return load_tensors(path.read_bytes())
        return None

    import torch
    from safetensors.torch import save

    return [
        ("rows", lines(SAMPLE, SCORE), folder / "rows.jsonl", read_rows),
        ("JSON", lines(index), folder / "x.json", read_json),
        ("samples", lines(SAMPLE, SAMPLE), folder / "samples.jsonl", lambda p: read_records(p, SampleRow)),
        ("scores", lines(SCORE, SCORE), folder / "scores.jsonl", lambda p: read_records(p, ScoreRow)),
        ("newest rows", lines(SAMPLE, SAMPLE), folder / "newest.jsonl", bundle.newest),
        (
            "results",
            (run / "results.json").read_bytes(),
            folder / "r" / "results.json",
            lambda p: read_results(p.parent),
        ),
        ("manifest", (run / "manifest.json").read_bytes(), folder / "manifest.json", lambda p: read_manifest(p.parent)),
        ("suite card", card, folder / "card.yaml", lambda p: load_suite(str(p))),
        ("YAML", card, folder / "any.yaml", load_yaml),
        ("recipe", RECIPE.encode(), folder / "recipe.yaml", lambda p: load_recipe(str(p))),
        ("checkpoints", Path("checkpoints.yaml").read_bytes()[:1500], folder / "checkpoints.yaml", entries),
        ("prompts", "a cat\nein Hund \u00fc\n".encode(), folder / "prompts.txt", prompt_files.lines_of),
        ("GenEval rows", lines(GENEVAL, GENEVAL), folder / "g.jsonl", lambda p: list(metadata.prompt_rows(p))),
        (
            "official results",
            official,
            folder / "o.jsonl",
            official_results.read_results,
        ),
        ("PNG", picture("PNG"), folder / "a.png", lambda p: decode_image(p.read_bytes())),
        ("JPEG", picture("JPEG"), folder / "a.jpg", lambda p: decode_image(p.read_bytes())),
        ("WebP", picture("WEBP"), folder / "a.webp", lambda p: decode_image(p.read_bytes())),
        ("bundle", archive(folder), folder / "a.zip", lambda p: bundle.unpack(p, unpacked)),
        ("pipeline index", lines(index), pipeline / "model_index.json", lambda p: check_folder(p.parent)),
        ("foreign rows", lines(GENEVAL), foreign_row, lambda p: taken(p.parents[1])),
        ("foreign prompts", b"a cat\n", prompts, lambda p: taken(p.parent)),
        ("safetensors", save({"a": torch.zeros(4), "b": torch.ones(2, 2)}), folder / "a.safetensors", lora),
    ]


def never_ends(_number: int, _frame: object) -> None:
    raise RuntimeError(f"not read after {ENDLESS} s of CPU time")


def main(place: str, run: str, count: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    root = Path(place)
    folder = root / "inside"
    folder.mkdir()
    all_readers = readers(folder, Path(run))
    for *_, path, _ in all_readers:
        path.parent.mkdir(parents=True, exist_ok=True)
    # The libraries' own address space is no input's doing.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE, used + GIGABYTE))
    signal.signal(signal.SIGVTALRM, never_ends)
    rng, escaped, slowest, tried = random.Random(seed), [], (0.0, ""), 0
    for number in range(count):
        name, valid, path, read = all_readers[number % len(all_readers)]
        content = mutated(valid, rng)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_VIRTUAL, ENDLESS)
        began = time.process_time()  # noqa: TID251 - published as a figure, and nothing is decided by it
        try:
            read(path)
        except StarBenchError:
            pass
        except ValueError as error:
            if name not in ("PNG", "JPEG", "WebP"):
                escaped.append(f"{name}: {type(error).__name__}: {error}: {content[:300]!r}")
        except Exception as error:  # noqa: BLE001 - what is looked for
            escaped.append(f"{name}: {type(error).__name__}: {error}: {content[:300]!r}")
        slowest = max(slowest, (time.process_time() - began, name))  # noqa: TID251 - as above
        checkpoints._read.cache_clear()
        tried += 1
    escaped += [f"{path} was made" for path in root.iterdir() if path != folder]
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    sys.stdout.write(json.dumps({"tried": tried, "escaped": escaped, "slowest": slowest, "peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
