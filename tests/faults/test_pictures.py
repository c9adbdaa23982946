"""Pictures that were damaged, are missing, or show nothing: all are found, none gets a score."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from engines import run_here
from figures import FULL, Row, count, publish
from processes import SMALL, call
from safetensors.torch import load_file, save_file
from stored import differences, one_run, pictures_in, run_to_the_end, unnamed

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.errors import Incomplete
from star_bench.evaluators.ocr.rule import target_of
from star_bench.files.pictures import UnusablePicture, check_picture, encode_png, is_noise
from star_bench.miniature.scenes import SMALL as WORLD
from star_bench.miniature.scenes import draw_row, sign_row

SEED = 3
PROMPTS = (SUITES_FOLDER / "ocr-miniature" / "prompts.txt").read_text().splitlines()


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _resize(content: bytes, rng: random.Random) -> bytes:
    with PIL.Image.open(io.BytesIO(content)) as image:
        smaller = image.resize((rng.randrange(8, image.width), rng.randrange(8, image.height)))
    return encode_png(np.asarray(smaller))


def _renamed(_: bytes, rng: random.Random) -> bytes:
    """Something else under a picture's name."""
    return rng.choice([b"%PDF-1.7\n%%EOF\n", b"{}\n", b"PK\x03\x04", b"<svg/>", rng.randbytes(500)])


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda content, rng: content[: rng.randrange(1, len(content))],
    "empty": lambda content, rng: b"",
    "bit-flipped": _flip,
    "of a wrong size": _resize,
    "no PNG under a PNG's name": _renamed,
}


def _score_rows(run: Path) -> dict[tuple[str, int], dict[str, object]]:
    lines = (json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines())
    return {(row["prompt_id"], row["k"]): row for row in lines}


def _drawn(folder: Path, pictures: int) -> list[Path]:
    """The suite's own prompts, drawn perfectly by code, in the flat layout of pictures made elsewhere."""
    folder.mkdir()
    each = -(-pictures // len(PROMPTS))
    prompts = PROMPTS[: -(-pictures // each)]
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    out = []
    for i in range(pictures):
        line, k = divmod(i, each)
        scene = draw_row(WORLD, np.random.default_rng(i), sign_row(target_of(prompts[line])))
        out.append(folder / f"{line:05d}_{k}.png")
        out[-1].write_bytes(encode_png(scene.image))
    return out


def _judged(folder: Path, pictures: int, name: str) -> tuple[int, str, dict[str, object], Path]:
    """Exit code, words, results and the run's folder of pictures made elsewhere."""
    each = -(-pictures // len(PROMPTS))
    limit = -(-pictures // each)
    words = ("--images", name, "--suite", "ocr-miniature", "--limit", str(limit), "--samples", str(each))
    done = call(folder, "run", *words, "--json")
    assert done.stdout, done.stderr
    return done.returncode, done.stderr, json.loads(done.stdout), next(folder.glob(f"runs/{name}/ocr-miniature/*"))


@pytest.mark.timeout(1200)
def test_damaged_pictures_of_a_run_are_made_again(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    each, rng = count(quick=1, full=20), random.Random(SEED)
    base, words = undisturbed[0], ()
    if FULL:
        base, words = tmp_path / "base", ("--limit", "50", "--steps", "2")
        base.mkdir()
        run_to_the_end(base, *words)
    folder = tmp_path / "damaged"
    shutil.copytree(base, folder)
    run = one_run(folder)
    chosen = rng.sample(sorted(pictures_in(folder).glob("images/*/*.png")), len(DAMAGE) * each)
    for kind, path in zip([kind for kind in DAMAGE for _ in range(each)], chosen, strict=True):
        path.write_bytes(DAMAGE[kind](path.read_bytes(), rng))
    (run / "scores.jsonl").unlink()  # as if it had been stopped between generating and scoring
    done = call(folder, "run", *SMALL, *words)
    told = re.search(r"(\d+) stored pictures are damaged or gone and are made again", done.stderr)
    found = int(told[1]) if told else 0
    wrong = [] if done.returncode == 0 else [done.stderr]
    samples = pictures_in(folder) / "samples.jsonl"
    lines = unnamed(samples).splitlines()  # the last of a picture's rows counts
    samples.write_text("\n".join(sorted(set(lines))) + "\n")
    wrong += differences(base, folder)
    publish(
        Row(
            area="pictures",
            fault="stored pictures truncated, empty, bit-flipped, of a wrong size, or no PNG",
            requirement="all found by their sha256 and made again to the same bytes, with a note; none is scored",
            tried=len(chosen),
            held=found if not wrong else 0,
            note=f"{each} of each kind",
        ),
        [f"seed {SEED}: {one}" for one in wrong],
    )


def _broken_model(folder: Path) -> None:
    """The miniature with one weight of its decoder not a number."""
    source = model_files.locate(checkpoints.resolve("miniature")).folder
    shutil.copytree(source, folder)
    path = next((folder / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.startswith("decoder.conv_out"))
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    save_file(tensors, path, metadata={"format": "pt"})


def _flat(rng: np.random.Generator) -> np.ndarray:
    return np.full((64, 64, 3), rng.integers(0, 256, 3, dtype=np.uint8))


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Of a random size; even or bell-shaped, in colour or grey."""
    shape = (*rng.integers(64, 200, 2), rng.choice([1, 3]))
    values = rng.normal(128, 60, shape) if rng.random() < 0.5 else rng.integers(0, 256, shape)
    return np.broadcast_to(np.clip(values, 0, 255).astype(np.uint8), (*shape[:2], 3)).copy()


@pytest.mark.timeout(1200)
def test_pictures_made_elsewhere_that_are_damaged_missing_or_show_nothing(tmp_path: Path) -> None:
    each, rng, numbers = count(quick=1, full=20), random.Random(SEED), np.random.default_rng(SEED)
    kinds = [kind for kind in DAMAGE if kind != "of a wrong size"]
    pictures = _drawn(tmp_path / "made", each * (len(kinds) + 4))
    # The last of a prompt's pictures are missing: of others, a later one would take the place.
    names = sorted(pictures, key=lambda path: path.stem.partition("_")[::2], reverse=True)
    gone, names = names[:each], names[each:]
    rng.shuffle(names)
    whole, flat, noise, damaged = names[:each], names[each : 2 * each], names[2 * each : 3 * each], names[3 * each :]
    for kind, path in zip([kind for kind in kinds for _ in range(each)], damaged, strict=True):
        path.write_bytes(DAMAGE[kind](path.read_bytes(), rng))
    for path in flat:
        path.write_bytes(encode_png(_flat(numbers)))
    for path in noise:
        path.write_bytes(encode_png(_noise(numbers)))
    for path in gone:
        path.unlink()
    code, said, results, run = _judged(tmp_path, len(pictures), "made")
    counts = results["counts"]
    assert isinstance(counts, dict)
    wrong = [] if code == Incomplete.exit_code else [f"exit code {code}"]
    wrong += [f"{row}" for row in _score_rows(run).values() if (row["value"] is None) == (row["status"] == "ok")]
    if results["aggregates"][0]["n_images"] != len(whole):  # type: ignore[index]
        wrong.append("a failure is in a mean")
    planned = counts["planned"]  # whole prompts, so that some may be more than were drawn
    missing = planned - len(pictures) + len(gone)
    sentence = f"only {len(whole)} of {planned} images have a score"
    if sentence not in said or f"{len(damaged)} corrupt" not in said or f"{missing} missing" not in said:
        wrong.append(f"it says {said.strip()[-300:]!r}")
    broken = tmp_path / "broken"
    _broken_model(broken)
    _, nan, _ = run_here(tmp_path / "nan", model=str(broken))
    wrong += (
        ["a run with NaN is called complete"] if nan["complete"] or nan["aggregates"][0]["value"] is not None else []
    )
    publish(
        Row(
            area="pictures",
            fault="NaN, constant and noise pictures",
            requirement="flagged degenerate, without a score, and the run is incomplete (exit 3)",
            tried=2 * each + nan["counts"]["planned"],
            held=counts["degenerate"] + nan["counts"]["degenerate"],
            note=f"{each} flat, {each} of noise, {nan['counts']['planned']} of a checkpoint with NaN in its decoder. "
            "Noise: no pixel is like its neighbours; noise in latents decodes to soft blobs and is judged like any "
            "picture",
        ),
        wrong,
    )
    publish(
        Row(
            area="pictures",
            fault="pictures made elsewhere truncated, empty, bit-flipped, or no PNG",
            requirement="counted as corrupt, none scored, exit 3",
            tried=len(damaged),
            held=counts["corrupt"],
            note=f"{each} of each kind; a PNG's checksums are checked, and JPEG and WebP have none. Any size is right "
            "there, since nothing says which was asked for",
        ),
        wrong,
    )
    publish(
        Row(
            area="pictures",
            fault="pictures missing",
            requirement="exit 3, and the denominators are printed",
            tried=missing,
            held=counts["missing"],
            note=f"printed: {sentence}",
        ),
        wrong,
    )


def test_no_true_picture_is_called_noise(undisturbed: tuple[Path, float]) -> None:
    y, x = np.mgrid[0:128, 0:128]
    drawn = {
        "a gradient": np.stack([x, y, x + y], axis=-1) % 256,
        "a soft gradient with grain": np.stack([x + y] * 3, axis=-1) / 2
        + np.random.default_rng(0).normal(0, 15, (128, 128, 3)),
        "a checkerboard of pixels": np.stack([(x + y) % 2 * 255] * 3, axis=-1),
        "stripes": np.stack([x // 2 % 2 * 255] * 3, axis=-1),
        "one dot": np.stack([(x == 5) & (y == 9)] * 3, axis=-1) * 255,
    }
    pictures = {name: np.clip(pixels, 0, 255).astype(np.uint8) for name, pixels in drawn.items()}
    shipped = [*SUITES_FOLDER.rglob("*.png"), *pictures_in(undisturbed[0]).glob("images/*/*.png")]
    pictures |= {str(path): np.asarray(PIL.Image.open(path).convert("RGB")) for path in shipped}
    assert len(shipped) > 8
    assert [name for name, pixels in pictures.items() if is_noise(pixels)] == []


def test_a_stored_picture_must_have_the_size_that_was_asked_for() -> None:
    content = encode_png(np.stack(np.mgrid[0:64, 0:32, 0:1][:2].sum(0)[..., 0:1].repeat(3, -1)).astype(np.uint8))
    assert check_picture(content, (64, 32)).shape == (64, 32, 3)
    with pytest.raises(UnusablePicture, match="64 x 32 pixels, not 64 x 64") as caught:
        check_picture(content, (64, 64))
    assert not caught.value.degenerate
