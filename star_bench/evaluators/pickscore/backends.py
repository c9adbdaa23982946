"""The CLIPs that say how well a picture fits its prompt: PickScore through transformers, any other through open_clip.

Both load from this machine alone, are looked for before torch is imported, and run in float32 on one picture at a time:
matrix products differ in the last bits between batch sizes, and a score may not depend on its batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import PIL.Image
from pydantic import Field

from star_bench.assets.asset import Asset, Download, sizes
from star_bench.assets.downloads import Advance
from star_bench.assets.weights import WEIGHTS_VARIABLE, WeightsReference, weights_folder
from star_bench.catalogue.cards import Strict, did_you_mean, parse
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import MissingWeights, UsageError
from star_bench.evaluators.base import Aggregate, Cut, Image, Metric, Prompt, Score
from star_bench.evaluators.install import of_references
from star_bench.evaluators.tokens import cut_by, cut_by_open_clip, read_tokenizer
from star_bench.files.digests import folder_digest, sha256_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

PICKSCORE = "yuvalkirstain/PickScore_v1"
PICKSCORE_TOP = 26.0  # Flow-GRPO's reward is PickScore / 26
MOST_TOKENS = 77

OPEN_CLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors")
WEIGHT_FILES = ("config.json", "model.safetensors")
PROCESSOR_FILES = ("preprocessor_config.json", "tokenizer.json")


class OpenClipJudge(Strict):
    """A card's `judges` with backend open_clip: a CLIP in open_clip's local folder layout, such as the miniature's."""

    backend: Literal["open_clip"]
    metric: str = Field(min_length=1)
    """The metric's name."""
    weights: WeightsReference


class TransformersJudge(Strict):
    """A card's `judges` with backend transformers. A model is a Hugging Face repository or a folder; it is looked for
    in the card's folder, in the weights folder under its full name, and in the Hugging Face cache."""

    backend: Literal["transformers"]
    metric: str = Field(min_length=1)
    """The metric's name."""
    weights: str
    processor: str
    """Where image processor and tokenizer come from."""
    revision: str = "main"
    processor_revision: str = "main"
    """The hub's, for files in its cache; the shipped cards pin commits."""


class Backend(ABC):
    """Cosine of a picture and a text, and the scale that it is reported in."""

    device: str

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """Known without the weights."""

    def assets(self, card: SuiteCard) -> list[Asset]:
        """As `Evaluator.assets`."""
        return of_references(card)

    @abstractmethod
    def digests(self) -> dict[str, str]:
        """Name -> sha256 of all that judges. Raises MissingWeights, quickly; imports no torch."""

    @abstractmethod
    def cut(self, reader: str, prompts: Sequence[Prompt]) -> Cut:
        """Which prompts are longer than it reads."""

    @abstractmethod
    def _image(self, picture: PIL.Image.Image) -> Tensor:
        """(1, D) features."""

    @abstractmethod
    def _text(self, text: str) -> Tensor:
        """(1, D) features."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """exp(logit_scale)."""

    @abstractmethod
    def reward(self, cosine: float) -> float:
        """Partial credit in [0, 1]."""

    @property
    def views(self) -> tuple[Aggregate, ...]:
        """The headline, and the other scales that circulate, under their own names."""
        return (
            Aggregate("mean", f"mean {self.metric.unit}"),
            Aggregate("cosine", "mean cosine", value=lambda score: score.detail["cosine"]),
        )

    def cosine(self, image: Image, features: Tensor) -> float:
        """Of an image (H, W, 3) and text features (1, D), in [-1, 1]."""
        import torch

        with torch.inference_mode():
            seen = self._image(PIL.Image.fromarray(image))
            return float(torch.nn.functional.cosine_similarity(seen.float(), features))

    def text_features(self, text: str) -> Tensor:
        """(1, D) float32."""
        import torch

        with torch.inference_mode():
            return self._text(text).float()


def _over_26(score: Score) -> float:
    assert score.value is not None  # an aggregate only sees scores that are ok
    return score.value / PICKSCORE_TOP


class OpenClipBackend(Backend):
    """Any open_clip model from a folder."""

    def __init__(self, judge: OpenClipJudge, device: str) -> None:
        self.judge = judge
        self.device = device

    @cached_property
    def metric(self) -> Metric:
        try:
            version = self._digest[:12]  # another CLIP is another scale
        except MissingWeights:
            version = "not installed"
        return Metric(
            name=self.judge.metric,
            implementation="open_clip",
            version=version,
            unit="exp(logit_scale) * cosine",
            range=(None, None),
            licence="Apache-2.0",
            paper="arXiv:2103.00020",
        )

    @cached_property
    def _folder(self) -> Path:
        folder = self.judge.weights.locate()
        for name in OPEN_CLIP_FILES:
            if not (folder / name).is_file():
                raise MissingWeights(f"{folder} has no {name}", "put a folder that open_clip wrote there")
        return folder

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self._folder)

    def digests(self) -> dict[str, str]:
        return {self._folder.name: self._digest}

    @property
    def _source(self) -> str:
        """open_clip's name for the folder; beside pickles it takes the safetensors file, and a test holds it to that."""
        return f"local-dir:{self._folder}"

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(model, preprocess)."""
        source = self._source
        import open_clip

        model, preprocess = open_clip.create_model_from_pretrained(source, precision="fp32", device=self.device)
        return model.eval().requires_grad_(False), preprocess

    @cached_property
    def _tokenizer(self) -> Any:
        source = self._source
        import open_clip

        return open_clip.get_tokenizer(source)

    def cut(self, reader: str, prompts: Sequence[Prompt]) -> Cut:
        return cut_by_open_clip(reader, self._tokenizer, prompts)

    def _image(self, picture: PIL.Image.Image) -> Tensor:
        model, preprocess = self._parts
        return model.encode_image(preprocess(picture)[None].to(self.device))

    def _text(self, text: str) -> Tensor:
        return self._parts[0].encode_text(self._tokenizer([text]).to(self.device))

    @cached_property
    def scale(self) -> float:
        return float(self._parts[0].logit_scale.exp())

    def reward(self, cosine: float) -> float:
        return min(1.0, max(0.0, (cosine + 1) / 2))


class TransformersBackend(Backend):
    """PickScore_v1 (arXiv:2305.01569): CLIP-H fine-tuned on people's choices. Typical scores are 17 to 26."""

    def __init__(self, judge: TransformersJudge, card_folder: Path, device: str) -> None:
        self.judge = judge
        self.card_folder = card_folder
        self.device = device

    @property
    def metric(self) -> Metric:
        return Metric(
            name=self.judge.metric,
            implementation=f"transformers {self.judge.weights} float32",
            version=self.judge.revision[:12],
            unit=f"{self.judge.metric} (logit)",
            range=(None, None),
            licence="not stated",  # by its model card
            paper="arXiv:2305.01569",
        )

    @property
    def views(self) -> tuple[Aggregate, ...]:
        over = Aggregate("over_26", f"mean {self.judge.metric} / 26", value=_over_26)
        return (*super().views, over)

    def assets(self, card: SuiteCard) -> list[Asset]:
        judge = self.judge
        wanted = [
            *((judge.weights, name, judge.revision) for name in WEIGHT_FILES),
            *((judge.processor, name, judge.processor_revision) for name in PROCESSOR_FILES),
        ]
        files = [
            Download(hub=hub, file=name, revision=revision)
            for hub, name, revision in wanted
            if not (self.card_folder / hub).exists()
        ]

        def fetch(advance: Advance) -> None:
            for file in files:
                file.fetch(None, advance)

        here = Asset(f"the judge {judge.metric}", card.asked, lambda: self._files)
        return [replace(here, fetch=fetch, size=partial(sizes, files)) if len(files) == len(wanted) else here]

    @cached_property
    def _files(self) -> tuple[list[Path], list[Path]]:
        """Of the weights (WEIGHT_FILES) and of the processor (PROCESSOR_FILES)."""
        weights = self._find(self.judge.weights, WEIGHT_FILES, self.judge.revision)
        return weights, self._find(self.judge.processor, PROCESSOR_FILES, self.judge.processor_revision)

    def digests(self) -> dict[str, str]:
        names = {
            self.judge.weights: self._files[0],
            self.judge.processor: self._files[1],
        }
        return {f"{name}/{path.name}": sha256_of(path) for name, paths in names.items() for path in paths}

    def _find(self, model: str, names: tuple[str, ...], revision: str) -> list[Path]:
        for folder in (self.card_folder / model, weights_folder() / model):
            if all((folder / name).is_file() for name in names):
                return [folder / name for name in names]
        from huggingface_hub import try_to_load_from_cache

        found = [try_to_load_from_cache(model, name, revision=revision) for name in names]
        for name, path in zip(names, found, strict=True):
            if not isinstance(path, str):  # None, or the hub's mark for "known not to exist"
                raise MissingWeights(
                    f"{self.judge.metric} needs {name} of {model}, which is not on this machine",
                    f"run 'hf download {model} {' '.join(names)} --revision {revision}', or put those files in "
                    f"{weights_folder() / model} ({WEIGHTS_VARIABLE} moves the weights folder)",
                )
        return [Path(str(path)) for path in found]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(model, image processor)."""
        (config, _), (preprocessor, _) = self._files
        import torch
        import transformers

        # The reference ran on transformers 4, whose CLIP processor is Pillow's; in 5 that one has a name of its own.
        processor = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
        model: Any = transformers.CLIPModel.from_pretrained(
            config.parent,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
        )
        images = processor.from_pretrained(preprocessor.parent, local_files_only=True)
        return model.to(self.device).eval().requires_grad_(False), images

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """It reads as many tokens as the model has places for."""
        (config, _), (_, tokenizer) = self._files
        from transformers import CLIPConfig

        places = CLIPConfig.from_pretrained(config.parent, local_files_only=True).text_config.max_position_embeddings
        return read_tokenizer(tokenizer, min(MOST_TOKENS, places))

    def cut(self, reader: str, prompts: Sequence[Prompt]) -> Cut:
        return cut_by(reader, self._tokenizer, prompts)

    def _image(self, picture: PIL.Image.Image) -> Tensor:
        model, images = self._parts
        pixels = images(images=picture, return_tensors="pt")["pixel_values"].to(self.device)
        return _features(model.get_image_features(pixel_values=pixels))

    def _text(self, text: str) -> Tensor:
        import torch

        words = self._tokenizer.encode(text)
        ids, mask = (torch.tensor([row], device=self.device) for row in (words.ids, words.attention_mask))
        return _features(self._parts[0].get_text_features(ids, attention_mask=mask))

    @cached_property
    def scale(self) -> float:
        return float(self._parts[0].logit_scale.exp())

    def reward(self, cosine: float) -> float:
        return min(1.0, max(0.0, self.scale * cosine / PICKSCORE_TOP))


def _features(output: Any) -> Tensor:
    """transformers 5 returns an object whose pooler_output is projected; 4 returned the tensor."""
    return getattr(output, "pooler_output", output)


def make_backend(judges: dict[str, Any], card_folder: Path, device: str, where: str) -> Backend:
    """The backend that a card's `judges` name. Raises UsageError."""
    backend: Backend
    match judges.get("backend"):
        case "open_clip":
            backend = OpenClipBackend(parse(OpenClipJudge, judges, where), device)
        case "transformers":
            backend = TransformersBackend(parse(TransformersJudge, judges, where), card_folder, device)
        case other:
            remedy = did_you_mean(str(other), ("open_clip", "transformers"))
            raise UsageError(f"{where}: unknown backend {other!r}", remedy)
    if "pickscore" in backend.metric.name.lower() and judges["weights"] != PICKSCORE:
        raise UsageError(
            f"{where}: the metric is called {backend.metric.name!r} and its weights are not {PICKSCORE}",
            "give it another name",
        )
    return backend
