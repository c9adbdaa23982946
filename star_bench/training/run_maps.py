"""Allocation maps of a finished run's own pictures: each is drawn again, step by step, with its attention recorded.

The road is the run's: the same noise, protocol and weights, and no noise between the steps. Where a picture comes out as
another one than the run's, no maps are made, since they would be of something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.evaluators.base import Prompt
from star_bench.files.atomic import to_json, write_atomically
from star_bench.files.pictures import read_picture
from star_bench.generation.noise import noise_seed
from star_bench.generation.sampler import to_uint8
from star_bench.reporting.masks.steps import ROWS, SETTINGS, MapRow, MapSettings, draw_strip
from star_bench.runs.finished import RunFiles, RunImage, read_json
from star_bench.runs.manifest import Manifest
from star_bench.runs.progress import Progress
from star_bench.runs.store import RowFile, locked
from star_bench.training.allocation import KINDS, AllocationSettings, Evidence, allocate
from star_bench.training.attention import AttentionCapture
from star_bench.training.blocks import check_blocks
from star_bench.training.collect import SHUFFLE
from star_bench.training.masks import Loaded, load_protocol, settings_of
from star_bench.training.recipe import AllocationSettings as AskedAllocation
from star_bench.training.rollout import Rollout, Schedule, roll_out, untrained
from star_bench.training.sde import sigmas
from star_bench.training.token_positions import TokenPositions
from star_bench.training.velocity import Conditioning
from star_bench.training.words import CoreTokens

SAME = 8.0
"""The largest mean difference of two drawings of one picture, in levels of 255. Chosen here: latents that pass between
the steps in half precision move a picture by less, and other weights or noise by tens."""


def load_run(manifest: Manifest, *, model: str | None = None, device: str = "auto") -> Loaded:
    """The checkpoint that made a run. model: where it lies now, by default where the run had it.

    Raises UsageError for pictures made elsewhere, Refused for other weights than the run's, and what loading raises.
    """
    if manifest.protocol is None:
        raise UsageError("these pictures were made elsewhere", "give a run whose pictures star-bench generated")
    known = str(manifest.source.get("checkpoint"))
    # A folder or a hub's model goes by its name in results, and is found by its place.
    name = model or (known if known in checkpoints.names() else str(manifest.source.get("place")))
    checkpoint = checkpoints.resolve(name, base=manifest.source.get("base"))
    local = model_files.locate(checkpoint)
    if local.digest != manifest.model:
        raise Refused(
            f"{name} has the content digest {local.digest[:16]} and the run's model {manifest.model[:16]}",
            "give `--model` with the weights that made the run",
        )
    return load_protocol(checkpoint, local, manifest.protocol, device=device)


def draw_run(
    run: RunFiles,
    loaded: Loaded,
    allocation: AskedAllocation,
    *,
    images: Sequence[RunImage],
    batch_size: int,
    bar: Progress,
) -> int:
    """Writes the maps of these images of the run beside its pictures, and returns how many of them have maps now.

    The same call goes on where it was stopped; other settings begin anew. Raises UsageError for an allocation
    whose map needs more than attention, or a block that isn't there; Refused where the pictures come out as others;
    Incomplete where latents are not finite; Locked while another process writes to the run.
    """
    if not KINDS[allocation.kind].needs_attention:
        raise UsageError(f"the map of {allocation.kind!r} is not made of attention alone", "set allocation.kind=star")
    check_blocks(allocation.blocks, loaded.blocks, loaded.checkpoint.name)
    levels = sigmas(loaded.sampler.pipe.scheduler, loaded.sampler.protocol.steps)
    schedule = untrained(levels)
    about = {
        "model": loaded.checkpoint.name,
        **settings_of(allocation),
        "guidance": f"{loaded.policy.guidance_scale:g}",
        "noise between steps": "none, as in the run",
    }
    settings = MapSettings(sigmas=levels[:-1].tolist(), top=allocation.cap, about=about)
    with locked(run.folder):
        recorded = settings.model_dump(by_alias=True)
        if read_json(run.folder / SETTINGS) != recorded:
            (run.folder / ROWS).unlink(missing_ok=True)
            write_atomically(run.folder / SETTINGS, to_json(recorded))
        rows = RowFile(run.folder / ROWS)
        done = {(row["prompt_id"], row["k"]): row["sha256"] for row in rows.rows}
        drawn = [image for image in images if image.sample and image.sample.path]
        todo = [
            image for image in drawn if image.sample and done.get((image.prompt.id, image.k)) != image.sample.sha256
        ]
        bar.start("drawing maps", len(drawn), len(drawn) - len(todo))
        capture = AttentionCapture(loaded.policy.transformer, allocation.blocks)
        tokens = TokenPositions(loaded.sampler.pipe, loaded.sampler.protocol.max_sequence_length)
        every_token = KINDS[allocation.kind].every_token
        core = CoreTokens(tokens, part=allocation.tokens, every_token=every_token)
        maker = _Maker(run, loaded, AllocationSettings.of(allocation), schedule, capture, core, settings.top)
        try:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                rows.append([row.model_dump() for row in maker.rows(batch)])
                bar.advance(len(batch))
        finally:
            capture.remove()
        keys = {(image.prompt.id, image.k) for image in drawn}
        return sum(row["path"] is not None for row in rows.rows if (row["prompt_id"], row["k"]) in keys)


@dataclass(frozen=True)
class _Maker:
    """What all pictures of a run have in common."""

    run: RunFiles
    loaded: Loaded
    settings: AllocationSettings
    schedule: Schedule
    capture: AttentionCapture
    core: CoreTokens
    top: float

    def rows(self, batch: Sequence[RunImage]) -> list[MapRow]:
        """Draws a batch and writes its strips. A prompt without core words has no map."""
        without, rest = [], []
        for image in batch:
            try:
                self.core.locate(_prompt(image))
            except UsageError as error:
                without.append(_row(image, reason=error.problem))
            else:
                rest.append(image)
        return without + (list(self._drawn(rest)) if rest else [])

    def _drawn(self, batch: Sequence[RunImage]) -> Iterator[MapRow]:
        sampler, policy = self.loaded.sampler, self.loaded.policy
        prompts = [_prompt(image) for image in batch]
        trajectory = roll_out(
            policy,
            self.schedule,
            Conditioning.of(sampler.encode([prompt.text for prompt in prompts])),
            [Rollout(prompt, 0, image.k) for prompt, image in zip(prompts, batch, strict=True)],
            sampler.latent_shape,
            seed=sampler.protocol.seed,
            capture=self.capture,
            positions=self.core.positions(prompts),
            record_all=True,
        )
        steps, count, height, width = trajectory.log_prob.shape
        evidence = Evidence(
            shape=(steps, count, height, width),
            patch_size=policy.transformer.config.patch_size,
            attention=trajectory.attention,
            words=[self.core.columns(prompt) for prompt in prompts],
            seeds=[noise_seed(sampler.protocol.seed, f"{SHUFFLE} {image.prompt.id}", image.k) for image in batch],
        )
        weights = allocate(self.settings, evidence).weights.transpose(0, 1).numpy()
        for image, prompt, picture, maps in zip(batch, prompts, sampler.decode(trajectory.final), weights, strict=True):
            self._check(image, to_uint8(picture))
            assert image.sample and image.sample.path
            path = Path("masks", *Path(image.sample.path).parts[1:]).with_suffix(".png").as_posix()
            write_atomically(self.run.folder / path, draw_strip(maps, self.top))
            yield _row(image, path=path, words=list(self.core.locate(prompt).words))

    def _check(self, image: RunImage, drawn: np.ndarray | None) -> None:
        assert image.sample and image.sample.path
        path = self.run.pictures / image.sample.path
        stored = read_picture(path)
        if drawn is None:
            raise Incomplete(f"{path} comes out with latents that are not finite", "check the weights")
        if stored.shape != drawn.shape or np.abs(stored.astype(float) - drawn).mean() > SAME:
            raise Refused(
                f"{path} comes out as another picture when it is drawn again",
                "draw the maps with the versions and the device that made the run, as its manifest.json names them",
            )


def _prompt(image: RunImage) -> Prompt:
    row = image.prompt
    return Prompt(row.id, row.text, row.tag, row.metadata)


def _row(image: RunImage, *, path: str | None = None, words: list[str] | None = None, reason: str = "") -> MapRow:
    assert image.sample and image.sample.sha256
    key = image.prompt.id, image.k
    return MapRow(prompt_id=key[0], k=key[1], sha256=image.sample.sha256, path=path, words=words or [], reason=reason)
