"""Shards make together what a run in one piece makes, byte for byte; and nothing less passes for it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.runs.finished import pictures_folder
from star_bench.runs.mirror import Mirror
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run
from star_bench.runs.shards import Shard, merge

SAME = {"prompts.jsonl", "scores.jsonl", "values.jsonl", "results.json"}


def made(runs: Path, shard: Shard | None = None, batch_size: int = 2) -> Path:
    """The run's directory. 10 pictures: five batches of two."""
    options = Options(
        suites=("ocr-miniature",),
        model="miniature",
        limit=5,
        batch_size=batch_size,
        device="cpu",
        runs=runs,
        shard=shard,
        settings=GenerationSettings(steps=2),
    )
    prepared = prepare(options)
    run(prepared, options, Silent())
    return prepared.parts[0].folder.parents[1] if shard else prepared.parts[0].folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("three")
    for number in (3, 1, 2):
        folder = made(runs, Shard(number, 3))
    return folder


@pytest.fixture
def shards(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three.parents[1], tmp_path / "model")) / three.relative_to(three.parents[1])


SESSION = re.compile(rb', "session": (\d+)\}')


def contents(folder: Path) -> dict[str, bytes]:
    """All but which session made a row."""
    pictures = pictures_folder(folder)
    paths = [*(folder / name for name in SAME), pictures / "samples.jsonl", *pictures.glob("images/*/*")]
    return {path.relative_to(folder.parents[1]).as_posix(): SESSION.sub(b"}", path.read_bytes()) for path in paths}


def test_three_shards_make_the_run_byte_for_byte(shards: Path, whole: Path) -> None:
    results = merge(shards, Silent())
    assert results["complete"] and len(contents(whole)) == 5 + 10
    assert contents(shards) == contents(whole)
    for place, name in ((pictures_folder(shards), "samples"), (shards, "scores")):
        mine = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
        sessions = json.loads((place / "manifest.json").read_text())["sessions"]
        for row in mine:
            (part,) = [
                path.parent.name
                for path in place.glob(f"shards/*/{name}.jsonl")
                if any(
                    (other["prompt_id"], other["k"]) == (row["prompt_id"], row["k"])
                    for other in map(json.loads, path.read_text().splitlines())
                )
            ]
            assert sessions[row["session"]]["shard"] == part
            assert sessions[row["session"]]["environment"]["packages"]
    manifest = json.loads((shards / "manifest.json").read_text())
    assert sorted(session["shard"] for session in manifest["sessions"]) == ["1-of-3", "2-of-3", "3-of-3"]
    assert merge(shards, Silent()) == results, "merging again changes nothing"
    assert contents(shards) == contents(whole)


def test_more_shards_than_batches(tmp_path: Path, whole: Path) -> None:
    for number in range(1, 8):
        folder = made(tmp_path, Shard(number, 7))
    merge(folder, Silent())
    assert contents(folder) == contents(whole)


def test_a_missing_shard_is_named_and_nothing_is_written(shards: Path) -> None:
    shutil.rmtree(shards / "shards" / "2-of-3")
    with pytest.raises(Incomplete, match=r"1 of 3 shards with batches of 2 are not finished \(2/3\)"):
        merge(shards, Silent())
    assert not (shards / "results.json").exists()


def test_an_unfinished_shard_counts_as_missing(shards: Path) -> None:
    path = shards / "shards" / "1-of-3" / "shard.json"
    path.write_text(path.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(Incomplete, match=r"\(1/3\)"):
        merge(shards, Silent())


def test_a_damaged_picture_is_refused_and_its_shard_mends_it(three: Path, whole: Path) -> None:
    picture = next(three.parents[1].glob("pictures/*/shards/2-of-3/images/*/*.png"))
    picture.write_bytes(picture.read_bytes()[:-9])
    with pytest.raises(Incomplete, match="is damaged or gone"):
        merge(three, Silent())
    made(three.parents[2], Shard(2, 3))
    merge(three, Silent())
    assert contents(three) == contents(whole)


def test_a_shard_that_was_begun_with_other_batches_is_refused(three: Path) -> None:
    with pytest.raises(UsageError, match="begun with --batch-size 2, and batches of 4 are cut elsewhere"):
        made(three.parents[2], Shard(1, 3), batch_size=4)


def test_a_shard_of_another_plan_is_refused(shards: Path) -> None:
    path = shards / "shards" / "2-of-3" / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(Refused, match="this one was changed"):
        merge(shards, Silent())


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", ""])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="is no shard"):
        Shard.parse(text)


def test_shards_at_an_address_are_merged_on_another_machine(three: Path, whole: Path, tmp_path: Path) -> None:
    """Each machine pushes its own shard; another one pulls them all."""
    mirror = Mirror(f"file://{tmp_path}/store")
    (pictures,) = three.parents[1].glob("pictures/*")
    names = {"/".join(("runs", *each.parts[-3:])): each for each in (three, pictures)}
    for name, folder in names.items():
        for shard in sorted((folder / "shards").iterdir()):
            mirror.push(f"{name}/shards/{shard.name}", shard, Silent())
    assert mirror.runs() == sorted(names)
    for name in names:
        mirror.pull(name, tmp_path / name, Silent())
    here = tmp_path / "runs" / three.relative_to(three.parents[2])
    merge(here, Silent())
    assert contents(here) == contents(whole)
