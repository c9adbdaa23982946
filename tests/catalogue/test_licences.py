"""Every weight and prompt set carries its licence, and what nobody stated is unknown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from star_bench.catalogue import checkpoints, licences, suites
from star_bench.catalogue.licences import Licensed
from star_bench.cli.main import main
from star_bench.errors import UsageError
from star_bench.reporting import listing


def by_name(rows: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    return {row["name"]: row for row in rows}


def test_models_are_listed_by_what_their_licence_allows() -> None:
    every = by_name(listing.models())
    assert every["miniature"]["commercial"] == "yes"
    assert every["sd3.5-medium"]["commercial"] == every["flow-grpo-ocr"]["commercial"] == "unknown"
    lists = [by_name(listing.models(word)) for word in listing.ALLOWS]
    assert "miniature" in lists[0] and "sd3.5-medium" in lists[2]
    assert {name for kept in lists for name in kept} == every.keys()
    with pytest.raises(UsageError, match="did you mean 'non-commercial'"):
        listing.models("noncommercial")


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ls(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["star-bench", "ls", *words])
        main()
        return capsys.readouterr().out

    assert json.loads(ls("models", "--licence", "commercial", "--json")) == listing.models("commercial")
    assert json.loads(ls("licences", "--json")) == listing.licences()
    with pytest.raises(SystemExit, match="2"):
        ls("suites", "--licence", "unknown")
    assert "leave --licence out" in capsys.readouterr().err


def test_the_ledger_has_every_model_prompt_set_and_judge() -> None:
    ledger = listing.licences()
    rows = {(row["of"], row["name"]): row for row in ledger}
    assert len(rows) == len(ledger)
    assert {("model", name) for name in checkpoints.names()} <= rows.keys()
    assert {("prompts", name) for name in suites.names()} <= rows.keys()
    pickscore = rows["judge", "PickScore_v1"]
    assert (pickscore["licence"], pickscore["commercial"]) == ("not stated", "unknown")
    assert {"pickscore", "drawbench"} <= set(pickscore["used_by"].split(", "))
    assert rows["training prompts", "dataset/ocr/train.txt"]["used_by"] == "ocr"
    assert all(row["licence"] for row in ledger)
    assert all(row["stated_at"] for row in ledger if row["commercial"] == "yes"), "not allowed without a source"
    assert listing.licences("non-commercial") == [row for row in ledger if row["commercial"] == "no"]


def test_a_lora_needs_its_base_to_be_free_too(tmp_path: Path) -> None:
    parts = licences.of_checkpoint(checkpoints.resolve("flow-grpo-ocr"))
    assert [part.name for part in parts] == ["flow-grpo-ocr", "sd3.5-medium"]
    (tmp_path / "lora.safetensors").write_bytes(b"lora")
    lora = checkpoints.resolve(str(tmp_path / "lora.safetensors"), base="miniature")
    parts = licences.of_checkpoint(lora)
    assert [part.commercial for part in parts] == ["unknown", "yes"]
    assert licences.commercial(parts) == "unknown"


def test_a_base_that_is_a_folder_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "lora.safetensors").write_bytes(b"lora")
    lora = checkpoints.resolve(str(tmp_path / "lora.safetensors"), base=str(tmp_path / "base"))
    assert licences.of_checkpoint(lora)[1] == Licensed("model", "base", "not stated", "unknown", None)


@pytest.mark.parametrize(
    ("parts", "together"), [(["yes", "yes"], "yes"), (["yes", "unknown"], "unknown"), (["unknown", "no", "yes"], "no")]
)
def test_the_strictest_decides(parts: list[suites.Commercial], together: str) -> None:
    assert licences.commercial(Licensed("judge", "x", "L", part, None) for part in parts) == together


def test_judges_that_a_card_names_no_licence_of_are_unknown() -> None:
    card = suites.load("preference-miniature")
    assert [part.commercial for part in licences.of_suite(card)] == ["yes", "yes"]
    silent = card.model_copy(update={"judge_weights": []})
    assert licences.of_suite(silent)[1] == Licensed(
        "judge", "judges of preference-miniature", "not stated", "unknown", None
    )
