"""How much each image token attends to chosen text tokens in SD3's joint blocks, at next to no cost.

The attention kernel knows the log-sum-exp (lse) of every query's scores already. With it the probability on a chosen
key is exp(q . k / sqrt(d) - lse): no second softmax and no matrix of all queries by all keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor
from torch.nn.attention import SDPBackend

from star_bench.errors import UsageError

ALL = slice(None)


class AttentionCapture:
    """Text-image attention of chosen joint blocks of an SD3Transformer2DModel, recorded on demand.

    Only `transformer_blocks[b].attn` of these blocks is touched, never `attn2`, which sees no text. The transformer's
    output stays that of diffusers' JointAttnProcessor2_0, bit for bit: outside `recording` the stock processor itself
    is called, inside it the kernel that torch would choose. LoRA layers need nothing, and torch.compile sees
    no graph break; starting or stopping to record compiles once more.
    """

    def __init__(self, transformer: Any, blocks: Sequence[int]) -> None:
        """Raises UsageError for a block that isn't there, is named twice or has another processor already."""
        known = len(transformer.transformer_blocks)
        for block in blocks:
            if block not in range(known):
                raise UsageError(f"the transformer has no block {block}", f"choose from 0 to {known - 1}")
        if not blocks or len(set(blocks)) != len(blocks):
            raise UsageError(f"the blocks {list(blocks)} are none or not distinct", "name each block once")
        attentions = {block: transformer.transformer_blocks[block].attn for block in blocks}
        for block, attn in attentions.items():
            if type(attn.processor) is not JointAttnProcessor2_0:
                raise UsageError(
                    f"block {block} has a {type(attn.processor).__name__}, whose attention can't be recorded",
                    "remove it, or the capture that is there already",
                )
        self._transformer = transformer
        self._attentions = list(attentions.values())
        self._recorders = [_Recorder(attn.processor) for attn in self._attentions]
        for attn, recorder in zip(self._attentions, self._recorders, strict=True):
            attn.set_processor(recorder)

    def remove(self) -> None:
        """Puts the stock processors back."""
        for attn, recorder in zip(self._attentions, self._recorders, strict=True):
            attn.set_processor(recorder.stock)

    @contextmanager
    def recording(self, positions: Tensor, image_tokens: int, rows: slice = ALL) -> Iterator[Tensor]:
        """Yields the maps (blocks, B, image_tokens, S) in float32, in the order of the blocks, for forwards to fill.

        They hold the mean over heads of the probability that image token n gives to chosen key s, where the softmax
        runs over the whole joint row, image and text. Image tokens are row-major. Each forward writes all of them, so
        the last one counts; before the first they are NaN.

        positions: (B, S) long, the chosen keys among the text tokens (0 is CLIP's first); a negative one stands for
        none, its probability is 0. rows: the B samples of the forward's batch that are recorded, by default all; of
        diffusers' [unconditional, conditional] the second half.
        The forwards must run without gradients: maps are constants of a rollout, and one that is recorded with
        gradients would keep its graph alive. Otherwise, and for a batch or picture of another size, they raise
        RuntimeError.
        """
        positions = positions.to(self._transformer.device)
        shape = (len(self._recorders), len(positions), image_tokens, positions.shape[1])
        maps = torch.full(shape, math.nan, dtype=torch.float32, device=positions.device)
        places = torch.arange(len(maps), device=maps.device).split(1)
        for recorder, place in zip(self._recorders, places, strict=True):
            recorder.request = _Request(maps, place, positions, rows)
        try:
            yield maps
        finally:
            for recorder in self._recorders:
                recorder.request = None


@dataclass(frozen=True)
class _Request:
    """What one block records, see `AttentionCapture.recording`."""

    maps: Tensor
    place: Tensor
    """(1,): which of the maps is this block's. For an integer torch.compile would compile each block anew."""
    positions: Tensor
    rows: slice


class _Recorder:
    """A processor for one block's `attn` that writes maps[place] while it has a request."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock
        self.request: _Request | None = None

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Image (B, N, D) and text (B, L, D) after attention. The mask is ignored, as in the stock processor."""
        if self.request is None:
            return self.stock(attn, hidden_states, encoder_hidden_states, attention_mask)
        if torch.is_grad_enabled():
            raise RuntimeError("attention is recorded in rollouts only: run the transformer under torch.no_grad()")
        image_tokens = hidden_states.shape[1]
        query, key, value = _projections(attn, hidden_states, encoder_hidden_states)
        dtype = query.dtype
        query, key, value = _as_autocast(query, key, value)
        output, lse = attention_with_lse(query, key, value)
        self._record(query, key, lse, image_tokens)
        joint = output.transpose(1, 2).flatten(2).to(dtype)
        image, text = joint[:, :image_tokens], joint[:, image_tokens:]
        if not attn.context_pre_only:
            text = attn.to_add_out(text)
        return attn.to_out[1](attn.to_out[0](image)), text

    def _record(self, query: Tensor, key: Tensor, lse: Tensor | None, image_tokens: int) -> None:
        """query, key: (B, heads, image and text tokens, d). lse: (B, heads, tokens), or None to compute it here."""
        assert self.request is not None
        maps, positions, rows = self.request.maps, self.request.positions, self.request.rows
        # Half precision would round the scores by up to a tenth before they are exponentiated.
        with torch.autocast(query.device.type, enabled=False):
            queries = query[rows, :, :image_tokens].float() / math.sqrt(query.shape[-1])
            if queries.shape[0] != maps.shape[1] or image_tokens != maps.shape[2]:
                raise RuntimeError(
                    f"maps of {maps.shape[1]} samples with {maps.shape[2]} image tokens are recorded, "
                    f"but the forward has {queries.shape[0]} with {image_tokens}"
                )
            lse = (queries @ key[rows].float().mT).logsumexp(-1) if lse is None else lse[rows, :, :image_tokens]
            texts = key[rows, :, image_tokens:]
            index = positions.clamp(min=0)[:, None, :, None].expand(-1, texts.shape[1], -1, texts.shape[3])
            scores = queries @ texts.gather(2, index).float().mT
            probabilities = (scores - lse[..., None]).exp().mean(1)
            probabilities = torch.where((positions >= 0)[:, None], probabilities, 0)
            maps.index_copy_(0, self.request.place, probabilities[None])


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
    """F.scaled_dot_product_attention and what its kernel knows: the log-sum-exp of each query's scaled scores.

    query, key, value: (B, heads, tokens, d). Returns (B, heads, tokens, d) and (B, heads, tokens) in float32. The
    kernel is the one that torch itself would choose, so that the output is bit for bit the same. The second is None
    where that kernel gives none: the unfused one, devices other than CPU and CUDA, and a head size that torch would
    pad for flash attention (no multiple of 8). Then it has to be computed from all scores.
    """
    aten = torch.ops.aten
    device = query.device.type
    backend = _chosen_backend(query.device, query.dtype, query.shape[1], query.shape[2], query.shape[3])
    if backend == "FLASH_ATTENTION" and device == "cpu":
        output, lse = aten._scaled_dot_product_flash_attention_for_cpu.default(query, key, value)
    elif backend == "FLASH_ATTENTION" and query.shape[-1] % 8 == 0:
        output, lse, *_ = aten._scaled_dot_product_flash_attention.default(query, key, value)
    elif backend == "EFFICIENT_ATTENTION":
        output, lse, *_ = aten._scaled_dot_product_efficient_attention.default(query, key, value, None, True)
    elif backend == "CUDNN_ATTENTION":
        output, lse, *_ = aten._scaled_dot_product_cudnn_attention.default(query, key, value, None, True)
    else:
        return F.scaled_dot_product_attention(query, key, value), None
    # The efficient kernel pads the queries to a multiple of 32, cuDNN's result has a last dimension of size 1.
    return output, lse.flatten(2)[:, :, : query.shape[2]]


def _chosen_backend(device: torch.device, dtype: torch.dtype, heads: int, tokens: int, size: int) -> str:
    """The name of the SDPBackend that F.scaled_dot_product_attention takes for self-attention without gradients.

    Asked with empty tensors, whose batch can't matter: torch.compile may take the answer for a constant, but it
    would have to run the model up to here to ask about real ones.
    """
    if device.type not in ("cpu", "cuda"):
        return SDPBackend.MATH.name
    tensor = torch.empty((1, heads, tokens, size), device=device, dtype=dtype)
    return SDPBackend(torch._fused_sdp_choice(tensor, tensor, tensor)).name


torch.compiler.assume_constant_result(_chosen_backend)  # it marks the function; as a decorator it would hide its types


def _projections(attn: Any, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, heads, image and then text tokens, d), as JointAttnProcessor2_0 makes them."""

    def heads(states: Tensor, norm: Any = None) -> Tensor:
        states = states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        return states if norm is None else norm(states)

    query = heads(attn.to_q(image), attn.norm_q), heads(attn.add_q_proj(text), attn.norm_added_q)
    key = heads(attn.to_k(image), attn.norm_k), heads(attn.add_k_proj(text), attn.norm_added_k)
    value = heads(attn.to_v(image)), heads(attn.add_v_proj(text))
    return torch.cat(query, dim=2), torch.cat(key, dim=2), torch.cat(value, dim=2)


def _as_autocast(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What autocast makes of the arguments of F.scaled_dot_product_attention; it doesn't know the kernels below it."""
    device = query.device.type
    if not torch.is_autocast_enabled(device):
        return query, key, value
    dtype = torch.get_autocast_dtype(device)
    return query.to(dtype), key.to(dtype), value.to(dtype)
