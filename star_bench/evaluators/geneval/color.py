"""GenEval's colour judge: CLIP on the object alone, cut out onto flat grey.

OpenAI's CLIP uses QuickGELU; open_clip's plain "ViT-L-14" gives GELU and only warns, and its colours are then silently
others. So a card says which activation it means, and a model with the other one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor

from star_bench.errors import Refused

BACKGROUND = (153, 153, 153)  # official "#999"
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
BATCH = 32
"""Crops per forward, as in the official evaluator."""


def crop(image: np.ndarray, box: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The object on flat grey, cut to its box. image uint8 (H, W, 3); mask bool (H, W)."""
    x1, y1, x2, y2 = (int(v) for v in box)
    inside = np.s_[y1:y2, x1:x2]
    return Image.fromarray(np.where(mask[inside][..., None], image[inside], np.array(BACKGROUND, np.uint8)))


class OpenClipColorJudge:
    """Zero-shot colour by an open_clip model from a local folder, in float32.

    Raises Refused where quick_gelu is given and the model's activation is the other one.
    """

    def __init__(
        self, folder: Path, colors: Sequence[str], *, device: str = "cpu", quick_gelu: bool | None = None
    ) -> None:
        self.colors = list(colors)
        self.device = device
        name = f"local-dir:{folder}"
        self.model, self.transform = open_clip.create_model_from_pretrained(name, device=device, precision="fp32")
        self.model.eval()
        *self._steps, _, normalise = self.transform.transforms  # Pillow's; then to a tensor, and by mean and deviation
        self._threads = ThreadPoolExecutor(thread_name_prefix="crops")
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (normalise.mean, normalise.std)
        )
        self._temperature = self.model.logit_scale.exp().item()
        found = any(isinstance(module, QuickGELU) for module in self.model.modules())
        if quick_gelu is not None and found != quick_gelu:
            asked, got = ("QuickGELU", "GELU") if quick_gelu else ("GELU", "QuickGELU")
            raise Refused(
                f"the colour judge in {folder} was built with {got} and the suite asks for {asked}",
                f'write "quick_gelu": {str(quick_gelu).lower()} into its open_clip_config.json, or fetch it again',
            )
        self.tokenizer = open_clip.get_tokenizer(name)
        self._prototypes: dict[str, Tensor] = {}
        self._embedded: dict[str, Tensor] = {}

    def _prototype(self, name: str) -> Tensor:
        """(colours, D): per colour, the templates' normalised embeddings averaged and normalised again."""
        if name not in self._prototypes:
            texts = [t.format(color=color, name=name) for color in self.colors for t in TEMPLATES]
            new = [text for text in texts if text not in self._embedded]
            embedded = F.normalize(self.model.encode_text(self.tokenizer(new).to(self.device)), dim=-1)
            self._embedded |= zip(new, embedded, strict=True)  # "a photo of a red object" serves all classes
            each = torch.stack([self._embedded[text] for text in texts])
            mean = each.view(len(self.colors), len(TEMPLATES), -1).mean(1)
            self._prototypes[name] = F.normalize(mean, dim=-1)
        return self._prototypes[name]

    def _resized(self, crop: Image.Image) -> np.ndarray:
        """uint8 (side, side, 3)."""
        return np.asarray(reduce(lambda picture, step: step(picture), self._steps, crop))

    def _pixels(self, crops: Sequence[Image.Image]) -> Tensor:
        """(N, 3, side, side) as the model takes them: `transform` of each crop, to the last bit.

        Resized by Pillow, whose numbers no device has, but several at once, which it allows; then one copy of bytes.
        """
        resized = np.stack(list(self._threads.map(self._resized, crops)))
        planes = torch.from_numpy(resized).to(self.device).permute(0, 3, 1, 2).float()
        # By a tensor: a division by a number is on a GPU a multiplication, whose last bit may differ.
        return (planes / planes.new_tensor(255.0) - self._mean) / self._std

    @torch.inference_mode()
    def votes(self, names: Sequence[str], crops: Sequence[Image.Image]) -> np.ndarray:
        """(N, colours) cosine similarities; names are the objects' classes, one per crop."""
        rows = [np.zeros((0, len(self.colors)), np.float32)]
        for start in range(0, len(crops), BATCH):
            embedded = F.normalize(self.model.encode_image(self._pixels(crops[start : start + BATCH])), dim=-1)
            prototypes = torch.stack([self._prototype(name) for name in names[start : start + BATCH]])
            rows.append(torch.einsum("nd,ncd->nc", embedded, prototypes).cpu().numpy())
        return np.concatenate(rows)

    def shares(self, votes: np.ndarray) -> np.ndarray:
        """(N, colours) cosine similarities as probabilities, at the temperature that the model was trained to."""
        logits = self._temperature * votes
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)
