"""mmdet's detector under our names: nothing lost, nothing made up, nothing run, and the same function as before."""

from __future__ import annotations

import os
import re
import shutil
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.parity.detectors import look, write_random
from star_bench.errors import Refused, StarBenchError, UsageError
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL, Architecture, architecture_from_config
from star_bench.evaluators.geneval.detection.convert import convert
from star_bench.evaluators.geneval.detection.detector import TransformersDetector, load
from star_bench.evaluators.geneval.detection.layout import newer_name, pairs, position_index, to_mmdet, to_transformers
from star_bench.evaluators.geneval.detection.postprocess import EVERYTHING
from star_bench.evaluators.geneval.prompts import COCO_CLASSES
from star_bench.files.digests import sha256_of

State = dict[str, Tensor]
WRITTEN = ["config.json", "model.safetensors", "preprocessing.json", "provenance.yaml"]


def older(name: str) -> str:
    """A tensor's name in mmdet 2.x, given its name in 3.x."""
    if not re.match(r"panoptic_head\.(pixel_decoder\.encoder|transformer_decoder)\.layers\.", name):
        return name
    first, second = ("attentions.0", "") if ".pixel_decoder." in name else ("attentions.1", "attentions.0")
    return name.replace(".self_attn.", f".{first}.").replace(".cross_attn.", f".{second}.").replace(".ffn.", ".ffns.0.")


def older_state(state: State) -> State:
    return {older(name): tensor for name, tensor in state.items()}


def same(one: State, other: State) -> bool:
    """The same names, shapes, types and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.fixture(scope="module")
def source(random_state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What OpenMMLab publishes, but small: names of 2.x, in a `state_dict`."""
    path = tmp_path_factory.mktemp("published") / "mask2former.pth"
    torch.save({"meta": {"epoch": 50}, "state_dict": OrderedDict(older_state(random_state))}, path)
    return path


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: copy it before changing it."""
    out = tmp_path_factory.mktemp("converted") / "mask2former"
    convert(source, out)
    return out


# --- what the folder is ---


def test_the_folder_says_where_it_came_from(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = convert(source, out)
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    weights = load_file(out / "model.safetensors")
    assert told["out"] == str(out)
    assert (told["source"], told["source_sha256"]) == ("mask2former.pth", sha256_of(source))
    assert told["model_sha256"] == sha256_of(out / "model.safetensors")
    assert told["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert (told["recognised_as"], told["official_architecture"], told["licence"]) == (None, False, "not stated")
    assert yaml.safe_load((out / "provenance.yaml").read_text()) | {"out": str(out)} == told


def test_a_second_conversion_gives_the_same_bytes(source: Path, converted: Path, tmp_path: Path) -> None:
    for _ in range(2):
        convert(source, tmp_path / "out")
        for name in WRITTEN:
            assert (tmp_path / "out" / name).read_bytes() == (converted / name).read_bytes()


def test_the_detector_reads_the_folder(converted: Path) -> None:
    detector = TransformersDetector(converted)
    assert detector.names == COCO_CLASSES
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    (found,) = detector.detect([picture], [EVERYTHING])
    assert len(found.scores) == 100 and (np.diff(found.scores) <= 0).all() and found.scores[0] > 0.1
    assert found.masks.shape == (100, 40, 56) and found.masks.any()
    assert (found.boxes >= 0).all() and (found.boxes <= [56, 40, 56, 40]).all()
    assert set(found.labels) <= set(range(80))


def test_the_configuration_has_the_sizes_of_the_tensors(converted: Path, architecture: Architecture) -> None:
    assert architecture_from_config(load(converted).config) == architecture


# --- the mapping ---


ENCODER = "model.pixel_level_module.encoder"
DECODER = "model.pixel_level_module.decoder"
TRANSFORMER = "model.transformer_module"
BLOCK, OUR_BLOCK = "backbone.stages.2.blocks.1", f"{ENCODER}.encoder.layers.2.blocks.1"
LAYER, OUR_LAYER = "panoptic_head.transformer_decoder.layers.1", f"{TRANSFORMER}.decoder.layers.1"
DEFORMABLE, OUR_DEFORMABLE = "panoptic_head.pixel_decoder.encoder.layers.1", f"{DECODER}.encoder.layers.1"
WHOLE = (0, 1)


@pytest.mark.parametrize(
    ("mmdet", "ours", "part"),
    [
        ("backbone.patch_embed.projection.weight", f"{ENCODER}.embeddings.patch_embeddings.projection.weight", WHOLE),
        ("backbone.patch_embed.norm.bias", f"{ENCODER}.embeddings.norm.bias", WHOLE),
        (f"{BLOCK}.norm1.weight", f"{OUR_BLOCK}.layernorm_before.weight", WHOLE),
        (f"{BLOCK}.norm2.weight", f"{OUR_BLOCK}.layernorm_after.weight", WHOLE),
        (f"{BLOCK}.attn.w_msa.qkv.weight", f"{OUR_BLOCK}.attention.self.query.weight", (0, 3)),
        (f"{BLOCK}.attn.w_msa.qkv.weight", f"{OUR_BLOCK}.attention.self.key.weight", (1, 3)),
        (f"{BLOCK}.attn.w_msa.qkv.weight", f"{OUR_BLOCK}.attention.self.value.weight", (2, 3)),
        (f"{BLOCK}.attn.w_msa.qkv.bias", f"{OUR_BLOCK}.attention.self.value.bias", (2, 3)),
        (f"{BLOCK}.attn.w_msa.proj.weight", f"{OUR_BLOCK}.attention.output.dense.weight", WHOLE),
        (
            f"{BLOCK}.attn.w_msa.relative_position_bias_table",
            f"{OUR_BLOCK}.attention.self.relative_position_bias_table",
            WHOLE,
        ),
        (f"{BLOCK}.ffn.layers.0.0.weight", f"{OUR_BLOCK}.intermediate.dense.weight", WHOLE),
        (f"{BLOCK}.ffn.layers.1.weight", f"{OUR_BLOCK}.output.dense.weight", WHOLE),
        ("backbone.norm2.weight", f"{ENCODER}.hidden_states_norms.stage3.weight", WHOLE),
        ("panoptic_head.pixel_decoder.input_convs.2.conv.weight", f"{DECODER}.input_projections.2.0.weight", WHOLE),
        ("panoptic_head.pixel_decoder.input_convs.0.gn.bias", f"{DECODER}.input_projections.0.1.bias", WHOLE),
        ("panoptic_head.pixel_decoder.level_encoding.weight", f"{DECODER}.level_embed", WHOLE),
        (
            f"{DEFORMABLE}.attentions.0.sampling_offsets.bias",
            f"{OUR_DEFORMABLE}.self_attn.sampling_offsets.bias",
            WHOLE,
        ),
        (f"{DEFORMABLE}.attentions.0.value_proj.weight", f"{OUR_DEFORMABLE}.self_attn.value_proj.weight", WHOLE),
        (f"{DEFORMABLE}.ffns.0.layers.0.0.weight", f"{OUR_DEFORMABLE}.fc1.weight", WHOLE),
        (f"{DEFORMABLE}.ffns.0.layers.1.weight", f"{OUR_DEFORMABLE}.fc2.weight", WHOLE),
        (f"{DEFORMABLE}.norms.0.weight", f"{OUR_DEFORMABLE}.self_attn_layer_norm.weight", WHOLE),
        (f"{DEFORMABLE}.norms.1.weight", f"{OUR_DEFORMABLE}.final_layer_norm.weight", WHOLE),
        ("panoptic_head.pixel_decoder.lateral_convs.0.conv.weight", f"{DECODER}.adapter_1.0.weight", WHOLE),
        ("panoptic_head.pixel_decoder.output_convs.0.gn.weight", f"{DECODER}.layer_1.1.weight", WHOLE),
        ("panoptic_head.pixel_decoder.mask_feature.weight", f"{DECODER}.mask_projection.weight", WHOLE),
        (f"{LAYER}.attentions.0.attn.in_proj_weight", f"{OUR_LAYER}.cross_attn.in_proj_weight", WHOLE),
        (f"{LAYER}.attentions.0.attn.in_proj_bias", f"{OUR_LAYER}.cross_attn.in_proj_bias", WHOLE),
        (f"{LAYER}.attentions.1.attn.in_proj_weight", f"{OUR_LAYER}.self_attn.q_proj.weight", (0, 3)),
        (f"{LAYER}.attentions.1.attn.in_proj_weight", f"{OUR_LAYER}.self_attn.k_proj.weight", (1, 3)),
        (f"{LAYER}.attentions.1.attn.in_proj_bias", f"{OUR_LAYER}.self_attn.v_proj.bias", (2, 3)),
        (f"{LAYER}.attentions.1.attn.out_proj.weight", f"{OUR_LAYER}.self_attn.out_proj.weight", WHOLE),
        (f"{LAYER}.ffns.0.layers.0.0.weight", f"{OUR_LAYER}.fc1.weight", WHOLE),
        (f"{LAYER}.norms.0.weight", f"{OUR_LAYER}.cross_attn_layer_norm.weight", WHOLE),
        (f"{LAYER}.norms.1.weight", f"{OUR_LAYER}.self_attn_layer_norm.weight", WHOLE),
        (f"{LAYER}.norms.2.weight", f"{OUR_LAYER}.final_layer_norm.weight", WHOLE),
        ("panoptic_head.transformer_decoder.post_norm.weight", f"{TRANSFORMER}.decoder.layernorm.weight", WHOLE),
        ("panoptic_head.query_embed.weight", f"{TRANSFORMER}.queries_embedder.weight", WHOLE),
        ("panoptic_head.query_feat.weight", f"{TRANSFORMER}.queries_features.weight", WHOLE),
        ("panoptic_head.level_embed.weight", f"{TRANSFORMER}.level_embed.weight", WHOLE),
        ("panoptic_head.cls_embed.weight", "class_predictor.weight", WHOLE),
        (
            "panoptic_head.mask_embed.2.weight",
            f"{TRANSFORMER}.decoder.mask_predictor.mask_embedder.1.0.weight",
            WHOLE,
        ),
    ],
)
def test_a_tensor_of_mmdet_2_goes_to_its_place(
    random_state: State, converted: Path, mmdet: str, ours: str, part: tuple[int, int]
) -> None:
    """`part` is (which, of how many) along the rows."""
    theirs, (which, of) = older_state(random_state)[mmdet], part
    rows = len(theirs) // of
    assert torch.equal(load_file(converted / "model.safetensors")[ours], theirs[which * rows : (which + 1) * rows])


def test_no_number_is_lost_or_made_up(random_state: State, converted: Path) -> None:
    learned = [tensor.flatten() for tensor in random_state.values() if tensor.is_floating_point()]
    ours = [tensor.flatten() for tensor in load_file(converted / "model.safetensors").values()]
    assert torch.equal(torch.cat(learned).sort().values, torch.cat(ours).sort().values)


def test_the_official_checkpoint_has_649_entries() -> None:
    assert len(pairs(OFFICIAL)) + sum(OFFICIAL.depths) == 649


architectures = st.builds(
    Architecture,
    patch_size=st.sampled_from([2, 4]),
    embed_dim=st.just(12),
    depths=st.tuples(*[st.integers(1, 3)] * 4),
    heads=st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 4),
    window=st.integers(2, 8),
    encoder_layers=st.integers(1, 2),
    encoder_ffn=st.integers(1, 9),
    decoder_layers=st.integers(1, 3),
    decoder_ffn=st.integers(1, 9),
    decoder_heads=st.sampled_from([1, 2, 4]),
    width=st.just(32),
    mask_width=st.sampled_from([32, 64]),
    queries=st.integers(1, 12),
    classes=st.integers(1, 9),
)


@settings(max_examples=12, deadline=None)
@given(architectures)
def test_there_and_back_is_exact_for_any_sizes(tmp_path_factory: pytest.TempPathFactory, drawn: Architecture) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    write_random(folder, drawn, None)
    theirs = to_mmdet(drawn, load_file(folder / "model.safetensors"))
    for names in (theirs, older_state(theirs)):
        read, ours = to_transformers(names)
        assert read == drawn
        assert same(to_mmdet(read, ours), theirs)


def unfolded(state: State, stage: int, features: Tensor) -> Tensor:
    """mmdet's PatchMerging from first principles. features (1, C, H, W); returns (1, H W / 4, 2 C).

    nn.Unfold gives each 2 x 2 patch as (channel, row, column).
    """
    name = f"backbone.stages.{stage}.downsample"
    height, width = features.shape[-2:]
    padded = F.pad(features, (0, width % 2, 0, height % 2))
    patches = torch.nn.Unfold(kernel_size=2, stride=2)(padded).transpose(1, 2)
    normed = F.layer_norm(patches, patches.shape[-1:], state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])
    return F.linear(normed, state[f"{name}.reduction.weight"])


def concatenated(state: State, stage: int, features: Tensor) -> Tensor:
    """Swin's own, as transformers has it: the pixels (0,0), (1,0), (0,1), (1,1) of a patch, one after the other."""
    name = f"{ENCODER}.encoder.layers.{stage}.downsample"
    height, width = features.shape[-2:]
    padded = F.pad(features, (0, width % 2, 0, height % 2))
    pixels = [padded[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    patches = torch.cat(pixels, 1).flatten(2).transpose(1, 2)
    normed = F.layer_norm(patches, patches.shape[-1:], state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])
    return F.linear(normed, state[f"{name}.reduction.weight"])


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("size", [(6, 10), (5, 7)])
def test_merging_patches_gives_what_it_gave_in_mmdet(
    random_state: State, converted: Path, stage: int, size: tuple[int, int]
) -> None:
    channels = 12 * 2**stage
    features = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(stage))
    expected = unfolded(random_state, stage, features)
    ours = load_file(converted / "model.safetensors")
    assert torch.allclose(concatenated(ours, stage, features), expected, atol=1e-5)
    merging = [m for m in load(converted).modules() if type(m).__name__ == "SwinPatchMerging"][stage]
    with torch.inference_mode():
        got = merging(features.flatten(2).transpose(1, 2), size)
    assert torch.allclose(got, expected, atol=1e-5)
    assert expected.std() > 0.5, "all but zero would agree with anything"


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_the_index_of_positions_is_mmdets(window: int) -> None:
    """mmdet's WindowMSA: double_step_seq, added to its transpose and flipped."""
    sequence = (torch.arange(window)[:, None] * (2 * window - 1) + torch.arange(window)[None, :]).reshape(1, -1)
    assert torch.equal(position_index(window), (sequence + sequence.T).flip(1))


def test_the_index_of_positions_is_transformers_own(converted: Path, architecture: Architecture) -> None:
    buffers = [b for name, b in load(converted).named_buffers() if name.endswith("relative_position_index")]
    assert len(buffers) == sum(architecture.depths)
    for buffer in buffers:
        assert torch.equal(buffer.flatten(), position_index(architecture.window).flatten())


def test_columns_that_are_not_permuted_load_and_see_something_else(
    random_state: State, converted: Path, tmp_path: Path
) -> None:
    """The trap that the permutation is there for: no error, other class logits."""
    wrong = Path(shutil.copytree(converted, tmp_path / "wrong"))
    state = load_file(wrong / "model.safetensors")
    for stage in range(3):
        for part in ("norm.weight", "norm.bias", "reduction.weight"):
            name = f"{ENCODER}.encoder.layers.{stage}.downsample.{part}"
            state[name] = random_state[f"backbone.stages.{stage}.downsample.{part}"].clone()
    save_file(state, wrong / "model.safetensors", metadata={"format": "pt"})
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    right, other = (look(TransformersDetector(folder), picture).class_logits for folder in (converted, wrong))
    again = look(TransformersDetector(converted), picture).class_logits
    assert torch.equal(right, again)
    assert (right - other).abs().max() > 1


# --- every way to store it ---


def zipped(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


def legacy(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


def as_safetensors(content: State, folder: Path) -> Path:
    save_file(content, folder / "a.safetensors")
    return folder / "a.safetensors"


@pytest.mark.parametrize("names", ["2.x", "3.x"])
@pytest.mark.parametrize(
    ("write", "wrapped"),
    [(zipped, True), (zipped, False), (legacy, True), (legacy, False), (as_safetensors, False)],
)
def test_every_form_gives_the_same_bytes(
    checkpoint: State,
    converted: Path,
    tmp_path: Path,
    names: str,
    write: Callable[[Any, Path], Path],
    wrapped: bool,
) -> None:
    state = older_state(checkpoint) if names == "2.x" else checkpoint
    convert(write({"state_dict": state} if wrapped else state, tmp_path), tmp_path / "out")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (converted / name).read_bytes()


def test_weights_in_half_precision_are_stored_in_float32(checkpoint: State, tmp_path: Path) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in checkpoint.items()}
    convert(zipped(half, tmp_path), tmp_path / "out")
    ours = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    assert torch.equal(ours["class_predictor.weight"].half(), half["panoptic_head.cls_embed.weight"])


def module_state(state: State) -> OrderedDict[str, Tensor]:
    """With the `_metadata` that a state_dict of a torch module carries into its file."""
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict({"": {"version": 1}, "backbone": {"version": 1}})  # type: ignore[attr-defined]
    return ordered


META = {
    "mmdet_version": "2.22.0+0d1d1f6",
    "CLASSES": COCO_CLASSES,
    "PALETTE": [(220, 20, 60), (119, 11, 32)],
    "epoch": 50,
    "seed": 42,
    "hook_msgs": {},
    "mmengine_version": "0.3.0",
    "time": "20220504_001756",
}


def test_histories_of_mmengine_are_left_out(checkpoint: State, converted: Path, tmp_path: Path) -> None:
    """What mmdet 3.x stores beside the weights."""
    history = pytest.importorskip("mmengine.logging.history_buffer").HistoryBuffer([0.5, 0.25], [1, 1])
    scalars = OrderedDict({"train/loss": history, "train/lr": history})
    hub = {"log_scalars": scalars, "runtime_info": OrderedDict(iter=np.float64(7)), "resumed_keys": OrderedDict()}
    source = zipped({"meta": META, "state_dict": module_state(checkpoint), "message_hub": hub}, tmp_path)
    assert b"HistoryBuffer" in source.read_bytes(), "the histories were to be in the file"
    convert(source, tmp_path / "out")
    assert sha256_of(tmp_path / "out" / "model.safetensors") == sha256_of(converted / "model.safetensors")


@pytest.fixture
def histories(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that a pickle names `mmengine.logging.history_buffer.HistoryBuffer`, whether or not mmengine is here."""

    class HistoryBuffer:
        def __init__(self, log_history: list[float]) -> None:
            self._log_history = np.array(log_history)
            self._count_history = np.ones(len(log_history), np.int64)
            self.max_length = 1_000_000

    HistoryBuffer.__module__ = "mmengine.logging.history_buffer"
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    return HistoryBuffer


@pytest.mark.parametrize("numpy_before_2", [False, True])
def test_histories_need_no_mmengine(
    checkpoint: State,
    converted: Path,
    tmp_path: Path,
    histories: type,
    monkeypatch: pytest.MonkeyPatch,
    numpy_before_2: bool,
) -> None:
    hub = {"log_scalars": OrderedDict(loss=histories([0.5, 0.25])), "runtime_info": OrderedDict(lr=np.float64(1e-4))}
    source = legacy({"meta": META, "state_dict": module_state(checkpoint), "message_hub": hub}, tmp_path)
    content = source.read_bytes()
    assert b"mmengine.logging.history_buffer\nHistoryBuffer" in content and b"\nscalar" in content
    if numpy_before_2:  # its modules had other names then, and those are in the published files
        content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        source.write_bytes(content)
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    convert(source, tmp_path / "out")
    assert sha256_of(tmp_path / "out" / "model.safetensors") == sha256_of(converted / "model.safetensors")


# --- refusals ---


def refused(source: Path, folder: Path, kind: type[StarBenchError] = Refused) -> str:
    """The sentence that a conversion ends with; nothing may be left in or beside its output."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(kind) as caught:
        convert(source, folder / "out")
    assert sorted(folder.rglob("*")) == before
    assert type(caught.value) is kind
    return str(caught.value)


CLS = "panoptic_head.cls_embed.weight"
CROSS = "panoptic_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight"
INDEX = "backbone.stages.1.blocks.0.attn.w_msa.relative_position_index"


def with_extra(state: State, name: str) -> State:
    return state | {name: torch.zeros(3)}


def without(state: State, name: str) -> State:
    return {each: tensor for each, tensor in state.items() if each != name}


def with_number(state: State, name: str, number: float) -> State:
    state[name].view(-1)[1] = number
    return state


def as_panoptic(state: State) -> State:
    grown = {name: torch.cat([state[name], state[name]])[:134] for name in (CLS, "panoptic_head.cls_embed.bias")}
    return state | grown


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: with_extra(state, "panoptic_head.extra.weight"), "'panoptic_head.extra.weight'"),
        (lambda state: with_extra(state, "bbox_head.fc_cls.weight"), "'bbox_head.fc_cls.weight'"),
        (lambda state: with_extra(state, "backbone.stages.0.blocks.0.attn.w_msa.qkv.scale"), "qkv.scale'"),
        (lambda state: state | {f"teacher.{INDEX}": state[INDEX].clone()}, f"'teacher.{INDEX}'"),
        (lambda state: without(state, CROSS), f"'{CROSS}'"),
        (lambda state: without(state, CLS), f"'{CLS}'"),
        (lambda state: without(state, "backbone.norm3.bias"), "'backbone.norm3.bias'"),
        (lambda state: state | {CROSS: state[CROSS][:-1].clone()}, f"'{CROSS}'"),
        (lambda state: state | {older(CROSS): state[CROSS].clone()}, "under its 2.x and its 3.x name"),
        (lambda state: with_number(state, CROSS, float("nan")), f"'{CROSS}'"),
        (lambda state: with_number(state, CLS, float("inf")), f"'{CLS}'"),
        (lambda state: with_number(state, INDEX, 0), f"'{INDEX}'"),
        (lambda state: state | {INDEX: state[INDEX].T.contiguous()}, f"'{INDEX}'"),
        (as_panoptic, "133 classes"),
        (lambda _: {}, "no tensors by name"),
        (lambda state: state | {"epoch": 50}, "'epoch'"),
    ],
    ids=[
        "extra",
        "other model",
        "extra in a block",
        "index of no block",
        "missing",
        "missing size",
        "missing norm",
        "wrong shape",
        "two names",
        "nan",
        "inf",
        "wrong index",
        "transposed index",
        "panoptic",
        "empty",
        "number",
    ],
)
def test_tensors_that_do_not_fit_are_named(
    checkpoint: State, tmp_path: Path, spoil: Callable[[State], State], words: str
) -> None:
    assert words in refused(zipped({"state_dict": spoil(checkpoint)}, tmp_path), tmp_path)


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "one row less": lambda tensor: tensor[:-1],
    "a row twice": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "one column less": lambda tensor: tensor[..., :-1],
    "flat": lambda tensor: tensor.flatten(),
    "an axis more": lambda tensor: tensor[None],
    "an axis less": lambda tensor: tensor[0],
    "empty": lambda tensor: tensor[:0],
}


def learned(source: Path) -> State:
    """The tensors of a published checkpoint but its indices of positions."""
    state = torch.load(source, weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


@pytest.fixture(scope="module")
def every_name(source: Path, converted: Path) -> set[str]:
    """All that a tensor may be called: in mmdet 2.x or 3.x, in our file, or inside transformers."""
    theirs = learned(source)
    ours = load_file(converted / "model.safetensors")
    return {*theirs, *map(newer_name, theirs), *ours, *load(converted).state_dict()}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(DAMAGES)))
def test_any_tensor_of_a_wrong_shape_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, source: Path, every_name: set[str], data: st.DataObject, damage: str
) -> None:
    """A tensor that tells a size is believed, and then it is another that does not fit."""
    state = learned(source)
    name = data.draw(st.sampled_from(sorted(state)))
    broken = DAMAGES[damage](state[name]).clone()
    assume(broken.shape != state[name].shape)
    folder = tmp_path_factory.mktemp("damaged")
    told = refused(as_safetensors(state | {name: broken}, folder), folder)
    assert "classes" in told or every_name & set(re.findall(r"'([\w.]+)'", told)), told


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_tensor_that_is_missing_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, source: Path, data: st.DataObject
) -> None:
    state = learned(source)
    name = data.draw(st.sampled_from(sorted(state)))
    folder = tmp_path_factory.mktemp("lacking")
    assert f"{newer_name(name)!r}" in refused(as_safetensors(without(state, name), folder), folder)


class Calls:
    """Pickled, it is a call of `function`, which whoever unpickles it carelessly makes."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("where", ["beside the weights", "among the weights"])
@pytest.mark.parametrize("wanted", [f"{os.name}.system", "eval"])
def test_a_file_that_asks_for_code_is_refused_and_runs_nothing(
    checkpoint: State, tmp_path: Path, write: Callable[[Any, Path], Path], where: str, wanted: str
) -> None:
    marker = tmp_path / "was-run"
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    evil = Calls(eval, touch) if wanted == "eval" else Calls(os.system, f"touch {marker}")
    content = {"state_dict": checkpoint, "meta": evil} if where == "beside the weights" else {**checkpoint, "x": evil}
    source = write(content, tmp_path)
    assert f"{source} asks for {wanted}, which may be code" in refused(source, tmp_path)
    assert not marker.exists()
    torch.load(source, weights_only=False)
    assert marker.exists(), "the file was to be dangerous"


def test_getattr_leads_nowhere(tmp_path: Path) -> None:
    """A history's pickle names getattr, which in other hands is the way to anything."""
    source = zipped({"state_dict": Calls(getattr, torch._utils._rebuild_tensor_v2, "__globals__")}, tmp_path)
    assert "torch" in torch.load(source, weights_only=False)["state_dict"], "it was to lead somewhere"
    assert "'state_dict', which is no tensor" in refused(source, tmp_path)


def half(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def as_text(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 275000000\n"


@pytest.mark.parametrize(
    "write",
    [
        lambda state, folder: half(zipped(state, folder)),
        lambda state, folder: half(legacy(state, folder)),
        lambda state, folder: half(as_safetensors(state, folder)),
        lambda _, folder: as_text(folder, "a.pth", POINTER),
        lambda _, folder: as_text(folder, "a.safetensors", POINTER),
        lambda _, folder: as_text(folder, "a.pth", "<!DOCTYPE html>\n<html><body>404</body></html>\n"),
        lambda _, folder: as_text(folder, "a.pth", ""),
        lambda _, folder: as_text(folder, "a.safetensors", ""),
        lambda state, folder: zipped(list(state.values()), folder),
        lambda state, folder: zipped(state[CLS], folder),
    ],
    ids=[
        "half a .pth",
        "half a legacy .pth",
        "half a .safetensors",
        "pointer.pth",
        "pointer.safetensors",
        "html.pth",
        "empty.pth",
        "empty.safetensors",
        "a list",
        "a tensor",
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(
    checkpoint: State, tmp_path: Path, write: Callable[[State, Path], Path]
) -> None:
    source = write(checkpoint, tmp_path)
    told = refused(source, tmp_path)
    assert str(source) in told and "\n" not in told


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.pth", tmp_path):
        assert f"{path} is not a file" in refused(path, tmp_path, UsageError)


def test_a_refusal_leaves_older_weights_as_they_were(checkpoint: State, converted: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(converted, tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused(zipped(without(checkpoint, CLS), tmp_path), tmp_path)
    refused(zipped(checkpoint | {CROSS: checkpoint[CROSS][:-3].clone()}, tmp_path), tmp_path)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


# --- full size ---


@pytest.mark.slow
def test_the_official_size(tmp_path: Path) -> None:
    write_random(tmp_path / "random", OFFICIAL, None)
    theirs = to_mmdet(OFFICIAL, load_file(tmp_path / "random" / "model.safetensors"))
    assert len(theirs) == 649
    source = zipped({"state_dict": older_state(theirs)}, tmp_path)
    told = convert(source, tmp_path / "out")
    assert (told["parameters"], told["official_architecture"]) == (68_739_547, True)
    assert same(to_mmdet(OFFICIAL, load_file(tmp_path / "out" / "model.safetensors")), theirs)
