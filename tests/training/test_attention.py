"""Recording never changes the transformer's output, and its maps are the softmax that an explicit one gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from star_bench.errors import UsageError
from star_bench.training.attention import AttentionCapture

BATCH, TEXT, SIDE = 4, 11, 5
IMAGE = SIDE * SIDE
POSITIONS = torch.tensor([[0, 10, 3], [7, 7, -1], [-1, -1, -1], [4, 5, 6]])


def tiny(*, head_size: int = 8, **config: Any) -> SD3Transformer2DModel:
    """Three blocks, dual attention in the first two, as in SD3.5 the last one's text goes no further."""
    torch.manual_seed(0)
    options = {"qk_norm": "rms_norm", "num_layers": 3, "num_attention_heads": 4, "dual_attention_layers": (0, 1)}
    options |= config
    model = SD3Transformer2DModel(
        in_channels=4,
        out_channels=4,
        attention_head_dim=head_size,
        joint_attention_dim=32,
        caption_projection_dim=4 * head_size,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        **options,
    )
    with torch.no_grad():
        for attn in (block.attn for block in model.transformer_blocks):
            for layer in (attn.to_q, attn.to_k, attn.add_k_proj):
                layer.weight.mul_(4)  # else attention is all but uniform
            if attn.norm_q is not None:
                attn.norm_q.weight.mul_(4)
    return model.eval()


def inputs(model: SD3Transformer2DModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = {"hidden_states": (4, 2 * SIDE, 2 * SIDE), "encoder_hidden_states": (TEXT, 32), "pooled_projections": (16,)}
    tensors = {name: torch.randn(BATCH, *size, generator=generator) for name, size in sizes.items()}
    tensors = {name: tensor.to(model.device, model.dtype) for name, tensor in tensors.items()}
    return tensors | {"timestep": torch.tensor([900.0, 500, 250, 3], device=model.device)}


def run(model: Any, arguments: dict[str, Tensor]) -> Tensor:
    return model(**arguments, return_dict=False)[0]


@torch.no_grad()
def explicit(model: SD3Transformer2DModel, arguments: dict[str, Tensor], block: int) -> Tensor:
    """Softmax over each image token's whole joint row, mean over heads: (B, image tokens, image and text tokens)."""
    attn = model.transformer_blocks[block].attn
    seen: list[dict[str, Tensor]] = []
    hook = attn.register_forward_pre_hook(lambda _module, _args, kwargs: seen.append(kwargs), with_kwargs=True)
    run(model, arguments)
    hook.remove()
    image, text = seen[0]["hidden_states"], seen[0]["encoder_hidden_states"]

    def heads(states: Tensor, norm: Any) -> Tensor:
        states = states.reshape(BATCH, -1, attn.heads, states.shape[-1] // attn.heads).transpose(1, 2)
        return states if norm is None else norm(states)

    query = heads(attn.to_q(image), attn.norm_q).float()
    keys = [heads(attn.to_k(image), attn.norm_k), heads(attn.add_k_proj(text), attn.norm_added_k)]
    return (query @ torch.cat(keys, 2).float().mT / query.shape[-1] ** 0.5).softmax(-1).mean(1)


def chosen(joint: Tensor, positions: Tensor) -> Tensor:
    """(B, image tokens, S) of `explicit`, keys without a position 0."""
    index = (IMAGE + positions.clamp(min=0))[:, None].expand(-1, joint.shape[1], -1)
    return joint.gather(2, index) * (positions >= 0)[:, None]


@pytest.mark.parametrize("qk_norm", [None, "rms_norm"])
def test_maps_are_the_explicit_softmax_and_the_output_is_unchanged(qk_norm: str | None) -> None:
    model = tiny(qk_norm=qk_norm)
    arguments = inputs(model)
    expected = {block: chosen(explicit(model, arguments, block), POSITIONS) for block in range(3)}
    with torch.no_grad():
        stock = run(model, arguments)
        capture = AttentionCapture(model, [2, 0])  # 2: the last block, whose text is not projected back
        assert torch.equal(run(model, arguments), stock)
        with capture.recording(POSITIONS, IMAGE) as maps:
            assert maps.isnan().all()
            assert torch.equal(run(model, arguments), stock)
    assert maps.shape == (2, BATCH, IMAGE, 3) and maps.dtype == torch.float32
    for found, block in zip(maps, (2, 0), strict=True):
        assert (found - expected[block]).abs().max() < 1e-6
    assert maps[:, 1, :, 2].eq(0).all() and maps[:, 2].eq(0).all()
    assert maps[:, 0].std(dim=1).min() > 1e-3  # the tokens differ, so the comparison means something


def test_the_second_half_of_the_batch_can_be_recorded_alone() -> None:
    model = tiny()
    arguments = inputs(model)
    with torch.no_grad(), AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as whole:
        run(model, arguments)
    model = tiny()
    capture = AttentionCapture(model, [1])
    with torch.no_grad(), capture.recording(POSITIONS[2:], IMAGE, slice(2, None)) as half:
        run(model, arguments)
    assert torch.equal(half, whole[:, 2:])


def test_gradients_outside_of_recording_are_the_stock_ones() -> None:
    grads = []
    for blocks in ([], [0, 2]):
        model = tiny()
        if blocks:
            AttentionCapture(model, blocks)
        run(model.train(), inputs(model)).square().mean().backward()
        grads.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(grads[0]) > 50
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_recording_with_gradients_is_refused() -> None:
    model = tiny()
    with (
        AttentionCapture(model, [0]).recording(POSITIONS, IMAGE),
        pytest.raises(RuntimeError, match=r"torch\.no_grad"),
    ):
        run(model, inputs(model))


def test_lora_layers_work_unchanged() -> None:
    model = tiny()
    config = LoraConfig(
        r=2, lora_alpha=4, target_modules=["attn.to_q", "attn.to_k", "attn.add_k_proj", "attn.to_out.0"]
    )
    inject_adapter_in_model(config, model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(2))
        arguments = inputs(model)
        stock, expected = run(model, arguments), chosen(explicit(model, arguments, 1), POSITIONS)
        assert not torch.allclose(stock, run(tiny(), arguments))
        with AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as maps:
            assert torch.equal(run(model, arguments), stock)
    assert (maps[0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_but_the_precision(half: torch.dtype) -> None:
    model = tiny()
    arguments = inputs(model)
    with torch.no_grad():
        exact = chosen(explicit(model, arguments, 1), POSITIONS)
        with torch.autocast("cpu", half):
            stock = run(model, arguments)
            with AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as maps:
                assert torch.equal(run(model, arguments), stock)
    assert (maps[0] - exact).abs().max() < 0.05


def test_half_precision_maps_are_those_of_the_half_precision_keys() -> None:
    model = tiny().to(torch.bfloat16)
    arguments = inputs(model)
    with torch.no_grad():
        stock, expected = run(model, arguments), chosen(explicit(model, arguments, 1), POSITIONS)
        with AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as maps:
            assert torch.equal(run(model, arguments), stock)
    torch.testing.assert_close(maps[0], expected, rtol=1e-3, atol=1e-6)  # of bfloat16 scores it would be 1e-2


def test_where_the_kernel_gives_no_log_sum_exp_it_is_computed() -> None:
    model = tiny()
    arguments = inputs(model)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        stock, expected = run(model, arguments), chosen(explicit(model, arguments, 1)[1:3], POSITIONS[1:3])
        with AttentionCapture(model, [1]).recording(POSITIONS[1:3], IMAGE, slice(1, 3)) as maps:
            assert torch.equal(run(model, arguments), stock)
    assert (maps[0] - expected).abs().max() < 1e-6


def test_torch_compile_sees_no_graph_break_and_compiles_equal_blocks_once() -> None:
    model = tiny(dual_attention_layers=())
    arguments = inputs(model)
    graphs: list[torch.fx.GraphModule] = []

    def eager(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        stock = run(model, arguments)
        capture = AttentionCapture(model, [0, 1])
        with capture.recording(POSITIONS, IMAGE) as expected:
            run(model, arguments)
        torch._dynamo.reset()
        for block in model.transformer_blocks:
            block.compile(backend=eager, fullgraph=True)
        assert torch.equal(run(model, arguments), stock)
        for _ in range(2):  # each time into maps of its own
            with capture.recording(POSITIONS, IMAGE) as maps:
                assert torch.equal(run(model, arguments), stock)
            assert torch.equal(maps, expected)
        kept = maps.clone()
        assert torch.equal(run(model, arguments), stock)
    assert torch.equal(maps, kept)
    assert len(graphs) == 3  # the two blocks idle, the two recording, and the last one


def test_only_the_joint_attention_of_chosen_blocks_is_replaced_and_can_be_put_back() -> None:
    model = tiny()
    before = model.attn_processors
    capture = AttentionCapture(model, (0, 1))
    changed = {name for name, processor in model.attn_processors.items() if processor is not before[name]}
    assert changed == {"transformer_blocks.0.attn.processor", "transformer_blocks.1.attn.processor"}
    assert isinstance(model.transformer_blocks[0].attn2.processor, JointAttnProcessor2_0)
    capture.remove()
    assert all(processor is before[name] for name, processor in model.attn_processors.items())
    AttentionCapture(model, [0])


def test_sd35_medium_has_a_joint_attention_in_each_of_its_24_blocks_and_13_besides() -> None:
    with torch.device("meta"):
        model = SD3Transformer2DModel(
            num_layers=24, num_attention_heads=24, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"
        )
    assert sum(isinstance(module, Attention) for module in model.modules()) == 37
    AttentionCapture(model, range(24))
    stock = [name for name, it in model.attn_processors.items() if type(it) is JointAttnProcessor2_0]
    assert stock == [f"transformer_blocks.{block}.attn2.processor" for block in range(13)]


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [([3], "no block 3: choose from 0 to 2"), ([-1], "no block -1"), ([0, 0], "not distinct"), ([], "none")],
)
def test_blocks_that_cannot_be_captured_are_named(blocks: list[int], problem: str) -> None:
    model = tiny()
    with pytest.raises(UsageError, match=problem):
        AttentionCapture(model, blocks)
    assert all(type(processor) is JointAttnProcessor2_0 for processor in model.attn_processors.values())


def test_a_block_is_captured_once() -> None:
    model = tiny()
    AttentionCapture(model, [1])
    with pytest.raises(UsageError, match="block 1 has a "):
        AttentionCapture(model, [0, 1])


def test_a_forward_of_another_size_is_refused() -> None:
    model = tiny()
    capture = AttentionCapture(model, [0])
    for positions, tokens in ((POSITIONS, IMAGE + 1), (POSITIONS[:2], IMAGE), (POSITIONS[:1], IMAGE)):
        with (
            torch.no_grad(),
            capture.recording(positions, tokens),
            pytest.raises(RuntimeError, match="the forward has"),
        ):
            run(model, inputs(model))
    with torch.no_grad():
        assert run(model, inputs(model)).isfinite().all()  # it stopped recording


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]
)
def test_on_a_gpu_every_kernel_gives_its_own_output_and_the_same_maps(backend: SDPBackend, dtype: torch.dtype) -> None:
    model = tiny(head_size=64).to("cuda", dtype)
    arguments = inputs(model)
    positions = POSITIONS.cuda()
    with torch.no_grad(), sdpa_kernel(backend):
        stock, expected = run(model, arguments), chosen(explicit(model, arguments, 1), positions)
        with AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as maps:  # 36 tokens: not a multiple of 32
            assert torch.equal(run(model, arguments), stock)
    assert (maps[0] - expected).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("head_size", [12, 64])
def test_on_a_gpu_the_default_kernel_is_the_one_that_is_asked(head_size: int) -> None:
    model = tiny(head_size=head_size).to("cuda", torch.bfloat16)
    arguments = inputs(model)
    with torch.no_grad():
        stock, expected = run(model, arguments), chosen(explicit(model, arguments, 1), POSITIONS.cuda())
        with AttentionCapture(model, [1]).recording(POSITIONS, IMAGE) as maps:
            assert torch.equal(run(model, arguments), stock)
    assert (maps[0] - expected).abs().max() < 1e-4
