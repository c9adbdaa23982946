"""Names, paths and hub ids; files found without a network; sentences where they are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.utils
import numpy as np
import pytest
from safetensors.numpy import save_file

from star_bench.assets import downloads, model_files
from star_bench.assets.model_files import content_digest, locate
from star_bench.catalogue import checkpoints
from star_bench.catalogue.cards import parse
from star_bench.catalogue.checkpoints import Source, resolve
from star_bench.errors import MissingWeights, Refused, UsageError

COMMIT, LATER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of our own, so that nothing on this machine is seen or written."""
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def pipeline(folder: Path, weights: bytes = b"weights") -> Path:
    """Something that looks like a diffusers folder to code that never reads a tensor."""
    parts = {"transformer": ["diffusers", "T"], "vae": ["diffusers", "V"], "scheduler": ["diffusers", "S"]}
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
        if part != "scheduler":
            (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "P", "image_encoder": [None, None], **parts}))
    return folder


def peft(folder: Path, base: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"lora")
    return folder


def in_hub_cache(home: Path, hub: str, commit: str, *, lora: bool = False) -> Path:
    repository = home / "hub" / f"models--{hub.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    folder = repository / "snapshots" / commit
    return peft(folder, None) if lora else pipeline(folder, commit.encode())


# Names


def test_the_shipped_file_is_sound_and_complete() -> None:
    listed = checkpoints.entries()
    assert {"miniature", "sd3.5-medium", "flow-grpo-geneval", "flow-grpo-ocr", "flow-grpo-pickscore"} <= set(listed)
    assert {name for name, entry in listed.items() if entry.status == "claimed"} == {
        "star-geneval",
        "star-ocr",
        "star-pickscore",
    }
    assert [listed[f"star-{suite}"].published[0].value for suite in ("geneval", "ocr", "pickscore")] == [
        0.9759,
        0.9757,
        23.60,
    ]
    assert all(number.protocol == "not stated" for number in listed["star-ocr"].published)
    for name in listed:
        defaults = resolve(name).generation.model_dump(exclude={"samples"})
        assert None not in defaults.values(), name


def test_a_lora_entry_inherits_its_base() -> None:
    found = resolve("flow-grpo-ocr")
    assert found.source.hub == "stabilityai/stable-diffusion-3.5-medium"
    assert found.lora.hub == "jieliu/SD3.5M-FlowGRPO-Text"
    assert (found.base, found.generation.steps, found.generation.max_sequence_length) == ("sd3.5-medium", 40, 128)


@pytest.mark.parametrize(("wrong", "right"), [("miniatur", "miniature"), ("sd3.5-mediun", "sd3.5-medium")])
def test_an_unknown_name_gets_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{right}'"):
        resolve(wrong)


def test_an_unknown_key_gets_the_nearest() -> None:
    good = {"source": {"hub": "a/b"}, "precision": "float16", "licence": "x"}
    parse(checkpoints.Entry, good, "file: name")
    with pytest.raises(UsageError, match=r"unknown key 'licens'.*'licence'"):
        parse(checkpoints.Entry, good | {"licens": "x"}, "file: name")
    with pytest.raises(UsageError, match=r"unknown key 'source.hubb'.*'hub'"):
        parse(checkpoints.Entry, good | {"source": {"hubb": "a/b"}}, "file: name")
    with pytest.raises(UsageError, match="only one of hub, path"):
        parse(checkpoints.Entry, good | {"source": {"hub": "a/b", "path": "c"}}, "file: name")
    with pytest.raises(UsageError, match="either a source, or a lora"):
        parse(checkpoints.Entry, good | {"source": {}}, "file: name")


def test_an_unknown_base_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    entry = "precision: float16\n  licence: x\n"
    file.write_text(f"one:\n  source: {{hub: a/b}}\n  {entry}two:\n  lora: {{hub: c/d}}\n  base: onee\n  {entry}")
    with pytest.raises(UsageError, match="no base named 'onee': did you mean 'one'"):
        checkpoints.entries(file)


def test_hub_ids() -> None:
    assert resolve("org/name@v1.0").source == Source(hub="org/name", revision="v1.0")
    assert resolve("org/name").source.revision == "main"
    assert resolve("stabilityai/stable-diffusion-3.5-medium").name == "sd3.5-medium"
    assert resolve("stabilityai/stable-diffusion-3.5-medium@abc").name == "stabilityai/stable-diffusion-3.5-medium@abc"
    pinned = resolve("sd3.5-medium").source
    assert resolve(str(pinned)) == resolve("sd3.5-medium") == resolve(str(pinned.hub))
    assert resolve(f"{pinned.hub}@main").source.revision == "main", "who asks for a branch gets it"
    assert resolve("jieliu/SD3.5M-FlowGRPO-Text").name == "flow-grpo-ocr"
    adapter = resolve("org/lora", base="sd3.5-medium")
    assert (adapter.lora.hub, adapter.base) == ("org/lora", "sd3.5-medium")


@pytest.mark.parametrize("spec", ["./nothing", "/nothing/at/all", "nothing.safetensors", "a/b/c", "org/name@"])
def test_what_is_not_there_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError, match="there is nothing at"):
        resolve(spec)


# Paths


def test_a_folder_is_found_whole(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "mine")
    found = locate(resolve(str(folder)))
    assert (found.folder, found.lora_path, found.revision) == (folder, None, None)
    with pytest.raises(UsageError, match="leave --base out"):
        resolve(str(folder), base="miniature")


def test_lora_paths_and_their_bases(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base")
    file = tmp_path / "lora.safetensors"
    file.write_bytes(b"lora")
    with pytest.raises(UsageError, match="--base NAME"):
        resolve(str(file))
    found = locate(resolve(str(file), base=str(base)))
    assert (found.folder, found.lora_path) == (base, file)
    folder = peft(tmp_path / "peft", str(base))
    assert locate(resolve(str(folder))).lora_path == folder
    hub = resolve(str(peft(tmp_path / "hub-based", "stabilityai/stable-diffusion-3.5-medium")))
    assert (hub.base, hub.generation.steps) == ("sd3.5-medium", 40)
    with pytest.raises(UsageError, match=r"/elsewhere/model.*--base"):
        resolve(str(peft(tmp_path / "lost", "/elsewhere/model")))
    with pytest.raises(UsageError, match="no whole pipeline"):
        resolve(str(file), base="flow-grpo-ocr")
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(UsageError, match="neither a folder nor"):
        resolve(str(tmp_path / "model.ckpt"))


def test_a_folder_that_diffusers_wrote_a_lora_into_has_its_name(tmp_path: Path) -> None:
    base, folder = pipeline(tmp_path / "base"), tmp_path / "my-lora"
    folder.mkdir()
    file = folder / "pytorch_lora_weights.safetensors"
    save_file({"transformer.a.lora_A.weight": np.zeros(2)}, file)
    with pytest.raises(UsageError, match=r"my-lora is a LoRA.*--base NAME"):
        resolve(str(folder))
    for spec in (folder, file):
        found = resolve(str(spec), base=str(base))
        assert (found.name, found.base, locate(found).lora_path) == ("my-lora", "base", file)
    file.rename(folder / "other.safetensors")
    assert locate(resolve(str(folder), base=str(base))).lora_path == folder / "other.safetensors"


def test_pefts_file_stands_for_its_folder(tmp_path: Path) -> None:
    folder = peft(tmp_path / "adapter", str(pipeline(tmp_path / "base")))
    found = resolve(str(folder / "adapter_model.safetensors"))
    assert (found.name, found.base, locate(found).lora_path) == ("adapter", "base", folder)


def test_a_lost_shard_and_a_lost_part_are_named(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "mine")
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "diffusion_pytorch_model.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(MissingWeights, match=r"two\.safetensors is not there"):
        locate(resolve(str(folder)))
    index.unlink()
    for file in (folder / "vae").iterdir():
        file.unlink()
    with pytest.raises(MissingWeights, match="vae is not there"):
        locate(resolve(str(folder)))


# The hub


def test_claimed_weights_say_so() -> None:
    with pytest.raises(MissingWeights, match="weights are not released") as missing:
        locate(resolve("star-geneval"))
    assert missing.value.exit_code == 4


def test_offline_is_told_in_one_sentence_and_at_once() -> None:
    """A network that swallows everything, the slowest way to be offline: it does not answer before the sentence is told."""
    told = threading.Event()

    def swallow(*_: object) -> None:
        told.wait()
        raise TimeoutError

    silent = mock.patch.object(downloads.socket, "create_connection", side_effect=swallow)
    with silent, pytest.raises(MissingWeights, match=r"can't be reached.*hf auth login.*--model PATH") as missing:
        locate(resolve("sd3.5-medium"))
    told.set()
    assert missing.value.exit_code == 4 and "\n" not in str(missing.value)


def test_offline_by_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match="HF_HUB_OFFLINE"):
        locate(resolve("sd3.5-medium"))


def test_broken_pins_are_not_overwritten(homes: Path) -> None:
    in_hub_cache(homes, "org/name", COMMIT)
    (homes / "cache").mkdir()
    (homes / "cache" / "pins.json").write_text("{")
    with pytest.raises(UsageError, match=r"pins\.json"):
        locate(resolve("org/name"))


def test_a_cache_that_cannot_be_written_only_costs_time(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub_cache(homes, "org/name", COMMIT)
    with mock.patch.object(os, "replace", side_effect=OSError("full")):
        assert locate(resolve("org/name")).revision == COMMIT
    assert list((homes / "cache").iterdir()) == []


def test_a_lora_of_the_cache_on_a_base_of_the_cache(homes: Path) -> None:
    base = resolve("sd3.5-medium").source.revision
    in_hub_cache(homes, "stabilityai/stable-diffusion-3.5-medium", base)
    lora = in_hub_cache(homes, "jieliu/SD3.5M-FlowGRPO-Text", LATER, lora=True)
    found = locate(resolve("flow-grpo-ocr"))
    assert (found.lora_path, found.revision) == (lora, f"{base}+{LATER}")
    assert found.digest != locate(resolve("sd3.5-medium")).digest


# Digests


def test_the_digest_follows_content_and_not_place(tmp_path: Path) -> None:
    one, two = pipeline(tmp_path / "one"), pipeline(tmp_path / "two")
    digest = content_digest(one)
    assert content_digest(two) == digest
    for extra in ("README.md", "transformer/model.bin", "whole.safetensors", "vae/x.fp16.safetensors"):
        (two / extra).write_text("x")
    assert content_digest(two) == digest
    (two / "scheduler" / "config.json").write_text('{"shift": 3}')
    assert content_digest(two) != digest
    (one / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"weightz")  # same size
    assert content_digest(one) != digest


def test_a_lora_enters_by_content(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "one")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        file.write_bytes(b"lora")
    assert content_digest(folder, files[0]) == content_digest(folder, files[1]) != content_digest(folder)
    files[1].write_bytes(b"LORA")
    assert content_digest(folder, files[0]) != content_digest(folder, files[1])


def test_a_large_file_is_hashed_once(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "one", b"x" * (2**20 + 1))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    for file in (weights, folder / "transformer" / weights.name):
        os.utime(file, (1, 1))
    digest = content_digest(folder)
    with mock.patch.object(model_files.hashlib, "file_digest", wraps=model_files.hashlib.file_digest) as hashed:
        assert content_digest(folder) == digest
        assert all(Path(call.args[0].name).stat().st_size < 2**20 for call in hashed.call_args_list)
    weights.write_bytes(b"y" * (2**20 + 1))
    assert content_digest(folder) != digest


def test_a_folder_can_say_how_it_wants_to_be_sampled(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "mine")
    assert resolve(str(folder)).generation.steps is None
    assert resolve(str(folder)).commercial == "unknown"
    (folder / "star-bench.yaml").write_text("licence: MIT\ncommercial: true\ngeneration: {steps: 7}\n")
    found = resolve(str(folder))
    assert (found.generation.steps, found.licence, found.commercial) == (7, "MIT", "yes")
    (folder / "star-bench.yaml").write_text("generation: {step: 7}\n")
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        resolve(str(folder))


def test_foreign_code_is_refused(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "one")
    (folder / "vae" / "mine.py").write_text("")
    with pytest.raises(Refused, match="Python code"):
        locate(resolve(str(folder)))


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; from star_bench.catalogue import checkpoints as c; c.resolve('miniature'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
