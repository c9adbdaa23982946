"""CLIPScore, the aesthetic head and HPS on small random CLIPs, against their formulas written out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from star_bench.assets.weights import WeightsReference
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.evaluators.quality import checkpoint
from star_bench.evaluators.quality.aesthetic import Aesthetic, AestheticCard
from star_bench.evaluators.quality.clip import Clip, ClipCard
from star_bench.evaluators.quality.clip_score import ClipScore, ClipScoreCard
from star_bench.evaluators.quality.hps import Hps, HpsCard, fitted
from star_bench.evaluators.quality.measure import Picture
from star_bench.files.digests import sha256_of

TEXTS = ("a photo of a red car", "Two  dogs", "a very long text " * 60)


def clip(folder: Path, *, quick_gelu: bool = True) -> Clip:
    card = ClipCard.model_validate({"weights": {"path": str(folder)}, "quick_gelu": quick_gelu})
    return Clip("tiny", card, "MIT", "cpu")


def aesthetic(head: Path, clip_folder: Path) -> Aesthetic:
    card = {"kind": "aesthetic", "name": "Looks", "clip": "tiny", "weights": {"path": str(head)}}
    return Aesthetic(AestheticCard.model_validate(card), clip(clip_folder), "not stated")


def hps(folder: Path, architecture: str) -> Hps:
    card = {"kind": "hps", "name": "HPS", "model": architecture, "weights": {"path": str(folder)}}
    return Hps(HpsCard.model_validate(card), "Apache-2.0", "cpu")


def normalised(pixels: Tensor) -> Tensor:
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def seen_by(model: Any, pixels: np.ndarray) -> Tensor:
    """(D,) features of length one: short side to 32, bicubic, the middle cut out."""
    picture = Image.fromarray(pixels)
    scale = 32 / min(picture.size)
    picture = picture.resize([max(32, int(side * scale)) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in picture.size)
    cut = np.asarray(picture.crop((left, top, left + 32, top + 32)))
    features = model.encode_image(normalised(torch.tensor(cut).permute(2, 0, 1) / 255)[None])[0]
    return features / features.square().sum().sqrt()


def test_clip_score(clip_folder: Path, clip_model: Any, pictures: list[np.ndarray]) -> None:
    measure = ClipScore(ClipScoreCard(kind="clip_score", name="CLIPScore", clip="tiny"), clip(clip_folder))
    tokenizer = open_clip.SimpleTokenizer()
    for pixels in pictures:
        for text in TEXTS:
            read = clip_model.encode_text(tokenizer([text]))[0]
            cosine = float(seen_by(clip_model, pixels) @ read / read.square().sum().sqrt())
            assert cosine > 0
            assert measure.value(Picture(pixels, text)) == pytest.approx(100 * cosine, abs=1e-3)


def test_a_negative_cosine_scores_0(clip_folder: Path, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    """The same CLIP with its texts turned round."""
    shutil.copytree(clip_folder, tmp_path / "turned")
    path = tmp_path / "turned" / "open_clip_model.safetensors"
    state = load_file(path)
    save_file({**state, "text_projection": -state["text_projection"]}, path)
    measure = ClipScore(ClipScoreCard(kind="clip_score", name="CLIPScore", clip="tiny"), clip(path.parent))
    assert measure.value(Picture(pictures[0], TEXTS[0])) == 0


def test_measures_that_share_a_clip_share_its_forward(clip_folder: Path, pictures: list[np.ndarray]) -> None:
    judge, picture = clip(clip_folder), Picture(pictures[0], "a car")
    assert picture.features(judge) is picture.features(judge)
    assert float(picture.features(judge).norm()) == pytest.approx(1)


def test_the_other_activation_is_refused(clip_folder: Path) -> None:
    with pytest.raises(Refused, match="is built with QuickGELU and the suite asks for GELU: write"):
        _ = clip(clip_folder, quick_gelu=False).folder


def test_a_foreign_configuration_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "other")
    (tmp_path / "other" / "open_clip_config.json").write_text(json.dumps({"model": "a CLIP"}))
    with pytest.raises(Refused, match="has no model_cfg"):
        _ = clip(tmp_path / "other").folder


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_aesthetic_is_a_chain_of_linear_layers(
    suffix: str, tmp_path: Path, aesthetic_state: dict[str, Tensor], clip_folder: Path, clip_model: Any, pictures: Any
) -> None:
    save = save_file if suffix == ".safetensors" else torch.save
    save(aesthetic_state, tmp_path / f"head{suffix}")
    for pixels in pictures:
        x = seen_by(clip_model, pixels)
        for number in (0, 2, 4, 6, 7):
            x = aesthetic_state[f"layers.{number}.weight"] @ x + aesthetic_state[f"layers.{number}.bias"]
        assert aesthetic(tmp_path, clip_folder).value(Picture(pixels, "")) == pytest.approx(x.item(), abs=1e-4)


def changed(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    state = dict(state)
    match how:
        case "extra":
            state["layers.8.weight"] = torch.zeros(1)
        case "missing":
            del state["layers.6.bias"]
        case "shape":
            state["layers.0.weight"] = torch.zeros(1024, 768)
        case "infinite":
            state["layers.7.bias"] = torch.tensor([torch.inf])
    return state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("extra", "holds a tensor 'layers.8.weight' that has no place"),
        ("missing", "lacks the tensor 'layers.6.bias'"),
        ("shape", r"the tensor 'layers.0.weight' of .* has the shape \(1024, 768\) and not \(1024, 8\)"),
        ("infinite", "the tensor 'layers.7.bias' of .* not finite: fetch the published file again"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_name(
    how: str, says: str, tmp_path: Path, aesthetic_state: dict[str, Tensor], clip_folder: Path, pictures: Any
) -> None:
    torch.save(changed(aesthetic_state, how), tmp_path / "head.pth")
    with pytest.raises(Refused, match=says):
        aesthetic(tmp_path, clip_folder).value(Picture(pictures[0], ""))


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


def test_a_checkpoint_that_asks_for_code_is_not_read(
    tmp_path: Path, clip_folder: Path, pictures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"layers.0.weight": Code()}, tmp_path / "head.pth")
    with pytest.raises(Refused, match="which may be code, so it was not read: fetch the published file again"):
        aesthetic(tmp_path, clip_folder).value(Picture(pictures[0], ""))
    assert "never" not in capsys.readouterr().out


def test_another_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    published = tmp_path / "head.pth"
    published.write_bytes(b"published")
    said = WeightsReference(path=str(tmp_path), sha256=sha256_of(published))
    assert checkpoint.find(said) == published
    published.write_bytes(b"cut")
    with pytest.raises(Refused, match=rf"head\.pth has the sha256 .* and {said.sha256} was expected"):
        checkpoint.find(said)
    published.rename(published.with_suffix(".safetensors"))
    assert checkpoint.find(said).suffix == ".safetensors", "somebody's conversion, whose tensors are fitted by name"


def test_which_checkpoint_must_be_clear(tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(MissingWeights, match="a judge's weights is not on this machine: put the published file"):
        aesthetic(tmp_path, clip_folder).files()
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Refused, match=r"holds both a\.pth and b\.safetensors: leave only the right one"):
        aesthetic(tmp_path, clip_folder).files()


def test_hps_is_the_cosine_on_the_whole_picture(
    hps_folder: Path, hps_architecture: str, hps_model: Any, pictures: list[np.ndarray]
) -> None:
    measure, tokenizer = hps(hps_folder, hps_architecture), open_clip.SimpleTokenizer()
    for pixels in pictures:
        for text in TEXTS:
            seen = hps_model.encode_image(normalised(fitted(pixels, 32))[None])[0]
            read = hps_model.encode_text(tokenizer([text]))[0]
            expected = float(seen @ read / (seen.square().sum() * read.square().sum()).sqrt())
            assert measure.value(Picture(pixels, text)) == pytest.approx(expected, abs=1e-5)


def test_hps_sees_a_wide_picture_between_black_bars() -> None:
    white = np.full((20, 80, 3), 255, np.uint8)
    seen = fitted(white, 32)
    assert seen.shape == (3, 32, 32)
    assert seen[:, :12].max() == seen[:, 20:].max() == 0
    assert seen[:, 12:20].numpy() == pytest.approx(1, abs=1e-5)


def test_hps_scales_floating_point_numbers_with_antialiasing() -> None:
    """Halving a fine checkerboard gives its mean, which is no 8-bit number; without antialiasing it would give stripes."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    seen = fitted(np.repeat(board.astype(np.uint8)[..., None], 3, axis=2), 32)
    assert seen[:, 4:-4, 4:-4].numpy() == pytest.approx(0.5, abs=1e-4)


def test_hps_leaves_a_picture_of_the_right_size_alone(pictures: list[np.ndarray]) -> None:
    pixels = pictures[2]
    assert np.array_equal(fitted(pixels, 64).numpy(), (pixels.transpose(2, 0, 1) / np.float32(255)).astype(np.float32))


def test_hps_is_strict(hps_folder: Path, hps_architecture: str, hps_model: Any, pictures: Any) -> None:
    state = hps_model.state_dict()
    del state["visual.ln_post.bias"]
    torch.save({"state_dict": state}, hps_folder / "HPS_tiny.pt")
    with pytest.raises(Refused, match=r"lacks the tensor 'visual\.ln_post\.bias'"):
        hps(hps_folder, hps_architecture).value(Picture(pictures[0], ""))


def test_an_unknown_architecture_is_told(hps_folder: Path, pictures: Any) -> None:
    with pytest.raises(UsageError, match="no model 'ViT-H-14x', which HPS asks for: did you mean 'ViT-H-14'"):
        hps(hps_folder, "ViT-H-14x").value(Picture(pictures[0], ""))
