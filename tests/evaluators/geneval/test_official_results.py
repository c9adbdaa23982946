"""The official result file: what is written comes back, and what is broken is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.errors import UsageError
from star_bench.evaluators.geneval.official_results import read_results, to_line
from star_bench.evaluators.geneval.prompts import counting_row, official

METADATA = counting_row("dog", 2)
DETAILS = {"dog": [[1.5, 2.0, 30.25, 40.0, 0.9900000095367432], [3.0, 4.0, 5.0, 6.0, 0.25]], "hot dog": []}


def columns(**changes: Any) -> dict[str, Any]:
    """One line as the official evaluator means it."""
    return {
        "filename": "images/00180/samples/0000.png",
        "tag": "counting",
        "prompt": METADATA["prompt"],
        "correct": False,
        "reason": "expected dog>=2, found 0\nexpected dog<3, found 4",
        "metadata": json.dumps(METADATA),
        "details": json.dumps(DETAILS),
        **changes,
    }


def written(folder: Path, *lines: str) -> Path:
    path = folder / "results.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_row_is_read(tmp_path: Path) -> None:
    # As pandas writes it: no spaces, and slashes escaped.
    line = json.dumps(columns(), separators=(",", ":")).replace("/", "\\/")
    (row,) = read_results(written(tmp_path, line))
    assert row.filename == "images/00180/samples/0000.png"
    assert (row.tag, row.prompt, row.correct) == ("counting", "a photo of two dogs", False)
    assert row.reason == "expected dog>=2, found 0\nexpected dog<3, found 4"
    assert row.metadata == METADATA
    assert list(row.details) == ["dog", "hot dog"]
    first, second = row.details["dog"]
    assert (first.name, first.score, second.score) == ("dog", 0.9900000095367432, 0.25)
    assert first.box.dtype == np.float32
    assert first.box.tolist() == [1.5, 2.0, 30.25, 40.0]


def test_a_line_is_written_in_the_official_columns(tmp_path: Path) -> None:
    extra = {"pixels": 512}
    (row,) = read_results(written(tmp_path, json.dumps({**extra, **columns()})))
    line = to_line(row)
    assert "\n" not in line
    assert list(json.loads(line).items()) == list(columns().items())


def test_rows_keep_their_order_and_a_last_line_end_is_optional(tmp_path: Path) -> None:
    lines = [json.dumps(columns(filename=name)) for name in ("b.png", "a.png")]
    path = written(tmp_path, *lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip().replace(b"\n", b"\r\n"))
    assert [row.filename for row in read_results(path)] == ["b.png", "a.png"]


singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
details = st.dictionaries(st.text(), st.lists(st.lists(singles, min_size=5, max_size=5), max_size=3), max_size=3)


@given(found=details, metadata=st.sampled_from(official()), reason=st.text())
def test_metadata_and_details_survive(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, Any], metadata: dict[str, Any], reason: str
) -> None:
    line = columns(
        tag=metadata["tag"],
        prompt=metadata["prompt"],
        reason=reason,
        metadata=json.dumps(metadata),
        details=json.dumps(found),
    )
    (row,) = read_results(written(tmp_path_factory.mktemp("results"), json.dumps(line)))
    assert json.loads(to_line(row)) == line  # the inner JSON even as text: also a float's sign of zero, and the order


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"correct": 1}, "correct: 1 is neither true nor false"),
        ({"correct": "true"}, "correct: 'true' is neither true nor false"),
        ({"reason": None}, "reason: nothing is no text"),
        (
            {"metadata": METADATA},
            "metadata: {'tag': 'counting', 'include': [{'class': 'dog', 'count':... is no text: mend",
        ),
        (
            {"details": DETAILS},
            "details: {'dog': [[1.5, 2.0, 30.25, 40.0, 0.9900000095367432], [3.... is no text: mend",
        ),
        ({"tag": "position"}, "tag and prompt are not its metadata's"),
        ({"prompt": "a dog"}, "tag and prompt are not its metadata's"),
        ({"metadata": "{"}, "metadata: invalid JSON"),
        ({"metadata": "[]"}, "metadata: "),
        ({"metadata": json.dumps({**METADATA, "include": {}})}, "metadata: include: "),
        ({"metadata": json.dumps({**METADATA, "include": [{"class": "dog"}]})}, "metadata: include.0.count: "),
        ({"metadata": json.dumps({**METADATA, "exclude": [{"class": "dog", "count": 0}]})}, "metadata: exclude.0.c"),
        (
            {"metadata": json.dumps({**METADATA, "include": [{"class": "dog", "count": 1, "position": ["above", 0]}]})},
            "metadata: include.0.position must refer to an earlier clause",
        ),
        ({"details": '{"dog": [['}, "details: invalid JSON: EOF while parsing a list at column 10: mend"),
        ({"details": "[]"}, "details: "),
        ({"details": '{"dog": [[1, 2, 3, 4]]}'}, "details: dog.0"),
        ({"details": '{"dog": [[1, 2, 3, 4, 0.5], [1, 2, 3, 4, 0.5, 0]]}'}, "details: dog.1"),
        ({"details": '{"dog": [[1, 2, 3, "4", 0.5]]}'}, "details: dog.0.3"),
        ({"details": '{"dog": [[1, 2, 3, true, 0.5]]}'}, "details: dog.0.3"),
        ({"details": '{"dog": [[1, NaN, 3, 4, 0.5]]}'}, "details: dog.0.1"),
        ({"details": '{"dog": [[1, 2, Infinity, 4, 0.5]]}'}, "details: dog.0.2"),
        ({"details": '{"dog": [[1, 2, 1e39, 4, 0.5]]}'}, "details: dog.0.2"),
        ({"details": '{"dog": [[1, 2, 3, 4, 1e999]]}'}, "details: dog.0.4"),
    ],
)
def test_a_broken_column_is_named_with_its_line(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    path = written(tmp_path, json.dumps(columns()), json.dumps(columns(**changes)))
    with pytest.raises(UsageError) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}, line 2: {problem}")


@pytest.mark.parametrize("name", list(columns()))
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    row = columns()
    del row[name]
    with pytest.raises(UsageError, match=f"line 1: {name}: it is missing"):
        read_results(written(tmp_path, json.dumps(row)))


@pytest.mark.parametrize("line", ['{"filename": "a', "[1]", "no JSON", "{} {}"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"results\.jsonl, line 2: "):
        read_results(written(tmp_path, json.dumps(columns()), line, json.dumps(columns())))


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"results\.jsonl is empty"):
        read_results(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "results.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(UsageError, match=f"{path.name} can't be read"):
            read_results(path)
