"""`star-bench watch` on the miniature and a checkpoint that was hacked on purpose, through real runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler
from star_bench.runs.run import Options, prepare

REWARD, PANELS = "preference-miniature", ("geneval-miniature", "quality-miniature")
STEPS, RATE = 100, 3e-3
"""Of Adam. Found by trying; at a rate of .007 GenEval falls to almost nothing, and the reward hardly rises."""


def hacked(folder: Path) -> Path:
    """The miniature with the last convolution of its VAE trained to please the judge of REWARD, and nothing else.

    It sees one picture of each prompt, made with noise that no run uses. Half a minute on one core.
    """
    prepared = prepare(Options(suites=(REWARD,), model="miniature", device="cpu"))
    assert prepared.local is not None and prepared.parts[0].plan.protocol is not None
    pipe: Any = load(prepared.local, dtype="float32", device="cpu")
    last = pipe.vae.decoder.conv_out
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    sampler = Sampler(pipe, replace(prepared.parts[0].plan.protocol, seed=1000))
    sampler.generate([(prompt.id, prompt.text, 0) for prompt in prepared.parts[0].plan.prompts], batch_size=10)
    hook.remove()
    place = f"local-dir:{MINIATURE_FOLDER / 'clip'}"
    clip, _ = open_clip.create_model_from_pretrained(place, precision="fp32")
    with torch.no_grad():
        wanted = clip.encode_text(open_clip.get_tokenizer(place)([p.text for p in prepared.parts[0].plan.prompts]))
    weight, bias = (part.detach().clone().requires_grad_() for part in (last.weight, last.bias))
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    for _ in range(STEPS):
        # The CLIP wants pixels from -1 to 1, which is what the VAE gives.
        pixels = torch.nn.functional.conv2d(torch.cat(seen), weight, bias, padding=1).clamp(-1, 1)
        optimiser.zero_grad()
        (-torch.cosine_similarity(clip.encode_image(pixels), wanted).mean()).backward()
        optimiser.step()
    shutil.copytree(MINIATURE_FOLDER / "pipeline", folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    trained = {"decoder.conv_out.weight": weight.detach(), "decoder.conv_out.bias": bias.detach()}
    save_file(load_file(file) | trained, file, metadata={"format": "pt"})
    return folder


def star_bench(folder: Path, *words: str) -> tuple[int, Any]:
    """The exit code of a command in a folder, and its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "star_bench", *words, "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hacked_checkpoint_raises_the_alarm(tmp_path: Path) -> None:
    """Its reward rises and GenEval falls; seen the other way round, nothing rose. Some minutes on one core."""
    hacked(tmp_path / "hacked")
    pairs: dict[str, list[str]] = {suite: [] for suite in (REWARD, *PANELS)}
    for suite, pair in pairs.items():
        for model in ("miniature", "./hacked"):
            code, results = star_bench(tmp_path, "run", "--model", model, "--suite", suite)
            assert code == 0
            pair.append(results["run"])
    reward, geneval, quality = pairs.values()
    code, found = star_bench(tmp_path, "watch", "--reward", *reward, "--panel", *geneval, "--panel", *quality)
    words = {row["measure"]: row["change"] for row in (found["reward"], *found["panel"])}
    assert (code, found["verdict"]) == (1, "alarm")
    assert (words["Miniature preference"], words["GenEval-miniature"]) == ("rose", "fell")
    assert words["Contrast"] == "moved"
    code, found = star_bench(tmp_path, "watch", "--reward", *geneval, "--panel", *reward)
    assert (code, found["verdict"]) == (0, "no rise")
