"""Files of others: the same objects and lines, however they were written; and what is broken, by its place."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from star_bench.assets.prompt_files import lines_of
from star_bench.errors import UsageError
from star_bench.evaluators.geneval.metadata import prompt_rows
from star_bench.evaluators.geneval.official_results import read_results
from star_bench.evaluators.geneval.prompts import counting_row, row
from star_bench.evaluators.ocr.rescore import rescore
from star_bench.files.json import read_config, read_json, read_object, read_objects

ROWS: list[dict[str, Any]] = [{"a": 1, "b": ["x"]}, {"a": 2, "b": ["é\u2028\x85"]}, {"a": 3, "b": []}]
LINES = [json.dumps(each, ensure_ascii=False) for each in ROWS]
INDENTED = [json.dumps(each, indent=2) for each in ROWS]

FORMS = {
    "lines": "\n".join(LINES),
    "a mark at the beginning": "\ufeff" + "\n".join(LINES) + "\n",
    "files that were joined": "\ufeff" + "\n\ufeff".join(LINES),
    "blank lines": "\n \n" + "\n\n \t\n".join(LINES) + "\n\n",
    "other blanks between": "\x0c" + "\n\u2028\n\x85".join(LINES),
    "trailing spaces": "".join(line + " \t\n" for line in LINES),
    "line ends of Windows": "\r\n".join(LINES) + "\r\n",
    "line ends of old": "\r".join(LINES),
    "indented": "\n".join(INDENTED),
    "indented, with blank lines and returns": "\r\n\r\n".join(text.replace("\n", "\r\n") for text in INDENTED),
    "an array": json.dumps(ROWS),
    "an indented array": "\ufeff\n" + json.dumps(ROWS, indent=4, ensure_ascii=False) + "\n\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_objects_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(FORMS[form].encode())
    found = read_objects(path, "write some")
    assert [each.value for each in found] == ROWS == [json.loads(each.text) for each in found]
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1
    for each in found:  # the place that a message would name
        if "array" not in form:
            assert FORMS[form].replace("\r\n", "\n").replace("\r", "\n").split("\n")[each.number - 1].count("{") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty: write some"),
        ("\ufeff \n", "is empty"),
        ("[]", "is empty"),
        ('{"a": 1}\n\n{"a": ', r"line 3: invalid JSON \(Expecting value"),
        ('{"a": 1}\n{"a": "b\n', r"line 2: invalid JSON"),
        ('{"a": 1}\n{"a": 1,\n"b" 2}', r"line 2: invalid JSON \(Expecting ':' delimiter at line 3 column 5"),
        ('{"a": 1} {"a": 2}', "line 1: something follows"),
        ('{"a": 1},\n{"a": 2}', "line 1: something follows"),
        ('{"a": NaN}', r"line 1: invalid JSON \(NaN is no number"),
        ('{"a": 1e999}', r"line 1: invalid JSON \(1e999 is too large"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "line 1: invalid JSON .*nested too deeply"),
        ('{"a": ' + "[" * 100_000, "line 1: invalid JSON .*nested too deeply"),
        ('{"a": 1}\n[1]', "line 2: it is no JSON object"),
        ("\n7", "line 2: it is no JSON object"),
        ('[{"a": 1}, 2]', "item 2: it is no JSON object"),
        ('[{"a": 1}', "is invalid JSON"),
        ("no JSON", "line 1: invalid JSON"),
    ],
)
def test_what_is_broken_is_told_with_its_place(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.encode())
    with pytest.raises(UsageError, match=says) as caught:
        read_objects(path, "write some")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


def test_lines_are_those_that_line_ends_end(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(
        '\ufeffa "OPEN\u2028LATE" sign  \r\n\ufeffone\x0ctwo\x85three\u2029\r\t four\n\n \u3000\n'.encode()
    )
    assert lines_of(path) == ['a "OPEN\u2028LATE" sign', "one\x0ctwo\x85three", "four"]


def test_every_reader_of_objects_takes_every_form(tmp_path: Path) -> None:
    """Metadata, result files and readings, all indented behind a byte order mark, and as an array."""
    path = tmp_path / "any"
    scenes = [counting_row("cup", 2), row("colors", [{"class": "car", "count": 1, "color": "red"}])]
    results = [
        {"filename": f"{i}.png", "tag": each["tag"], "prompt": each["prompt"], "correct": True, "reason": ""}
        | {"metadata": json.dumps(each, indent=1), "details": "{}"}
        for i, each in enumerate(scenes)
    ]
    readings = [{"prompt": 'a "CAT"', "read": ["CAT"]}, {"prompt": 'a "DOG"', "read": []}]

    def forms(rows: list[dict[str, Any]]) -> list[str]:
        return ["\ufeff" + "\r\n\r\n".join(json.dumps(each, indent=2) for each in rows), json.dumps(rows)]

    for form in range(2):
        path.write_text(forms(scenes)[form], encoding="utf-8")
        assert [written for _, _, written in prompt_rows(path)] == scenes
        path.write_text(forms(results)[form], encoding="utf-8")
        assert [each.metadata for each in read_results(path)] == scenes
        path.write_text(forms(readings)[form], encoding="utf-8")
        assert rescore(path)["accuracy"] == 0.5


def test_only_a_models_library_may_write_infinities(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({"low": -math.inf, "nan": math.nan, "steps": 1}))
    assert read_config(path)["low"] == -math.inf and math.isnan(read_config(path)["nan"])
    with pytest.raises(
        UsageError, match=r"scheduler_config\.json can't be read \(-Infinity is no number in JSON\): delete it"
    ):
        read_object(path)
    for content, says in (
        ("[1]", "holds no JSON object"),
        ("{", "can't be read"),
        ('{"a":' * 99 + "1" + "}" * 99, "deep"),
    ):
        path.write_text(content)
        with pytest.raises(UsageError, match=says):
            read_config(path)
    with pytest.raises(UsageError, match="is not there"):
        read_config(tmp_path / "none.json")


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Python takes as much as is asked for, and the bound of a file is 256 MiB."""
    path = tmp_path / "small.json"
    path.write_text("{}")
    tracemalloc.start()
    try:
        assert read_json(path) == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
