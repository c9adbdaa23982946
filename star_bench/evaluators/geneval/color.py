"""GenEval's colour judge: CLIP on the object alone, cut out onto flat grey.

OpenAI's CLIP uses QuickGELU; open_clip's plain "ViT-L-14" gives GELU and only warns, so the official card names
"ViT-L-14-quickgelu".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

BACKGROUND = (153, 153, 153)  # official "#999"
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


def crop(image: np.ndarray, box: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The object on flat grey, cut to its box. image uint8 (H, W, 3); mask bool (H, W)."""
    pasted = np.where(mask[..., None], image, np.array(BACKGROUND, np.uint8))
    x1, y1, x2, y2 = (int(v) for v in box)
    return Image.fromarray(np.ascontiguousarray(pasted[y1:y2, x1:x2]))


class OpenClipColorJudge:
    """Zero-shot colour by an open_clip model from a local folder, in float32."""

    def __init__(self, folder: Path, colors: Sequence[str], *, device: str = "cpu") -> None:
        self.colors = list(colors)
        self.device = device
        name = f"local-dir:{folder}"
        self.model, self.transform = open_clip.create_model_from_pretrained(name, device=device, precision="fp32")
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self._prototypes: dict[str, Tensor] = {}

    def _prototype(self, name: str) -> Tensor:
        """(colours, D): per colour, the templates' normalised embeddings averaged and normalised again."""
        if name not in self._prototypes:
            texts = [t.format(color=color, name=name) for color in self.colors for t in TEMPLATES]
            embedded = F.normalize(self.model.encode_text(self.tokenizer(texts).to(self.device)), dim=-1)
            mean = embedded.view(len(self.colors), len(TEMPLATES), -1).mean(1)
            self._prototypes[name] = F.normalize(mean, dim=-1)
        return self._prototypes[name]

    @torch.inference_mode()
    def votes(self, name: str, crops: Sequence[Image.Image]) -> np.ndarray:
        """(N, colours) cosine similarities."""
        pixels = torch.stack([self.transform(picture) for picture in crops]).to(self.device)
        embedded = F.normalize(self.model.encode_image(pixels), dim=-1)
        return (embedded @ self._prototype(name).T).float().cpu().numpy()
