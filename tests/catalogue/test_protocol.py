"""Protocols by name: what they say is what is drawn with, and what a published number is held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_bench.analysis.published import protocol_words
from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.protocol import GenerationSettings, differences, named, protocol_names, settings_of
from star_bench.errors import UsageError
from star_bench.runs.finished import PublishedEntry, Results
from star_bench.runs.run import named_settings


def test_the_shipped_ones() -> None:
    assert protocol_names() == ["model", "flow-grpo", "geneval-paper"]
    assert settings_of("model") == GenerationSettings()
    assert settings_of("flow-grpo").model_dump() == {
        "steps": 40,
        "guidance_scale": 4.5,
        "negative_prompt": "",
        "height": 512,
        "width": 512,
        "max_sequence_length": 128,
    }
    paper = settings_of("geneval-paper")
    assert (paper.steps, paper.guidance_scale, paper.height, paper.width) == (50, 9.0, None, None)


def test_sdxl_is_drawn_as_its_published_number_was() -> None:
    """GenEval's 0.55 is of 1024 px and 50 steps; the suite's card once made it 512 px and 40."""
    sdxl = checkpoints.resolve("sdxl")
    own = sdxl.generation
    assert (own.height, own.width, own.steps, own.guidance_scale) == (1024, 1024, 50, 9.0)
    (published,) = [each for each in suites.load("geneval").published if each.model == "sdxl"]
    stated = named(published.protocol)
    assert stated is not None and differences(stated.settings, own.model_dump()) == []


def test_of_sd35_the_models_own_is_flow_grpos() -> None:
    own = checkpoints.resolve("sd3.5-medium").generation
    assert own == settings_of("flow-grpo")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 8\nguidance_scale: 1.5\n")
    assert settings_of(str(path)) == GenerationSettings(steps=8, guidance_scale=1.5)
    path.write_text("step: 8\n")
    with pytest.raises(UsageError, match="steps"):
        settings_of(str(path))
    with pytest.raises(UsageError, match=r"there is no protocol named 'flowgrpo': .*flow-grpo"):
        settings_of("flowgrpo")


def test_the_text_length_is_the_checkpoints() -> None:
    """One that was trained with 16 tokens breaks at 128."""
    assert named_settings(settings_of("flow-grpo"), checkpoints.resolve("miniature")).max_sequence_length == 16


def test_a_suite_that_fixes_more_than_samples_is_told_where_it_goes(tmp_path: Path) -> None:
    text = (suites.SUITES_FOLDER / "ocr-miniature" / "card.yaml").read_text()
    (tmp_path / "card.yaml").write_text(text.replace("protocol: {samples: 2}", "protocol: {samples: 2, steps: 9}"))
    with pytest.raises(UsageError, match=r"a suite fixes samples only, and this one also steps: .* --protocol FILE"):
        suites.load(str(tmp_path))


@pytest.mark.parametrize(
    ("protocol", "measured", "words"),
    [
        ("flow-grpo", {"steps": 40, "guidance_scale": 4.5, "height": 512, "width": 512}, "; as here"),
        ("flow-grpo", {"steps": 10, "guidance_scale": 4.5}, "; DIFFERS: steps 40, here 10"),
        ("25 steps and a hat", {"steps": 25}, "25 steps and a hat"),
        ("not stated", {"steps": 25}, "not stated"),
        ("flow-grpo", None, "128 T5 tokens)"),
    ],
)
def test_a_published_number_says_how_the_run_differs(
    protocol: str, measured: dict[str, float] | None, words: str
) -> None:
    entry = PublishedEntry(model="m", value=0.5, source="s", protocol=protocol)
    results = Results.model_construct(protocol=measured)
    assert protocol_words(entry, results).endswith(words)
