"""Pictures made elsewhere: which file is which image, in both layouts, by the rules of GenEval's own evaluator."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from star_bench.catalogue import suites
from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.runs.foreign import Found, content_of, find

PROMPTS = [Prompt("00000", "a photo of a car"), Prompt("00001", "a photo of a kite")]


def by_text(metadata: dict[str, Any], where: str) -> None:
    return None


def look(folder: Path, prompts: list[Prompt] = PROMPTS, samples: int = 2, **others: Any) -> Found:
    others = {"asked": by_text, "chosen": [prompt.id for prompt in prompts], **others}
    return find(folder, prompts, samples, **others)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def named(found: Found, folder: Path) -> dict[tuple[str, int], str]:
    return {key: path.relative_to(folder).as_posix() for key, path in found.files.items()}


def row(text: str) -> str:
    return json.dumps({"prompt": text})


CAR, KITE = (row(prompt.text) for prompt in PROMPTS)


def test_geneval_layout(tmp_path: Path) -> None:
    """Folders are matched by their prompt, not by their number."""
    files = {"00000/metadata.jsonl": KITE, "00001/metadata.jsonl": CAR}
    pictures = {f"0000{i}/samples/000{k}.png": "x" for i in range(2) for k in range(2)}
    found = look(write(tmp_path, files | pictures))
    assert named(found, tmp_path) == {
        ("00000", 0): "00001/samples/0000.png",
        ("00000", 1): "00001/samples/0001.png",
        ("00001", 0): "00000/samples/0000.png",
        ("00001", 1): "00000/samples/0001.png",
    }
    assert found.notices == ()


def test_k_is_the_number_in_the_name(tmp_path: Path) -> None:
    """10 is not the third though it is sorted so, and what is lost is not closed up."""
    names = {f"7/samples/{k}.png": "x" for k in (0, 1, 10, 11, 2)}
    found = look(write(tmp_path, {"7/metadata.jsonl": CAR, **names}), samples=4)
    assert named(found, tmp_path) == {("00000", k): f"7/samples/{k}.png" for k in (0, 1, 2, 10, 11)}
    assert [n.text for n in found.notices] == [
        "PICTURES NOT JUDGED: 2 of 5, as 4 of each prompt are planned"  # and --samples 12 would miss seven
    ]


def test_how_many_samples_judge_all_is_said(tmp_path: Path) -> None:
    """Also where another prompt has lost one."""
    write(tmp_path, {"0/metadata.jsonl": CAR, **{f"0/samples/{k}.png": "x" for k in range(4)}})
    write(tmp_path, {"1/metadata.jsonl": KITE, **{f"1/samples/{k}.png": "x" for k in (0, 1, 3)}})
    assert [n.text for n in look(tmp_path).notices] == [
        "PICTURES NOT JUDGED: 3 of 7, as 2 of each prompt are planned (--samples 4 judges all)"
    ]


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    others = ("0/grid.png", "0/samples/grid.png", "0/samples/._0.png", "0/samples/0_1.png", "0/samples/2.gif")
    others += ("old_1/samples/0.png", "\uff11/samples/0.png", "0_a/samples/0.png")
    write(tmp_path, {"0/metadata.jsonl": CAR, "old_1/metadata.jsonl": CAR, ".1/metadata.jsonl": CAR})
    found = look(write(tmp_path, {"0/samples/0.png": "x", "0/samples/1.JPG": "x", **dict.fromkeys(others, "x")}))
    assert set(found.files) == {("00000", 0), ("00000", 1)}
    (notice,) = found.notices
    assert notice.kind == "pictures_ignored"
    assert notice.text.startswith("PICTURES IGNORED: 8 whose name is no image's (0/grid.png, 0/samples/._0.png, ")


def test_a_folder_that_is_a_link_is_a_folder(tmp_path: Path) -> None:
    """And what is left over in it is counted, once."""
    write(tmp_path, {"there/metadata.jsonl": CAR, "there/samples/0.png": "x", "there/samples/grid.png": "x"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0").symlink_to(tmp_path / "there")
    found = look(tmp_path / "in")
    assert named(found, tmp_path / "in") == {("00000", 0): "0/samples/0.png"}
    assert [n.text for n in found.notices] == ["PICTURES IGNORED: 1 whose name is no image's (0/samples/grid.png)"]


def test_a_link_that_leads_nowhere_is_a_picture_that_can_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"0/metadata.jsonl": CAR, "0/samples/1.png": "x"})
    (tmp_path / "0" / "samples" / "0.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "0" / "samples" / "2.png").mkdir()
    found = look(tmp_path)
    assert set(found.files) == {("00000", 0), ("00000", 1)} and found.notices == ()
    assert content_of(found.files["00000", 0]) == b""


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"prompt": "a photo of a car", "tag": "x"}, indent=2),
        "\ufeff" + CAR + "\n",
        "\n" + row("a photo of a car  ") + "  \n\n",
    ],
)
def test_metadata_as_others_write_it(tmp_path: Path, content: str) -> None:
    write(tmp_path, {"0/metadata.jsonl": content, "0/samples/0.webp": "x"})
    assert set(look(tmp_path).files) == {("00000", 0)}


def test_flat_layout(tmp_path: Path) -> None:
    pictures = dict.fromkeys(("00000_0.png", "00000_1.png", "00001.png", "grid.png"), "x")
    found = look(write(tmp_path, {"prompts.txt": "a photo of a kite\na photo of a car\n", **pictures}))
    assert set(found.files) == {("00001", 0), ("00001", 1), ("00000", 0)}
    assert [n.text for n in found.notices] == ["PICTURES IGNORED: 1 whose name is no image's (grid.png)"]


def test_lines_are_told_apart_as_the_suites_are(tmp_path: Path) -> None:
    """A byte order mark, blanks at a line's end, and U+2028, which is no line's end."""
    prompts = [Prompt("00000", "a sign\u2028 that says A"), Prompt("00001", "a sign that says B")]
    lines = "\ufeffa sign\u2028 that says A \r\na sign that says B\r\n\r\n"
    write(tmp_path, {"0.png": "x", "1.png": "x"})
    (tmp_path / "prompts.txt").write_bytes(lines.encode())
    assert named(look(tmp_path, prompts), tmp_path) == {("00000", 0): "0.png", ("00001", 0): "1.png"}


def test_the_nth_line_of_a_text_is_its_nth_image(tmp_path: Path) -> None:
    """DrawBench's file has every prompt on five lines, and Flow-GRPO makes one picture per line."""
    write(tmp_path, {"prompts.txt": "a photo of a car\na photo of a kite\n" * 3, **{f"{i}.png": "x" for i in range(6)}})
    files = named(look(tmp_path, samples=3), tmp_path)
    assert files == {(f"0000{i % 2}", i // 2): f"{i}.png" for i in range(6)}
    (tmp_path / "2.png").unlink()  # a lost one is missing, and no other takes its place
    assert set(named(look(tmp_path, samples=3), tmp_path).items()) == set(files.items()) - {(("00000", 1), "2.png")}


def test_the_nth_line_of_a_text_is_the_nth_prompt_of_it(tmp_path: Path) -> None:
    prompts = [Prompt("00000", "a car"), Prompt("00001", "a car"), Prompt("00002", "a kite")]
    write(tmp_path, {"prompts.txt": "a car\na car\na kite\n", **{f"{i}.png": "x" for i in range(3)}})
    assert named(look(tmp_path, prompts), tmp_path) == {(f"0000{i}", 0): f"{i}.png" for i in range(3)}


@pytest.mark.parametrize("folders", [(2, 10), (0, 2), (3, 4), (2,)])
def test_of_prompts_that_are_alike_a_number_says_which(tmp_path: Path, folders: tuple[int, ...]) -> None:
    """Where these are the suite's own numbers; else they are in order: of the numbers, and not of the names."""
    prompts = [Prompt(f"{i:05d}", "a car" if i in (2, 10) else f"a kite {i}") for i in range(11)]
    for number in folders:
        write(tmp_path, {f"{number}/metadata.jsonl": row("a car"), f"{number}/samples/0.png": "x"})
    mine = (2, 10) if len(folders) == 2 else (2,)
    expected = {(f"{line:05d}", 0): f"{i}/samples/0.png" for line, i in zip(mine, folders, strict=True)}
    assert named(look(tmp_path, prompts), tmp_path) == expected


def test_the_folder_that_is_lost_is_the_one_that_is_missing(tmp_path: Path) -> None:
    prompts = [Prompt("00000", "a car"), Prompt("00001", "a car"), Prompt("00002", "a kite")]
    write(tmp_path, {"1/metadata.jsonl": row("a car"), "1/samples/0.png": "x"})
    assert named(look(tmp_path, prompts), tmp_path) == {("00001", 0): "1/samples/0.png"}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "neither"),
        ({"a/metadata.jsonl": CAR, "a/samples/0.png": "x"}, "neither"),
        ({"prompts.txt": "a photo of a dog\n", "0.png": "x"}, "has no prompt 'a photo of a dog'"),
        ({"prompts.txt": "a photo of a car\n"}, "no pictures"),
        ({"prompts.txt": "a photo of a car\n", "cat.png": "x"}, "no pictures"),
        ({"prompts.txt": "a photo of a car\n", "7.png": "x"}, "belongs to no line"),
        ({"prompts.txt": "a photo of a car\n\na photo of a kite\n", "0.png": "x", "1.png": "x"}, "belongs to no line"),
        ({"prompts.txt": "a photo of a car\n", "0.png": "x", "00000.png": "x"}, r"0\.png and .*00000\.png are both"),
        ({"prompts.txt": "a photo of a car\n", "0.png": "x", "0.jpg": "x"}, r"0\.jpg and .*0\.png are both image 0"),
        ({"prompts.txt": "a photo of a car\n", "0.png": "x", "0_0.png": "x"}, "are both image 0"),
        ({"prompts.txt": "a photo of a car\na photo of a kite\n", "1.png": "x"}, "numbered from 1"),
        ({"prompts.txt": "a photo of a car\n", "0_1.png": "x"}, "no prompt has an image 0"),
        ({"prompts.txt": "a photo of a car\n" * 2, "0_0.png": "x", "0_1.png": "x"}, "on 2 lines"),
        ({"0/metadata.jsonl": CAR, "00/metadata.jsonl": CAR, "0/samples/0.png": "x"}, "/0 and .*/00 are both"),
        ({"0/metadata.jsonl": CAR, "00/metadata.jsonl": KITE, "0/samples/0.png": "x"}, "/0 and .*/00 are both"),
        ({"0/metadata.jsonl": CAR, "1/metadata.jsonl": CAR, "0/samples/0.png": "x"}, "/0 and .*/1 are both of"),
        ({"0/metadata.jsonl": CAR, "0/0.png": "x"}, r"\(but 0/0\.png\): put them into .*NNNNN/samples as"),
        ({"0/metadata.jsonl": CAR, "0/samples/0.png": "x", "0/samples/00.PNG": "x"}, "are both image 0"),
        ({"0/metadata.jsonl": CAR, "0/samples/1.png": "x", "0/samples/2.png": "x"}, r"1\.png is image 1"),
        ({"0/metadata.jsonl": CAR, "1/samples/0.png": "x", "0/samples/0.png": "x"}, "/1 has no metadata.jsonl"),
        ({"0/metadata.jsonl": f"{CAR}\n{KITE}\n", "0/samples/0.png": "x"}, "holds 2 objects"),
        ({"0/metadata.jsonl": "{}", "0/samples/0.png": "x"}, "has no prompt"),
        ({"0/metadata.jsonl": "", "0/samples/0.png": "x"}, "is empty"),
    ],
)
def test_other_folders_are_explained(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        look(write(tmp_path, files))


# --- GenEval's metadata ---


@pytest.fixture
def geneval() -> GenEval:
    return GenEval(suites.load("geneval-miniature"))


def test_rewritten_prompts_are_matched_by_what_they_ask_for(geneval: GenEval, tmp_path: Path) -> None:
    prompts = geneval.prompts()
    for i, prompt in enumerate(reversed(prompts)):
        metadata = {**prompt.metadata, "prompt": f"In soft light, {prompt.text}.", "index": i}
        write(tmp_path, {f"{i}/metadata.jsonl": json.dumps(metadata), f"{i}/samples/0.png": "x"})
    found = look(tmp_path, prompts, asked=geneval.asked)
    last = len(prompts) - 1
    assert named(found, tmp_path) == {(p.id, 0): f"{last - i}/samples/0.png" for i, p in enumerate(prompts)}
    (notice,) = found.notices
    assert notice.kind == "prompts_rewritten" and notice.prompts == tuple(p.id for p in prompts)
    assert f"of {len(prompts)} of {len(prompts)} prompts were made with another text" in notice.text
    (notice,) = look(tmp_path, prompts, asked=geneval.asked, chosen=["00001", "00003"]).notices
    assert notice.prompts == ("00001", "00003") and "of 2 of 2 prompts" in notice.text


def test_two_wordings_of_one_scene_are_two_prompts(geneval: GenEval, tmp_path: Path) -> None:
    """A set of one's own may have them. Rewritten, the number of the folder tells them apart."""
    first = geneval.prompts()[0]
    prompts = [first, replace(first, id="00001", text="a picture of it")]
    for i in (0, 1):
        metadata = {**first.metadata, "prompt": f"words {i}"}
        write(tmp_path, {f"{i}/metadata.jsonl": json.dumps(metadata), f"{i}/samples/0.png": "x"})
    found = look(tmp_path, prompts, asked=geneval.asked)
    assert named(found, tmp_path) == {("00000", 0): "0/samples/0.png", ("00001", 0): "1/samples/0.png"}
    assert found.notices[0].prompts == ("00000", "00001")
    write(tmp_path, {"0/metadata.jsonl": json.dumps({**first.metadata, "prompt": "a picture of it"})})
    with pytest.raises(UsageError, match="are both image 0 of the prompt 'a picture of it'"):
        look(tmp_path, prompts, asked=geneval.asked)


def test_a_text_of_the_suite_that_asks_for_something_else_is_refused(geneval: GenEval, tmp_path: Path) -> None:
    """It was drawn for another rule than the one that it would be judged by."""
    prompts = geneval.prompts()
    counted = next(prompt for prompt in prompts if prompt.tag == "counting")
    without = {key: value for key, value in counted.metadata.items() if key != "exclude"}
    write(tmp_path, {"0/metadata.jsonl": json.dumps(without), "0/samples/0.png": "x"})
    with pytest.raises(UsageError, match="asks for something else"):
        look(tmp_path, prompts, asked=geneval.asked)
