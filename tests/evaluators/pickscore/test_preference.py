"""The preference evaluator on tiny random CLIPs made here, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from audit import heard

from star_bench.catalogue import plugins, suites
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import Incomplete, MissingWeights, Refused, UsageError
from star_bench.evaluators.base import Prompt, Status, check_canaries
from star_bench.evaluators.pickscore.backends import PICKSCORE
from star_bench.evaluators.pickscore.evaluator import Preference
from star_bench.miniature.suite_files import preference_canary, preference_prompts

PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in range(3)]
PROMPTS = [
    Prompt("0", "a red car"),
    Prompt("1", "a blue chair"),
    Prompt("2", "a red car " * 60),
]


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    text = {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    }
    vision = {
        "image_size": 32,
        "patch_size": 8,
        "width": 16,
        "layers": 1,
        "head_width": 8,
    }
    config = {
        "model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config["model_cfg"])
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    for decoy in ("open_clip_model.bin", "open_clip_pytorch_model.bin", "a.pth"):
        (folder / decoy).write_bytes(b"a pickle that must never be opened")
    return folder


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory) -> Path:
    """A tiny model under PickScore's name, and a tokenizer and image processor under CLIP-H's."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("weights")
    letters = [
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    vocabulary = {t: i for i, t in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(folder / PROCESSOR)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder / PROCESSOR
    )
    tiny = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ends = {
        "bos_token_id": vocabulary["<|startoftext|>"],
        "eos_token_id": vocabulary["<|endoftext|>"],
    }
    config = transformers.CLIPConfig(
        text_config={**tiny, **ends, "vocab_size": len(vocabulary)},
        vision_config={**tiny, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder / PICKSCORE)
    return folder


def card(suite: str, **judges: object) -> SuiteCard:
    shipped = suites.load(suite)
    return shipped.model_copy(update={"judges": {**shipped.judges, **judges}})


@pytest.fixture
def miniature(open_clip_folder) -> Preference:
    return Preference(card("preference-miniature", weights={"path": str(open_clip_folder)}))


@pytest.fixture
def pickscore(weights_folder, monkeypatch) -> Preference:
    monkeypatch.setenv("STAR_BENCH_WEIGHTS_DIR", str(weights_folder))
    return Preference(suites.load("pickscore"))


@pytest.mark.parametrize("which", ["miniature", "pickscore"])
def test_score_is_the_scaled_cosine_and_the_same_in_any_batch(which, request):
    evaluator = request.getfixturevalue(which)
    scores = evaluator.score(IMAGES, PROMPTS)
    assert [s.status for s in scores] == [Status.OK] * 3
    for score in scores:
        assert -1 <= score.detail["cosine"] <= 1
        assert score.value == pytest.approx(score.detail["cosine"] * 1 / 0.07, rel=1e-3)  # CLIP's initial scale
    assert scores == [evaluator.score([i], [p])[0] for i, p in zip(IMAGES, PROMPTS, strict=True)]
    assert len({s.value for s in scores}) == 3


def test_pickscore_equals_the_models_own_logits(pickscore, weights_folder):
    import torch
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(weights_folder / PICKSCORE).eval()
    tokens = AutoTokenizer.from_pretrained(weights_folder / PROCESSOR)(
        [p.text for p in PROMPTS],
        padding=True,
        truncation=True,
        max_length=77,
        return_tensors="pt",
    )
    pixels = CLIPImageProcessorPil.from_pretrained(weights_folder / PROCESSOR)(
        images=[Image.fromarray(i) for i in IMAGES], return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model(**tokens, **pixels).logits_per_image.diag()
    got = [s.value for s in pickscore.score(IMAGES, PROMPTS)]
    assert got == pytest.approx(expected.tolist(), abs=1e-4)


def test_rewards_lie_between_0_and_1(miniature, pickscore):
    cosines = [s.detail["cosine"] for s in miniature.score(IMAGES, PROMPTS)]
    assert miniature.reward(IMAGES, PROMPTS) == pytest.approx([(c + 1) / 2 for c in cosines])
    values = [s.value for s in pickscore.score(IMAGES, PROMPTS)]
    assert pickscore.reward(IMAGES, PROMPTS) == pytest.approx([max(0.0, v / 26) for v in values])


@pytest.mark.parametrize("which", ["miniature", "pickscore"])
def test_a_picture_that_can_not_be_judged_has_no_score(which, request):
    evaluator = request.getfixturevalue(which)
    bad, good = evaluator.score([np.zeros((4, 4, 3)), IMAGES[0]], PROMPTS[:2])
    assert (bad.value, bad.status, good.status) == (None, Status.ERROR, Status.OK)


def test_identities(miniature, pickscore, open_clip_folder):
    assert "Miniature preference [exp(logit_scale) * cosine]" in miniature.metric.identity
    assert miniature.metric.version == miniature.judges()[open_clip_folder.name][:12]
    assert pickscore.metric.identity.startswith("PickScore [PickScore (logit)], ")
    assert len(pickscore.judges()) == 4


@pytest.mark.parametrize("name", ["PickScore", "my pickscore"])
def test_only_pickscore_is_called_pickscore(open_clip_folder, name):
    for judges in (
        {
            "backend": "open_clip",
            "metric": name,
            "weights": {"path": str(open_clip_folder)},
        },
        {
            "backend": "transformers",
            "metric": name,
            "weights": "somebody/else",
            "processor": PROCESSOR,
        },
    ):
        wrong = suites.load("preference-miniature").model_copy(update={"judges": judges})
        with pytest.raises(UsageError, match="give it another name"):
            Preference(wrong)


@pytest.mark.parametrize(
    ("judges", "says"),
    [
        ({"backend": "openclip"}, "did you mean 'open_clip'"),
        ({"weight": "x"}, "did you mean 'weights'"),
    ],
)
def test_wrong_judge_settings_are_named(judges, says):
    with pytest.raises(UsageError, match=says):
        Preference(card("preference-miniature", **judges))


def test_missing_weights_are_told_without_torch(tmp_path):
    """In a fresh process, as a user meets it: one sentence, exit code 4, nothing heavy imported."""
    code = (
        "import sys; from star_bench.catalogue import suites; from star_bench.errors import MissingWeights\n"
        "from star_bench.evaluators.pickscore.evaluator import Preference\n"
        "try: Preference(suites.load('pickscore')).judges()\n"
        "except MissingWeights as e: print('torch' in sys.modules, e.exit_code, e, sep='|')"
    )
    folders = {
        "HF_HOME": str(tmp_path),
        "STAR_BENCH_WEIGHTS_DIR": str(tmp_path),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=folders,
    )
    torch_there, exit_code, sentence = done.stdout.strip().split("|")
    assert (torch_there, exit_code) == ("False", "4")
    assert sentence.startswith(f"PickScore needs config.json of {PICKSCORE}, which is not on this machine: run 'hf")


def test_a_missing_open_clip_folder(tmp_path):
    lost = Preference(card("preference-miniature", weights={"path": str(tmp_path / "gone")}))
    assert lost.metric.version == "not installed"
    for ask in (lost.judges, lambda: lost.score(IMAGES, PROMPTS)):
        with heard("socket.connect") as asked, heard("socket.getaddrinfo") as looked_up, pytest.raises(MissingWeights):
            ask()
        assert asked == looked_up == []


def test_shipped_prompts_and_canary_are_what_the_code_writes():
    shipped = Preference(suites.load("preference-miniature"))
    assert [p.text for p in shipped.prompts()] == preference_prompts()
    assert all(np.array_equal(c.image, preference_canary()) for c in shipped.canaries())


@pytest.mark.parametrize(
    ("prompt", "above", "by", "sentence"),
    [
        ("a photo of a red car", "a photo of a blue chair", 5, None),
        (
            "a photo of a blue chair",
            "a photo of a red car",
            5,
            "must score 5 more for 'a photo of a blue chair' than for",
        ),
        ("a photo of a red car", "a photo of a red car", 0.1, "must score 0.1 more .* and got 0, so the judge"),
        ("a photo of a red car", "a photo of a blue chair", 500, "must score 500 more"),
    ],
)
def test_a_canary_may_say_which_of_two_prompts_fits_better(prompt, above, by, sentence):
    """For a judge whose scores of a picture nobody published; on the miniature's own CLIP."""
    shipped = suites.load("preference-miniature")
    canary = suites.RelativeCanaryCard(image="canary-red-car.png", prompt=prompt, above=above, by=by)
    judge = Preference(shipped.model_copy(update={"canaries": [canary, shipped.canaries[0]]}))
    if sentence is None:
        assert check_canaries(judge) == 2
    else:
        with pytest.raises(Refused, match=sentence):
            check_canaries(judge)


def test_the_other_scales_are_named_views_of_the_same_scores(pickscore):
    scores = pickscore.score(IMAGES, PROMPTS)
    views = {view.name: [view.value(score) for score in scores] for view in pickscore.aggregates}
    assert list(views) == ["mean", "cosine", "over_26"]
    assert views["mean"] == [score.value for score in scores]
    assert views["over_26"] == pytest.approx([value / 26 for value in views["mean"]])
    assert views["cosine"] == pytest.approx([value * 0.07 for value in views["mean"]], rel=1e-3)


def as_open_clip(model) -> dict:
    """A transformers CLIP's tensors under open_clip's names, written down from the two libraries' module lists."""
    import torch

    old, new = model.state_dict(), {"logit_scale": model.logit_scale.data}
    for ours, theirs in (("text_model", ""), ("vision_model", "visual.")):
        layer = 0
        while f"{ours}.encoder.layers.{layer}.layer_norm1.weight" in old:
            there, here = f"{ours}.encoder.layers.{layer}", f"{theirs}transformer.resblocks.{layer}"
            for kind in ("weight", "bias"):
                fused = torch.cat([old[f"{there}.self_attn.{part}_proj.{kind}"] for part in "qkv"])
                new[f"{here}.attn.in_proj_{kind}"] = fused
                for a, b in (
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    new[f"{here}.{b}.{kind}"] = old[f"{there}.{a}.{kind}"]
            layer += 1
    for kind in ("weight", "bias"):
        new[f"ln_final.{kind}"] = old[f"text_model.final_layer_norm.{kind}"]
        new[f"visual.ln_pre.{kind}"] = old[f"vision_model.pre_layrnorm.{kind}"]
        new[f"visual.ln_post.{kind}"] = old[f"vision_model.post_layernorm.{kind}"]
    return new | {
        "token_embedding.weight": old["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": old["text_model.embeddings.position_embedding.weight"],
        "text_projection": old["text_projection.weight"].T,
        "visual.class_embedding": old["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": old["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": old["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": old["visual_projection.weight"].T,
    }


def test_the_same_weights_through_open_clip_give_the_same_logits(pickscore, weights_folder):
    """The tokens and pixels that transformers prepares; so what is compared is the network, twice implemented."""
    import open_clip
    import torch
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    theirs = CLIPModel.from_pretrained(weights_folder / PICKSCORE).eval()
    size = {"width": 16, "layers": 1, "mlp_ratio": 2}
    vocabulary = theirs.config.text_config.vocab_size
    ours = open_clip.CLIP(
        embed_dim=8,
        vision_cfg={**size, "image_size": 32, "patch_size": 8, "head_width": 8},
        text_cfg={**size, "heads": 2, "context_length": 77, "vocab_size": vocabulary},
        quick_gelu=True,
    )
    ours.load_state_dict(as_open_clip(theirs), strict=True)
    ours.eval()
    tokenizer = AutoTokenizer.from_pretrained(weights_folder / PROCESSOR)
    tokens = tokenizer(
        [p.text for p in PROMPTS], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )["input_ids"]
    pixels = CLIPImageProcessorPil.from_pretrained(weights_folder / PROCESSOR)(
        images=[Image.fromarray(i) for i in IMAGES], return_tensors="pt"
    )["pixel_values"]
    with torch.inference_mode():
        seen, read = ours.encode_image(pixels, normalize=True), ours.encode_text(tokens, normalize=True)
        expected = (ours.logit_scale.exp() * (seen * read).sum(1)).tolist()
    assert [s.value for s in pickscore.score(IMAGES, PROMPTS)] == pytest.approx(expected, abs=1e-4)


def test_a_judge_that_does_not_fit_is_told_as_one(monkeypatch):
    """Exit 3, and no bug of star-bench's: another program may hold the device."""
    import torch

    judge = Preference(suites.load("preference-miniature"))

    def full(_model: object, *_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.6 GiB")

    monkeypatch.setattr(torch.nn.Module, "eval", full)
    with pytest.raises(
        Incomplete, match=r"the judge of suite 'preference-miniature' does not fit into the memory of cpu"
    ):
        check_canaries(judge)


@pytest.mark.parametrize("suite", ["preference-miniature", "quality-miniature"])
def test_too_little_memory_for_pictures_is_the_runs_to_mend(suite, monkeypatch):
    """It tries fewer at a time: a score that says error would be final."""
    import torch

    card = suites.load(suite)
    judge = plugins.load(plugins.EVALUATORS, card.evaluator)(card)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.6 GiB")

    check_canaries(judge)
    monkeypatch.setattr(torch, "cosine_similarity", full)
    monkeypatch.setattr(torch.nn.functional, "cosine_similarity", full)
    with pytest.raises(torch.OutOfMemoryError):
        judge.score(IMAGES[:1], PROMPTS[:1])
