"""A hub on this machine: what is fetched of a repository, what is kept, and what is said of a snapshot that is not whole."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from fake_hub import COMMIT, LATER, Hub, serving
from huggingface_hub.errors import GatedRepoError
from layouts import ODD, SD3, SD15, lay_out

from star_bench.assets.model_files import LocalCheckpoint, content_digest, locate
from star_bench.catalogue.checkpoints import resolve
from star_bench.errors import MissingWeights, Refused

UNET = "unet/diffusion_pytorch_model.safetensors"
SD15_FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"text_encoder/{name}" for name in ("config.json", "model.safetensors")),
    *(f"tokenizer/{name}" for name in ("tokenizer_config.json", "vocab.json", "merges.txt")),
    *(f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", "diffusion_pytorch_model.safetensors")),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "remembered"))
    with serving(monkeypatch, tmp_path / "cache") as served:
        yield served


@pytest.fixture
def model(hub: Hub, tmp_path: Path) -> Path:
    """What the hub has as org/name."""
    folder = lay_out(tmp_path / "published", SD15)
    for more in ("README.md", "v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/x.bin"):
        (folder / more).write_bytes(more.encode())
    (folder / "text_encoders").mkdir()
    (folder / "text_encoders" / "clip.safetensors").write_bytes(b"not a part")
    hub.add("org/name", folder)
    return folder


def found(*, fetch: bool = True) -> LocalCheckpoint:
    return locate(resolve("org/name"), fetch=fetch)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_what_the_index_names_is_fetched_and_nothing_else(hub: Hub, model: Path) -> None:
    local = found()
    kept = {path.relative_to(local.folder).as_posix() for path in local.folder.rglob("*") if path.is_file()}
    assert kept == SD15_FILES and {*hub.fetched} <= kept
    assert (local.revision, local.digest) == (COMMIT, content_digest(model))


def test_parts_of_any_name_are_fetched(hub: Hub, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "odd", ODD)
    (folder / "processor" / "chat_template.jinja").write_text("{{ messages }}")
    hub.add("org/name", folder)
    assert found().digest == content_digest(folder)
    assert {"processor/chat_template.jinja", "text_encoder_4/model.safetensors"} <= {*hub.fetched}


def test_what_is_whole_is_taken_without_asking(hub: Hub, model: Path) -> None:
    first = found()
    hub.asked.clear()
    hub.add("org/name", model, LATER)  # main moves on
    assert found() == first and hub.asked == []
    pins = json.loads((Path(first.folder).parents[3] / "remembered" / "pins.json").read_text())
    assert pins == {"org/name@main": COMMIT}
    assert locate(resolve(f"org/name@{LATER}")).revision == LATER


def test_a_cleared_cache_is_filled_with_the_commit_that_was_kept(hub: Hub, model: Path) -> None:
    first = found()
    shutil.rmtree(first.folder.parents[1])
    (model / UNET).write_bytes(b"another")
    hub.add("org/name", model, LATER)
    assert found() == first


@pytest.mark.parametrize("lost", sorted(SD15_FILES))
def test_any_lost_file_is_named_offline_and_fetched_online(
    hub: Hub, model: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found()
    (first.folder / lost).unlink()
    said = rf"({lost}|scheduler)"  # the folder of one file, where the hub's listing was not kept
    with monkeypatch.context() as closed:
        offline(closed)
        with pytest.raises(
            MissingWeights, match=rf"org/name@main is not whole.*\({said} is not there\) and HF_HUB_OFF"
        ):
            found()
    with pytest.raises(MissingWeights, match=rf"\({said} is not there\): run it once where there is a network"):
        found(fetch=False)
    hub.fetched.clear()
    assert found() == first
    assert {*hub.fetched} <= {lost}, "the cache has the content of the others"


def test_without_the_hubs_listing_configurations_tell_what_is_lost(hub: Hub, model: Path) -> None:
    """As in a cache that an older huggingface_hub filled."""
    first = found()
    shutil.rmtree(first.folder.parents[1] / "trees", ignore_errors=True)
    if listings := sys.modules.get("huggingface_hub._tree_cache"):
        listings._IN_MEMORY_TREE_CACHE.clear()
    (first.folder / UNET).unlink()
    (first.folder / "vae" / "config.json").unlink()
    with pytest.raises(MissingWeights, match=rf"lacks {UNET} and vae/config\.json\)"):
        found(fetch=False)
    assert found() == first


def test_a_download_that_broke_off_is_gone_on_with(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub tries again, after a while
    hub.cut = UNET
    with pytest.raises(MissingWeights, match=r"org/name@main can't be fetched"):
        found()
    with pytest.raises(MissingWeights, match=rf"is not whole.*{UNET}"):
        found(fetch=False)
    hub.cut = ""
    assert found().digest == content_digest(model)


def test_a_lora_that_is_not_whole_is_completed(hub: Hub, model: Path, tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text("{}")
    (lora / "adapter_model.safetensors").write_bytes(b"lora")
    hub.add("org/lora", lora)
    checkpoint = resolve("org/lora", base="org/name")
    first = locate(checkpoint)
    assert first.revision == f"{COMMIT}+{COMMIT}" and first.lora_path is not None
    (first.lora_path / "adapter_model.safetensors").unlink()
    with pytest.raises(
        MissingWeights, match=r"org/lora@main is not whole.*\(adapter_model\.safetensors is not there\)"
    ):
        locate(checkpoint, fetch=False)
    assert locate(checkpoint) == first


def test_a_repository_is_refused_before_its_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "published", SD15)
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    hub.add("org/variant", folder)
    with pytest.raises(Refused, match=rf"org/variant@{COMMIT}/unet holds only the fp16 variant"):
        locate(resolve("org/variant"))
    hub.add("org/nulls", lay_out(tmp_path / "nulls", SD3 | {"text_encoder_3": [None, None]}))
    with pytest.raises(Refused, match="no third text encoder"):
        locate(resolve("org/nulls"))
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    hub.add("org/half", folder)
    with pytest.raises(MissingWeights, match=rf"org/half@{COMMIT}/{UNET} is not there"):
        locate(resolve("org/half"))
    (folder / "model_index.json").unlink()
    hub.add("org/weights", folder)
    with pytest.raises(MissingWeights, match=r"holds no model_index\.json"):
        locate(resolve("org/weights"))
    assert {*hub.fetched} == {"model_index.json"}


def test_names_that_the_hub_does_not_have(hub: Hub, model: Path) -> None:
    with pytest.raises(MissingWeights, match="shows no org/nobody to this login: check the name"):
        locate(resolve("org/nobody"))
    with pytest.raises(MissingWeights, match="org/name has no revision 'v2'"):
        locate(resolve("org/name@v2"))


def test_a_gated_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(MissingWeights, match=r"licence to be accepted.*hf auth login"):
        found()


def test_without_fetching_nobody_is_asked(hub: Hub, model: Path) -> None:
    with pytest.raises(MissingWeights, match="org/name@main is not in the Hugging Face cache"):
        found(fetch=False)
    assert hub.asked == []
