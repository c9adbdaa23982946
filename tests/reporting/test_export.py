"""A run in other people's formats: what their schemas ask for is there, and nothing that no run knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries

from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.reporting.export.eval_results import eval_results_yaml
from star_bench.reporting.export.every_eval_ever import Evaluated, Relationship, every_eval_ever, every_eval_ever_json
from star_bench.reporting.export.model_card import model_card
from star_bench.runs.finished import Results, parse_results, read_results
from star_bench.runs.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from conftest import Run

Made = Callable[..., Path]
VALUES = np.linspace(0.3, 0.6, 12).reshape(6, 2)
SAID = Evaluated("Example Lab", Relationship.THIRD_PARTY, "example/model")


def read(folder: Path) -> tuple[Results, Manifest]:
    return read_results(folder), read_manifest(folder)


def entry(text: str) -> EvalResultEntry:
    """What huggingface_hub reads of an .eval_results file."""
    (found,) = parse_eval_result_entries(yaml.safe_load(text))
    return found


def test_the_hub_reads_the_headline_with_what_it_is(made: Made) -> None:
    results, manifest = read(made(VALUES))
    text = eval_results_yaml(results, manifest, dataset="org/bench", task="default", source_url="https://example.org/r")
    found = entry(text)
    assert (found.dataset_id, found.task_id) == ("org/bench", "default")
    assert found.value == results.aggregates[0].value
    assert found.source_url == "https://example.org/r" and found.verify_token is None
    assert found.date is not None and found.date.startswith("20")
    assert found.notes is not None
    for said in (results.metric.identity, results.interval, "12 images of 6 prompts", results.digest, "steps 14"):
        assert said in found.notes


def test_a_leaderboard_gets_no_part_of_a_suite(made: Made, run: Run) -> None:
    results, manifest = read(made(VALUES))
    subset = results.model_copy(
        update={"subset": parse_results({**run.results, "subset": {"limit": 6, "of": 60}}).subset}
    )
    with pytest.raises(Refused, match=r"SUBSET \(6 of 60 prompts\)"):
        eval_results_yaml(subset, manifest, dataset="org/bench", task="default")
    with pytest.raises(Incomplete, match="14 of 18 images have a score"):
        eval_results_yaml(parse_results(run.results), manifest, dataset="org/bench", task="default")


def test_a_model_card_that_the_hub_reads(made: Made) -> None:
    results, _ = read(made(VALUES, tags=2))
    card = ModelCard(model_card(results))
    (found,) = card.data.eval_results
    assert (found.task_type, found.dataset_type) == ("text-to-image", results.suite)
    assert found.metric_value == results.aggregates[0].value
    assert found.metric_args["identity"] == results.metric.identity
    assert found.metric_args["low"] == results.aggregates[0].low and found.metric_args["interval"] == results.interval
    assert found.dataset_args["digest"] == results.digest and found.dataset_args["protocol"] == results.protocol


def test_the_section_is_for_people(made: Made, run: Run) -> None:
    run.results["model"]["name"] = "<script>alert(1)</script>"
    text = ModelCard(model_card(parse_results(run.results))).text
    assert "## " in text and "\n# " not in text, "a section of a card, below its title"
    assert "INCOMPLETE: 14 of 18" in text and "0.7123" in text and "0123456789abcdef" in text
    assert "<script>" not in text
    assert "FLUX.1 Dev" not in text, "other people's models have their own cards"


def test_metadata_of_a_run_that_is_not_whole_says_so_beside_the_number(run: Run) -> None:
    found = ModelCard(model_card(parse_results(run.results))).data.eval_results
    assert all("INCOMPLETE" in each.metric_name for each in found)


# Facts of Every Eval Ever's eval.schema.json, version 0.3.0.
REQUIRED = {
    *("schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata"),
    *("model_info", "eval_library", "evaluation_results"),
}
KNOWN = REQUIRED | {"evaluation_timestamp", "detailed_evaluation_results"}  # additionalProperties: false
OF_SOURCE = {"source_type", "source_organization_name", "evaluator_relationship"}
OF_RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}


def check_schema(record: dict[str, Any]) -> None:
    """Every rule of the schema that a record of ours can break."""
    assert record.keys() >= REQUIRED and record.keys() <= KNOWN
    assert record["schema_version"] == "0.3.0" and record["retrieved_timestamp"].isdigit()
    assert record["source_metadata"].keys() >= OF_SOURCE
    assert record["source_metadata"]["source_type"] in ("documentation", "evaluation_run")
    assert record["source_metadata"]["evaluator_relationship"] in (
        "first_party",
        "third_party",
        "collaborative",
        "other",
    )
    assert record["model_info"].keys() >= {"name", "id"} and record["eval_library"].keys() >= {"name", "version"}
    for result in record["evaluation_results"]:
        assert result.keys() >= OF_RESULT
        config, score = result["metric_config"], result["score_details"]
        assert isinstance(config["lower_is_better"], bool)
        if config.get("score_type") == "continuous":
            assert config["min_score"] <= score["score"] <= config["max_score"]
        else:
            assert "score_type" not in config, "the other two kinds have rules of their own"
        assert isinstance(score["score"], float)
        if "uncertainty" in score:
            interval = score["uncertainty"]["confidence_interval"]
            assert interval["lower"] <= interval["upper"] and 0 <= interval["confidence_level"] <= 1
        source = result["source_data"]
        assert "dataset_name" in source and source["source_type"] in ("url", "hf_dataset", "other")
        assert (source["source_type"] == "url") == ("url" in source)
        assert "generation_args" not in result["generation_config"], "all of them are of language models"
    details = [value for key, value in walk(record) if key in ("additional_details", "details")]
    assert details and all(isinstance(v, str) for each in details for v in each.values())


def walk(data: Any) -> list[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(data, list):
        return [found for each in data for found in walk(each)]
    if isinstance(data, dict):
        return [(k, v) for k, v in data.items()] + [found for each in data.values() for found in walk(each)]
    return []


@pytest.mark.parametrize("kind", ["reward", "panel", "tagged"])
def test_a_record_of_every_eval_ever(made: Made, kinds: dict[str, Any], kind: str) -> None:
    results, manifest = read(made(VALUES, kind=kinds[kind], tags=2))
    record = every_eval_ever(results, manifest, SAID)
    check_schema(record)
    first = record["evaluation_results"][0]
    assert first["score_details"]["score"] == results.aggregates[0].value
    assert first["score_details"]["uncertainty"]["confidence_interval"]["method"] == results.interval
    assert record["model_info"]["id"] == "example/model"
    assert record["source_metadata"]["additional_details"]["run digest"] == results.digest
    names = {result["evaluation_name"] for result in record["evaluation_results"]}
    assert {f"{results.suite}.tag 0", f"{results.suite}.tag 1"} <= names


def test_what_is_better_neither_way_is_left_out_and_named(made: Made, kinds: dict[str, Any]) -> None:
    record = every_eval_ever(*read(made(VALUES, kind=kinds["panel"])), SAID)
    measures = {result["metric_config"]["metric_id"] for result in record["evaluation_results"]}
    assert measures == {"panel.Glow", "panel.image_mean"}
    assert set(json.loads(record["source_metadata"]["additional_details"]["left out"])) == {"Contrast", "Spread"}
    assert "score_type" not in record["evaluation_results"][0]["metric_config"], "its range has no ends"


def test_the_same_run_gives_the_same_record(made: Made) -> None:
    results, manifest = read(made(VALUES))
    assert every_eval_ever_json(results, manifest, SAID) == every_eval_ever_json(results, manifest, SAID)


def test_prompts_of_a_public_file_are_named_by_its_address(made: Made) -> None:
    results, manifest = read(made(VALUES))
    prompts = {"repository": "org/prompts", "revision": "main", "path": "test.txt", "sha256": "ab" * 32}
    manifest = manifest.model_copy(update={"suite": {"prompts": prompts}})
    source = every_eval_ever(results, manifest, SAID)["evaluation_results"][0]["source_data"]
    assert source["url"] == ["https://github.com/org/prompts/blob/main/test.txt"]
    assert source["additional_details"]["sha256"] == "ab" * 32


def test_the_models_id_is_that_of_the_hub_or_asked_for(made: Made) -> None:
    results, manifest = read(made(VALUES))
    unsaid = Evaluated("Example Lab", Relationship.OTHER)
    with pytest.raises(UsageError, match="--model-id"):
        every_eval_ever(results, manifest, unsaid)
    local = manifest.model_copy(update={"source": {"place": "my/model", "commit": None}})
    with pytest.raises(UsageError, match="--model-id"):
        every_eval_ever(results, local, unsaid)
    hub = manifest.model_copy(update={"source": {"place": "org/model@main", "commit": "c" * 40}})
    assert every_eval_ever(results, hub, unsaid)["model_info"]["id"] == "org/model"


def test_a_headline_without_a_value_is_no_record(made: Made, run: Run) -> None:
    run.results["aggregates"][0].update(value=None, low=None, high=None)
    manifest = read_manifest(made(VALUES))
    with pytest.raises(Incomplete, match="headline has no value"):
        every_eval_ever(parse_results(run.results), manifest, SAID)
