"""The estimate against what torch itself counts: FLOPs, parameters, bytes that autograd keeps, peaks of live tensors."""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from star_bench.catalogue import checkpoints
from star_bench.errors import MissingWeights, UsageError
from star_bench.generation.lora import NAME
from star_bench.generation.sampler import Embedding
from star_bench.training import recipe as recipes
from star_bench.training.architecture import (
    SD35_MEDIUM_TRANSFORMER,
    SD35_MEDIUM_VAE,
    SD35_MEDIUM_VAE_WIDTHS,
    Architecture,
    activations,
    architecture_of,
    decode_bytes,
    lora_size,
    transformer_flops,
)
from star_bench.training.dry_run import dry_run
from star_bench.training.estimate import Estimate, estimate
from star_bench.training.policy import LoraPolicy
from star_bench.training.velocity import Conditioning, GuidedVelocity

RANK, TEXT = 4, 32
DUAL = {"num_layers": 6, "num_attention_heads": 2, "dual_attention_layers": (0, 1, 2)}
WIDE = {"num_layers": 4, "num_attention_heads": 4, "dual_attention_layers": ()}


@pytest.fixture(scope="module")
def sd35() -> Architecture:
    return architecture_of(checkpoints.resolve("sd3.5-medium"))


@pytest.fixture(scope="module")
def ocr() -> Estimate:
    return estimate(recipes.load("star-ocr"))


def small(sizes: dict[str, Any]) -> Architecture:
    width = 64 * sizes["num_attention_heads"]
    changed = {"caption_projection_dim": width, "joint_attention_dim": 64, "pooled_projection_dim": 32}
    said = {**SD35_MEDIUM_TRANSFORMER, **changed, "sample_size": 32, "pos_embed_max_size": 32, **sizes}
    with torch.device("meta"):
        config = dict(SD3Transformer2DModel.from_config(said).config)
    return Architecture(config, 0, {}, 0, SD35_MEDIUM_VAE_WIDTHS, 77, False)


def step(
    architecture: Architecture, side: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[LoraPolicy, Callable[[], Tensor]]:
    """The policy on a transformer with random weights, and its velocity for one sample with `side` x `side` latents."""
    with torch.device(device):
        transformer = SD3Transformer2DModel.from_config(architecture.transformer).to(dtype).requires_grad_(False)
        names = ("vae", *(f"{part}{end}" for part in ("text_encoder", "tokenizer") for end in ("", "_2", "_3")))
        pipe = StableDiffusion3Pipeline(
            transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **dict.fromkeys(names)
        )
        sizes = [architecture.transformer[f"{name}_dim"] for name in ("joint_attention", "pooled_projection")]
        text = Embedding(torch.ones(1, TEXT, sizes[0], dtype=dtype), torch.ones(1, sizes[1], dtype=dtype))
        policy = LoraPolicy(pipe, rank=RANK, alpha=RANK, seed=0, guidance_scale=1, against=text)
        x, sigma = torch.ones(1, architecture.transformer["in_channels"], side, side), torch.full((1,), 0.5)
    return policy, lambda: policy.velocity(x, sigma, Conditioning.of([text]))


class Live(TorchDispatchMode):
    """Bytes of the storages that were made inside and are still there: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in given and storage._cdata not in self.known:
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                self.known[storage._cdata] = weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        del self.known[key]


def whole_step(
    architecture: Architecture, side: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[GuidedVelocity, Callable[[], Tensor]]:
    """The same with all weights trained, whole on one device, as a block is that FSDP has gathered."""
    policy, velocity = step(architecture, side, dtype, device)
    policy.transformer.delete_adapters(NAME)
    policy.transformer.requires_grad_(True)
    return policy, velocity


def kept_bytes(policy: GuidedVelocity, velocity: Callable[[], Tensor]) -> int:
    """What autograd keeps of a forward, each storage once, without the weights."""
    weights = {p.untyped_storage()._cdata for p in policy.transformer.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        velocity()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_sd35_medium_is_known_without_its_files(sd35: Architecture) -> None:
    assert not sd35.measured
    # Stability AI calls it 2.5 billion parameters, which is with the position table.
    assert sd35.transformer_numbers == 2_243_171_520 + 384 * 384 * 1536
    assert (sd35.latent_shape(512, 512), sd35.image_tokens(512, 512)) == ((16, 64, 64), 1024)


def test_the_lora_is_flow_grpos(sd35: Architecture) -> None:
    assert lora_size(sd35, 32) == (191, 18_776_064)


def test_a_forward_of_sd35_medium_is_what_was_counted(sd35: Architecture) -> None:
    """2.224 TFLOP at 512 px with 205 text tokens, by torch.utils.flop_counter on the meta device."""
    flops = transformer_flops(sd35, image_tokens=1024, text_tokens=205, rank=32)
    assert flops.forward == pytest.approx(2.224e12, rel=0.001)
    assert flops.lora < 0.02 * flops.forward


@pytest.mark.parametrize("all_weights", [False, True])
@pytest.mark.parametrize("sizes", [DUAL, WIDE])
def test_flops_are_those_that_torch_counts(sizes: dict[str, Any], all_weights: bool) -> None:
    architecture = small(sizes)
    rank, make = (None, whole_step) if all_weights else (RANK, step)
    found = transformer_flops(architecture, image_tokens=64, text_tokens=TEXT, rank=rank)
    _, velocity = make(architecture, 16, torch.float32, "meta")
    with FlopCounterMode(display=False) as forward:
        out = velocity()
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert found.forward + found.lora == pytest.approx(forward.get_total_flops(), rel=0.001)
    assert found.backward == pytest.approx(backward.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("all_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sizes", [DUAL, WIDE])
def test_activations_are_those_that_autograd_keeps(
    sizes: dict[str, Any], dtype: torch.dtype, all_weights: bool
) -> None:
    architecture, number_bytes = small(sizes), dtype.itemsize
    found = activations(
        architecture, image_tokens=256, text_tokens=TEXT, number_bytes=number_bytes, all_weights=all_weights
    )
    policy, velocity = (whole_step if all_weights else step)(architecture, 32, dtype)
    trained = [p for p in policy.transformer.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)  # counted with the weights, not with activations
    assert found.kept == pytest.approx(kept_bytes(policy, velocity), rel=0.05)
    with Live() as live:
        velocity().sum().backward()
    assert found.update(checkpointing=False, reference=False) == pytest.approx(live.peak, rel=0.1)
    with Live() as live, torch.no_grad():
        velocity()
    assert 0.8 * found.forward < live.peak < found.forward
    policy.transformer.enable_gradient_checkpointing()
    with Live() as live:
        velocity().sum().backward()
    assert found.update(checkpointing=True, reference=False) == pytest.approx(live.peak, rel=0.15)


def test_the_miniatures_numbers_come_from_the_same_code() -> None:
    miniature = architecture_of(checkpoints.resolve("miniature"))
    assert miniature.measured
    found = activations(miniature, image_tokens=64, text_tokens=TEXT, number_bytes=4)
    policy, velocity = step(miniature, 16, torch.float32)
    assert found.kept == pytest.approx(kept_bytes(policy, velocity), rel=0.1)
    base = [p for p in policy.transformer.state_dict(keep_vars=True).values() if not p.requires_grad]
    assert miniature.transformer_numbers == sum(p.numel() for p in base)
    assert estimate(recipes.load("star-geneval-mini"), device="cpu").memory.peak < 1e9


def test_decoding_needs_three_maps_of_the_full_size(sd35: Architecture) -> None:
    blocks = {
        f"{way}_block_types": [f"{kind}Block2D"] * 4 for way, kind in (("down", "DownEncoder"), ("up", "UpDecoder"))
    }
    with torch.device("meta"):
        vae = AutoencoderKL(
            **blocks,
            block_out_channels=SD35_MEDIUM_VAE_WIDTHS,
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        assert sum(p.numel() for p in vae.parameters()) == SD35_MEDIUM_VAE
        with torch.no_grad(), Live() as live:
            vae.decode(torch.empty(1, 16, 64, 64))
    assert decode_bytes(sd35, height=512, width=512) == pytest.approx(live.peak, rel=0.01)


def test_cost_of_the_papers_run_is_what_its_author_reports() -> None:
    """Flow-GRPO, OCR: 1,000 updates took 16 hours on 24 A800, whose peak is an A100's; that is a utilisation of 22 %."""
    found = estimate(recipes.load("flow-grpo-ocr"), processes=24)
    assert found.cost.rollout_per_image == pytest.approx(2 * 10 * 2.224, rel=0.02)
    assert found.cost.update_per_image == pytest.approx(126, rel=0.01)
    assert 500 * found.hours_per_epoch(utilisation=0.22) == pytest.approx(16, rel=0.05)


@pytest.mark.parametrize(
    ("change", "factor"),
    [("objective.kl=0", 0.68), ("compute.gradient_checkpointing=true", 1.32), ("rollout.window=3", 1 / 3)],
)
def test_what_makes_an_update_cheaper_or_dearer(ocr: Estimate, change: str, factor: float) -> None:
    before, after = ocr.cost, estimate(recipes.load("star-ocr", [change])).cost
    assert after.update_per_image / before.update_per_image == pytest.approx(factor, abs=0.01)
    assert after.rollout_per_image == before.rollout_per_image


def test_processes_share_an_epochs_trajectories(ocr: Estimate) -> None:
    one, many = ocr, estimate(ocr.recipe, processes=24)
    kept = "kept trajectories of an epoch"
    assert one.memory.resident[kept] == 24 * many.memory.resident[kept]
    assert one.plan == many.plan
    with pytest.raises(UsageError, match="48 prompts can't be shared by 7 processes"):
        estimate(ocr.recipe, processes=7)


def test_a_dry_run_needs_no_weights_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rows = {(row["part"], row["what"], row["unit"]): row["value"] for row in dry_run(recipes.load("star-geneval-24gb"))}
    assert rows["plan", "images per epoch", None] == 192
    assert rows["plan", "LoRA", "parameters"] == 18_776_064
    assert rows["memory", "peak", "GB"] < 24
    assert rows["cost", "epoch", "hours"] > 0


def test_all_weights_are_shared_by_the_processes_and_the_rest_is_not() -> None:
    recipe = recipes.load("star-ocr", ["lora=null", "compute.precision=bfloat16"])
    one, many = estimate(recipe), estimate(recipe, processes=24)
    share = "a share of the transformer, float32, with gradient, AdamW and average"
    assert one.memory.resident[share] == 24 * many.memory.resident[share] == 20 * 2_243_171_520
    rest = [sum(found.memory.resident.values()) - found.memory.resident[share] for found in (one, many)]
    kept = [found.memory.resident["kept trajectories of an epoch"] for found in (one, many)]
    assert rest[0] - kept[0] == pytest.approx(rest[1] - kept[1])
    assert one.trained == 2_243_171_520 and one.lora is None
    rows = {(row["part"], row["what"]): row["value"] for row in dry_run(recipe, processes=24)}
    assert rows["plan", "trained"] == 2_243_171_520
    with pytest.raises(UsageError, match="all weights can't be trained in float16"):
        estimate(recipes.load("star-ocr", ["lora=null", "compute.precision=float16"]))


def test_a_model_that_is_not_here_is_told_so() -> None:
    with pytest.raises(MissingWeights, match="not in the Hugging Face cache"):
        estimate(recipes.load("star-ocr", ["model=someone/else", "allocation.blocks=[1]"]))
