"""Allocation maps of a run's own pictures: of exactly these pictures, kept beside them, shown in the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from chromium import Tab
from stores import copy_of

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.errors import Refused, UsageError
from star_bench.reporting.masks.steps import read_step_maps, read_strip
from star_bench.reporting.progress import RichProgress
from star_bench.reporting.write import write_report
from star_bench.runs import run as runner
from star_bench.runs.finished import RunFiles, read_run
from star_bench.runs.manifest import read_manifest
from star_bench.training.masks import Loaded
from star_bench.training.recipe import AllocationSettings
from star_bench.training.run_maps import draw_run, load_run

STEPS = 4
STAR = AllocationSettings(kind="star", blocks=(0, 4), tokens="clip", smoothing=0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three prompts with two pictures each."""
    options = runner.Options(
        model="miniature",
        suites=("geneval-miniature",),
        limit=3,
        runs=tmp_path_factory.mktemp("made"),
        settings=GenerationSettings(steps=STEPS),
    )
    prepared = runner.prepare(options)
    with RichProgress() as bar:
        runner.run(prepared, options, bar)
    return prepared.parts[0].folder


@pytest.fixture(scope="module")
def loaded(made: Path) -> Loaded:
    return load_run(read_manifest(made), device="cpu")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, without maps."""
    return copy_of(made, tmp_path)


def draw(run: RunFiles, loaded: Loaded, allocation: AllocationSettings = STAR, *, batch_size: int = 4) -> int:
    with RichProgress() as bar:
        return draw_run(run, loaded, allocation, images=run.images, batch_size=batch_size, bar=bar)


def strips(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("masks/*/*.png"))}


def test_every_picture_has_a_map_for_each_step_whatever_the_batch(folder: Path, loaded: Loaded) -> None:
    before = (folder / "results.json").read_bytes()
    run = read_run(folder)
    assert draw(run, loaded) == 6
    first = strips(folder)
    maps = read_step_maps(run)
    assert maps is not None and len(maps.settings.sigmas) == STEPS
    for image in run.images:
        strip = read_strip(run, maps, (image.prompt.id, image.k))
        assert strip is not None and strip.words
        pixels = np.asarray(PIL.Image.open(folder / maps.rows[image.prompt.id, image.k].path).convert("L"))
        assert pixels.shape == (STEPS * strip.height, strip.width)
        # The map changes from step to step, and within a step.
        tiles = pixels.reshape(STEPS, strip.height, strip.width).astype(float)
        assert (tiles.std((1, 2)) > 1).all() and np.abs(np.diff(tiles, axis=0)).max() > 8
    shutil.rmtree(folder / "masks")
    (folder / "masks.jsonl").unlink()
    assert draw(read_run(folder), loaded, batch_size=1) == 6
    again = {name: np.asarray(PIL.Image.open(folder / name), int) for name in first}
    assert all(np.abs(levels - np.asarray(PIL.Image.open(folder / name))).max() <= 1 for name, levels in again.items())
    assert (folder / "results.json").read_bytes() == before


def test_drawing_goes_on_where_it_was_stopped_and_begins_anew_for_other_settings(folder: Path, loaded: Loaded) -> None:
    draw(read_run(folder), loaded)
    rows = folder / "masks.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:2]) + lines[2][:20])  # killed while the third row was written
    kept, lost = (folder / json.loads(lines[n])["path"] for n in (0, 3))
    touched = kept.stat().st_mtime_ns, lost.stat().st_mtime_ns
    assert draw(read_run(folder), loaded) == 6
    assert kept.stat().st_mtime_ns == touched[0] and lost.stat().st_mtime_ns > touched[1]
    before = strips(folder)
    assert draw(read_run(folder), loaded, STAR.model_copy(update={"blocks": (1,)})) == 6
    assert all(before[name] != content for name, content in strips(folder).items())


def test_pictures_that_come_out_otherwise_get_no_maps(folder: Path, loaded: Loaded) -> None:
    run = read_run(folder)
    first, last = (run.images[n].sample for n in (0, -1))
    assert first and first.path and last and last.path
    shutil.copy(run.pictures / last.path, run.pictures / first.path)
    with pytest.raises(Refused, match="comes out as another picture"):
        draw(run, loaded)


def test_other_weights_and_maps_that_need_more_than_attention_are_refused(folder: Path, loaded: Loaded) -> None:
    with pytest.raises(Refused, match="content digest"):
        load_run(read_manifest(folder), model="miniature-signs", device="cpu")
    with pytest.raises(UsageError, match="oracle"):
        draw(read_run(folder), loaded, STAR.model_copy(update={"kind": "oracle"}))
    with pytest.raises(UsageError, match="no block 77"):
        draw(read_run(folder), loaded, STAR.model_copy(update={"blocks": (77,)}))


def test_a_model_that_has_no_name_is_found_where_the_run_had_it(tmp_path: Path) -> None:
    place = Path(shutil.copytree(MINIATURE_FOLDER / "pipeline", tmp_path / "mine"))
    options = runner.Options(
        model=str(place),
        suites=("geneval-miniature",),
        limit=1,
        runs=tmp_path / "runs",
        settings=GenerationSettings(steps=2),
    )
    prepared = runner.prepare(options)
    with RichProgress() as bar:
        runner.run(prepared, options, bar)
    assert load_run(read_manifest(prepared.parts[0].folder), device="cpu").checkpoint.name == "mine"


def test_the_viewer_shows_a_pictures_maps_by_step(folder: Path, loaded: Loaded, tab: Tab) -> None:
    run = read_run(folder)
    draw(run, loaded)
    index = write_report(folder, folder / "report")
    tab.open(index)
    tab.click(".card .picture")
    seen = "getComputedStyle(document.querySelector('.film')).display !== 'none'"
    step = "document.querySelector('.film .step').textContent"
    assert not tab.js(seen)
    tab.press("s")
    assert tab.js(seen) and tab.js(step).startswith(f"Step 1 of {STEPS}, sigma 1.000 · words: ")
    tab.press("]", "]")
    assert tab.js(step).startswith("Step 3 of")
    tab.click(".frames button:nth-child(2)")
    assert tab.js(step).startswith("Step 2 of")
    assert tab.js("document.querySelector('.map svg').getAttribute('viewBox')") == "0 64 64 64"
    tab.press("ArrowRight")  # the next picture, at the same step
    assert tab.js(step).startswith("Step 2 of")
    tab.press("s")
    assert not tab.js(seen)
    assert tab.errors == [] and all(address.startswith(index.parent.as_uri()) for address in tab.requests)


def test_a_run_without_maps_has_no_switch_for_them(folder: Path, tab: Tab) -> None:
    tab.open(write_report(folder, folder / "report"))
    tab.click(".card .picture")
    assert tab.js("document.querySelector('[name=maps], .film, #maps')") is None and tab.errors == []
