"""GenEval's two judges put in place, and the mistakes that would give silently other colours."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
import yaml
from audit import heard
from fake_hub import serving
from safetensors.torch import load_file, save_file
from torch import Tensor

from star_bench.assets.weights import WEIGHTS_VARIABLE, WeightsReference
from star_bench.catalogue.shipped import MINIATURE_FOLDER, SUITES_FOLDER
from star_bench.errors import MissingWeights, Refused
from star_bench.evaluators.geneval.color import OpenClipColorJudge, crop
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.evaluators.geneval.detection.layout import pairs
from star_bench.evaluators.geneval.install import install_color_judge, install_detector
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, COLORS, row
from star_bench.evaluators.geneval.published import (
    COLOR_COMMIT,
    COLOR_DOWNLOAD,
    COLOR_FILE,
    COLOR_REPOSITORY,
    COLOR_SHA256,
    DETECTOR_DOWNLOAD,
)
from star_bench.files.digests import sha256_of
from star_bench.miniature.scenes import SMALL, draw_row

CLOSED = ("127.0.0.1", 9)
MINIATURE_CLIP = MINIATURE_FOLDER / "clip"
TINY = "star-bench-tiny-quickgelu"
TINY_CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True)
def weights_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine whose way out is closed."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://{}:{}".format(*CLOSED))
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    urllib.request.install_opener(None)  # it keeps the proxies that it found first
    yield
    urllib.request.install_opener(None)


def card_reference(judge: str) -> WeightsReference:
    """Where the suite `geneval` looks for a judge."""
    card = yaml.safe_load((SUITES_FOLDER / "geneval" / "card.yaml").read_text())
    return WeightsReference.model_validate(card["judges"][judge]["weights"])


# --- the detector ---


def test_the_detector_lies_where_the_suite_looks_for_it(tmp_path: Path, weights_folder: Path) -> None:
    state = {pair.mmdet: torch.zeros(pair.shape) for pair in pairs(OFFICIAL)}
    torch.save({"state_dict": state}, tmp_path / "mmdet.pth")
    told = install_detector(tmp_path / "mmdet.pth")
    folder = card_reference("detector").locate()
    assert folder == Path(told["out"]) and folder.is_relative_to(weights_folder)
    assert told["model_sha256"] == sha256_of(folder / "model.safetensors")
    assert TransformersDetector(folder).names == COCO_CLASSES


@pytest.mark.parametrize("lost", ["panoptic_head.cls_embed.bias", ""])
def test_a_checkpoint_that_is_refused_is_not_put_there(
    checkpoint: dict[str, Tensor], tmp_path: Path, lost: str
) -> None:
    """A tensor is lost, or all are there and the network is a smaller one."""
    checkpoint.pop(lost, None)
    torch.save(checkpoint, tmp_path / "mmdet.pth")
    with pytest.raises(Refused, match=r"cls_embed\.bias" if lost else "another size than GenEval's detector"):
        install_detector(tmp_path / "mmdet.pth")
    with pytest.raises(MissingWeights, match="are not on this machine"):
        card_reference("detector").locate()


@pytest.mark.usefixtures("nowhere")
def test_without_a_way_out_it_is_said_at_once_what_to_do_instead(tmp_path: Path) -> None:
    for download, name in ((DETECTOR_DOWNLOAD, r"743b7d99\.pth"), (COLOR_DOWNLOAD, r"open_clip_model\.safetensors")):
        with (
            heard("socket.connect") as asked,
            pytest.raises(MissingWeights, match=rf"{name}.* can't be reached: download it elsewhere and put it into"),
        ):
            download.fetch(tmp_path, lambda here, total: None)
        assert [place for _, place in asked] == [CLOSED], "after one knock"
    assert not list(tmp_path.rglob("*"))


# --- the colour judge ---


def test_the_color_judge_is_fetched_at_one_commit_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("published", "later"):
        (tmp_path / name).mkdir()
        (tmp_path / name / COLOR_FILE).write_text(name)
    with serving(monkeypatch, tmp_path / "cache") as hub:
        hub.add(COLOR_REPOSITORY, tmp_path / "published", COLOR_COMMIT)
        hub.add(COLOR_REPOSITORY, tmp_path / "later", "f" * 40)
        with pytest.raises(Refused, match=f"and {COLOR_SHA256} was expected: delete it"):
            COLOR_DOWNLOAD.fetch(tmp_path / "into", lambda here, total: None)
        (tmp_path / "into" / COLOR_FILE).unlink()
        right = COLOR_DOWNLOAD.model_copy(update={"sha256": sha256_of(tmp_path / "published" / COLOR_FILE)})
        path = right.fetch(tmp_path / "into", lambda here, total: None)
    assert (path, path.read_text()) == (tmp_path / "into" / COLOR_FILE, "published")
    assert right.fetch(tmp_path / "into", lambda here, total: None) == path, "without a network, since it is here"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Weights of a tiny CLIP that open_clip knows by name, as ViT-L-14-quickgelu is known."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / f"{TINY}.json"
    path.write_text(json.dumps(TINY_CONFIG))
    paths, configs = list(open_clip.factory._MODEL_CONFIG_PATHS), dict(open_clip.factory._MODEL_CONFIGS)
    open_clip.add_model_config(path)
    torch.manual_seed(0)
    save_file(open_clip.create_model(TINY).state_dict(), tmp_path / "open_clip_model.safetensors")
    shutil.rmtree(tmp_path / "models")
    yield tmp_path / "open_clip_model.safetensors"
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(configs)
    assert TINY not in open_clip.list_models()


def test_the_color_judge_is_written_and_read_back(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "color" / "tiny"
    told = install_color_judge(tiny, commit="4af5c5c", out=out, model=TINY)
    assert sorted(path.name for path in out.iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "provenance.yaml",
    ]
    assert (told["commit"], told["model"], told["model_sha256"]) == ("4af5c5c", TINY, sha256_of(tiny))
    assert yaml.safe_load((out / "provenance.yaml").read_text()) | {"out": str(out)} == told
    judge = OpenClipColorJudge(out, COLORS, quick_gelu=True)
    assert same_weights(judge.model.state_dict(), load_file(tiny))
    votes = judge.votes(["cat"] * 2, [PIL.Image.new("RGB", (20, 30), color) for color in ("red", "blue")])
    assert votes.shape == (2, 10) and np.isfinite(votes).all()


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_color_judge_sees_pictures_as_the_official_one(tiny: Path, tmp_path: Path) -> None:
    """The short side to the model's size, bicubic; the centre cut out; OpenAI's mean and standard deviation."""
    install_color_judge(tiny, out=tmp_path / "out", model=TINY)
    judge = OpenClipColorJudge(tmp_path / "out", COLORS)
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 90, 3), np.uint8))
    resized = np.asarray(picture.resize((60, 32), PIL.Image.Resampling.BICUBIC), np.float32)[:, 14:46] / 255
    expected = (resized - (0.48145466, 0.4578275, 0.40821073)) / (0.26862954, 0.26130258, 0.27577711)
    assert np.abs(judge.transform(picture).permute(1, 2, 0).numpy() - expected).max() < 1e-5


def lacking(state: dict[str, Tensor]) -> dict[str, Tensor]:
    del state["visual.proj"]
    return state


def wider(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"visual.proj": torch.zeros(32, 17)}


def more(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"visual.extra": torch.zeros(3)}


@pytest.mark.parametrize("spoil", [lacking, wider, more])
def test_weights_that_do_not_fit_are_refused(
    tiny: Path, tmp_path: Path, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    source = tmp_path / "other.safetensors"
    save_file(spoil(load_file(tiny)), source)
    assert f"{source} does not fit {TINY}" in color_judge_refused(source, tmp_path)


def test_a_damaged_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "half.safetensors"
    source.write_bytes(tiny.read_bytes()[:100_000])
    assert str(source) in color_judge_refused(source, tmp_path)


def test_openais_own_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    """It is an archive of code, and only running it would tell its weights."""
    for name in ("ViT-L-14.pt", "nowhere.safetensors"):
        assert f"{name} is no safetensors file" in color_judge_refused(tmp_path / name, tmp_path)


def color_judge_refused(source: Path, folder: Path) -> str:
    """The sentence; nothing may be left in or beside the output."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(Refused) as caught:
        install_color_judge(source, out=folder / "out", model=TINY)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


# --- the traps: GELU for QuickGELU, BGR for RGB ---


def with_activation(folder: Path, *, quick_gelu: bool) -> Path:
    """A copy of the miniature's CLIP, the same weights, whose configuration names an activation."""
    shutil.copytree(MINIATURE_CLIP, folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = quick_gelu
    path.write_text(json.dumps(config))
    return folder


def test_the_shipped_color_judge_uses_quick_gelu() -> None:
    OpenClipColorJudge(MINIATURE_CLIP, SMALL.colors, quick_gelu=True)
    OpenClipColorJudge(MINIATURE_CLIP, SMALL.colors)


@pytest.mark.parametrize(
    ("built", "asked", "sentence"),
    [
        (False, True, "was built with GELU and the suite asks for QuickGELU"),
        (True, False, "was built with QuickGELU and the suite asks for GELU"),
    ],
)
def test_the_other_activation_is_refused(tmp_path: Path, built: bool, asked: bool, sentence: str) -> None:
    folder = with_activation(tmp_path / "clip", quick_gelu=built)
    with pytest.raises(Refused, match=sentence):
        OpenClipColorJudge(folder, SMALL.colors, quick_gelu=asked)
    OpenClipColorJudge(folder, SMALL.colors, quick_gelu=built)


def drawn(color: str, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, box and mask of one object."""
    metadata = row("colors", [{"class": name, "count": 1, "color": color}])
    scene = draw_row(SMALL, np.random.default_rng(seed), metadata)
    (thing,) = scene.objects
    return scene.image, np.array(thing.box), thing.mask


OBJECTS = [(color, name) for color in ("red", "blue") for name in ("car", "cup", "umbrella")]


def votes(judge: OpenClipColorJudge, *, bgr: bool = False) -> np.ndarray:
    """(objects, colours) of OBJECTS."""
    crops = []
    for seed, (color, name) in enumerate(OBJECTS):
        image, box, mask = drawn(color, name, seed)
        crops.append(crop(np.ascontiguousarray(image[..., ::-1]) if bgr else image, box, mask))
    return judge.votes([name for _, name in OBJECTS], crops)


def test_the_other_activation_gives_other_votes(tmp_path: Path) -> None:
    """Which is why it is refused: the same weights load without a word."""
    right, wrong = (
        OpenClipColorJudge(with_activation(tmp_path / str(quick), quick_gelu=quick), SMALL.colors)
        for quick in (True, False)
    )
    assert same_weights(right.model.state_dict(), wrong.model.state_dict())
    assert np.abs(votes(right) - votes(right)).max() == 0
    assert np.abs(votes(right) - votes(wrong)).max() > 1e-3, "a hundred times what float32 could do"


def test_red_and_blue_change_places_where_bgr_is_given_for_rgb() -> None:
    judge = OpenClipColorJudge(MINIATURE_CLIP, SMALL.colors, quick_gelu=True)
    asked = [color for color, _ in OBJECTS]
    told = [SMALL.colors[i] for i in votes(judge).argmax(1)]
    swapped = [SMALL.colors[i] for i in votes(judge, bgr=True).argmax(1)]
    assert told == asked
    assert all(color != other for color, other in zip(asked, swapped, strict=True))
