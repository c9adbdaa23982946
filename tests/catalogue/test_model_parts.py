"""Which folders of a pipeline count, and what is said of one that can't be loaded as it is, before anything is loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import KANDINSKY3, NONE, ODD, SD3, SD15, SDXL, Parts, lay_out
from safetensors.numpy import save_file

from star_bench.assets.model_files import content_digest, locate
from star_bench.catalogue.checkpoints import resolve
from star_bench.catalogue.model_parts import LIBRARIES, check_folder, parts_of, patterns_of
from star_bench.errors import MissingWeights, Refused, UsageError

TOKENIZER = ("tokenizer_config.json", "vocab.json", "merges.txt")
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "remembered"))


@pytest.mark.parametrize(
    ("listed", "digest"),
    [
        (SD3, "0481235affe8ca9904b38be635406a333d429ab28c04aceca86b550a9c203dd1"),
        (SDXL, "29ec0de761b9bc528577a4132b411eba1235393ccd4fdbeefc4a364f4490ea8a"),
        (SD15, "f1854ebd8bf32876ee187ea4e96846e331a68841be7f27699bc93ee03251e291"),
    ],
    ids=["sd3", "sdxl", "sd1.5"],
)
def test_digests_stay_what_stored_runs_know(tmp_path: Path, listed: Parts, digest: str) -> None:
    """These are star-bench 0.1.0's, which had a list of folders."""
    assert content_digest(lay_out(tmp_path / "model", listed)) == digest


@pytest.mark.parametrize("listed", [SD3, SDXL, SD15, KANDINSKY3, ODD], ids=lambda listed: listed["_class_name"])
def test_whatever_is_loaded_is_digested(tmp_path: Path, listed: Parts) -> None:
    folder = lay_out(tmp_path / "model", listed)
    digest = content_digest(folder)
    loaded = {name for name, value in listed.items() if isinstance(value, list) and value[0] in LIBRARIES}
    for path in [path for path in folder.rglob("*") if path.parent != folder and path.is_file()]:
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        assert (content_digest(folder) != digest) == (path.parent.name in loaded - {"feature_extractor"}), path
        path.write_bytes(before)
    assert content_digest(folder) == digest


def test_the_files_of_a_layout_that_are_asked_for(tmp_path: Path) -> None:
    ends = (".json", ".txt", ".safetensors", ".model", ".jinja")
    names = ("guider", "processor", "scheduler", "text_encoder_4", "tokenizer_4", "transformer", "vae")
    odd = patterns_of(lay_out(tmp_path / "odd", ODD))
    assert odd == ["model_index.json", *(f"{name}/*{end}" for name in names for end in ends)]
    asked = {pattern.split("/")[0] for pattern in patterns_of(lay_out(tmp_path / "sd15", SD15))}
    assert asked == {"model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"}


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "*", "a b"])
def test_a_part_is_a_folder_beside_its_index(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="code that comes with the model"):
        parts_of(lay_out(tmp_path / "model", SD15 | {name: ["diffusers", "AutoencoderKL"]}))


# Forms


def plain(folder: Path) -> None:
    pass


def both_variants(folder: Path) -> None:
    shutil.copy(folder / "unet" / UNET_WEIGHTS, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")


def in_shards(folder: Path) -> None:
    names = [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    (folder / "unet" / UNET_WEIGHTS).rename(folder / "unet" / names[0])
    (folder / "unet" / names[1]).write_bytes(b"two")
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (folder / "unet" / f"{UNET_WEIGHTS}.index.json").write_text(json.dumps(index))


def without_vocabulary(folder: Path) -> None:
    """ByT5 reads bytes."""
    listed = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(listed | {"tokenizer": ["transformers", "ByT5Tokenizer"]}))
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()


def no_extractor(folder: Path) -> None:
    """Nothing of what is never loaded need be there."""
    for name in ("feature_extractor", "safety_checker"):
        shutil.rmtree(folder / name)


@pytest.mark.parametrize("form", [plain, both_variants, in_shards, without_vocabulary, no_extractor])
def test_forms_that_can_be_loaded(tmp_path: Path, form: Callable[[Path], None]) -> None:
    folder = lay_out(tmp_path / "model", SD15)
    form(folder)
    assert locate(resolve(str(folder))).folder == folder


def renamed(part: str, name: str) -> Callable[[Path], None]:
    def form(folder: Path) -> None:
        (old,) = (folder / part).glob("*.safetensors")
        old.rename(folder / part / name)

    return form


def lost(*names: str) -> Callable[[Path], None]:
    def form(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return form


def one_shard_lost(folder: Path) -> None:
    in_shards(folder)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


def index_lost(folder: Path) -> None:
    in_shards(folder)
    (folder / "unet" / f"{UNET_WEIGHTS}.index.json").unlink()


def shards_of_a_variant(folder: Path) -> None:
    (folder / "unet" / UNET_WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.fp16-00001-of-00001.safetensors")
    index = {"weight_map": {"a": "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"}}
    (folder / "unet" / f"{UNET_WEIGHTS}.index.fp16.json").write_text(json.dumps(index))


def link_to_nowhere(folder: Path) -> None:
    """As where the cache of a hub lost a blob."""
    (folder / "vae" / UNET_WEIGHTS).unlink()
    (folder / "vae" / UNET_WEIGHTS).symlink_to(folder / "blobs" / "none")


def unet_lost(folder: Path) -> None:
    shutil.rmtree(folder / "unet")


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        (
            renamed("unet", "diffusion_pytorch_model.fp16.safetensors"),
            r"unet holds only the fp16 variant.*save it without",
        ),
        (renamed("text_encoder", "model.fp16.safetensors"), "text_encoder holds only the fp16 variant"),
        (renamed("vae", "diffusion_pytorch_model.bf16.safetensors"), "vae holds only the bf16 variant"),
        (renamed("unet", "diffusion_pytorch_model.non_ema.safetensors"), "unet holds only the non_ema variant"),
        (shards_of_a_variant, "unet holds only the fp16 variant"),
        (renamed("vae", "diffusion_pytorch_model.bin"), "vae holds only pickled weights"),
    ],
)
def test_a_form_that_cannot_be_loaded_is_named(tmp_path: Path, form: Callable[[Path], None], sentence: str) -> None:
    folder = lay_out(tmp_path / "model", SD15)
    form(folder)
    with pytest.raises(Refused, match=sentence) as refused:
        locate(resolve(str(folder)))
    assert not isinstance(refused.value, MissingWeights), "fetching it again would bring the same"


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        (one_shard_lost, r"unet/diffusion_pytorch_model-00002-of-00002\.safetensors is not there"),
        (index_lost, r"unet/diffusion_pytorch_model\.safetensors\.index\.json is not there"),
        (lost("vae/config.json"), r"vae/config\.json is not there"),
        (lost(f"vae/{UNET_WEIGHTS}"), r"vae/diffusion_pytorch_model\.safetensors is not there"),
        (lost("text_encoder/model.safetensors"), r"text_encoder/model\.safetensors is not there"),
        (lost("tokenizer/merges.txt"), r"tokenizer/merges\.txt is not there"),
        (lost("tokenizer/merges.txt", "tokenizer/vocab.json"), r"tokenizer/tokenizer\.json is not there"),
        (lost("scheduler/scheduler_config.json"), r"model/scheduler is not there"),
        (link_to_nowhere, r"vae/diffusion_pytorch_model\.safetensors is not there"),
        (unet_lost, r"model/unet is not there"),
        (
            lost("vae/config.json", f"vae/{UNET_WEIGHTS}", f"unet/{UNET_WEIGHTS}", "tokenizer/vocab.json"),
            r"model lacks tokenizer/vocab\.json, unet/diffusion_pytorch_model\.safetensors and vae:",
        ),
        (
            lost("unet/config.json", f"unet/{UNET_WEIGHTS}", *(f"tokenizer/{name}" for name in TOKENIZER)),
            r"model lacks tokenizer and unet:",
        ),
        (
            lost("vae/config.json", "unet/config.json", "text_encoder/config.json", "tokenizer/vocab.json"),
            r"model lacks text_encoder/config\.json, tokenizer/vocab\.json, unet/config\.json and 1 more:",
        ),
        (lost("model_index.json"), r"holds no model_index\.json"),
    ],
)
def test_what_is_lost_is_named(tmp_path: Path, form: Callable[[Path], None], sentence: str) -> None:
    folder = lay_out(tmp_path / "model", SD15)
    form(folder)
    with pytest.raises(MissingWeights, match=sentence):
        locate(resolve(str(folder)))


@pytest.mark.parametrize(
    ("nulls", "sentence"),
    [
        (["text_encoder_3", "tokenizer_3"], r"no third text encoder \(text_encoder_3 and tokenizer_3: null"),
        (["transformer"], r"no transformer \(transformer: null"),
        (["tokenizer_2"], r"no second tokenizer \(tokenizer_2: null"),
        (["text_encoder"], r"no text encoder \(text_encoder: null"),
    ],
)
def test_a_pipeline_that_was_saved_without_a_part_is_refused(tmp_path: Path, nulls: list[str], sentence: str) -> None:
    folder = lay_out(tmp_path / "model", SD3 | dict.fromkeys(nulls, NONE))
    with pytest.raises(Refused, match=sentence):
        locate(resolve(str(folder)))


def test_a_whole_model_in_one_file_is_no_lora(tmp_path: Path) -> None:
    base = lay_out(tmp_path / "model", SD3)
    whole, lora = tmp_path / "whole.safetensors", tmp_path / "lora.safetensors"
    save_file({"unet.down.weight": np.zeros(2), "first_stage.weight": np.zeros(2)}, whole)
    for named in (None, str(base)):
        with pytest.raises(
            UsageError, match=r"whole model in one file and no LoRA \(it holds 'first_stage.*diffusers folder"
        ):
            locate(resolve(str(whole), base=named))
    for name in ("transformer.a.lora_A.weight", "lora_unet_a.alpha", "a.hada_w1_a", "a.lokr_w1", "a.lora.up.weight"):
        save_file({name: np.zeros(2)}, lora)
        assert locate(resolve(str(lora), base=str(base))).lora_path == lora
    with pytest.raises(UsageError, match="is a LoRA and does not say on which model"):
        resolve(str(lora))


def test_a_tokenizer_that_needs_sentencepiece_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tuple(f"tokenizer_3/{name}" for name in ("vocab.json", "merges.txt"))
    folder = lay_out(tmp_path / "model", SD3, without=gone)
    (folder / "tokenizer_3" / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"spiece\.model is read with sentencepiece.*'pip install sentencepiece'"
    ) as told:
        check_folder(folder)
    assert told.value.exit_code == 2
    (folder / "tokenizer_3" / "tokenizer.json").write_text("{}")
    check_folder(folder)
    (folder / "tokenizer_3" / "tokenizer.json").unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "sentencepiece" else None)
    check_folder(folder)
