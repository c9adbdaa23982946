"""What is on disk after things go wrong."""

from pathlib import Path

import numpy as np
import pytest

from star_bench.files.atomic import DiskError, write_atomically
from star_bench.files.pictures import decode_image, encode_png
from star_bench.runs.pictures import PictureStore
from star_bench.runs.scores import ScoreStore

ROW = {"prompt_id": "00000", "k": 0, "status": "ok"}


def test_newest_row_of_an_image_counts(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.add([{**ROW, "value": 0.0}])
    store.add([{**ROW, "value": 1.0}])
    assert ScoreStore(tmp_path).rows["00000", 0]["value"] == 1.0


def test_pictures_survive_exactly_and_changed_bytes_are_noticed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    store = PictureStore(tmp_path)
    row = store.save_image(("00000", 1), encode_png(pixels))
    content = store.read_image(row)
    assert content is not None and np.array_equal(decode_image(content), pixels)
    path = tmp_path / row["path"]
    path.write_bytes(path.read_bytes()[:-3])
    assert store.read_image(row) is None


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no picture"])
def test_broken_pictures_are_value_errors(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable picture"):
        decode_image(content)


def test_a_failed_write_leaves_the_old_file_and_names_the_path(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "keep").write_text("x")  # a folder that is not empty can't be replaced by a file
    with pytest.raises(DiskError, match=r"folder could not be written"):
        write_atomically(target, b"new")
    assert (target / "keep").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]
