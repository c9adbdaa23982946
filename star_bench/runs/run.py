"""`star-bench run`: a checkpoint, or a folder of pictures, and a suite; results in the run's directory."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_bench.assets import model_files
from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue import checkpoints, licences, plugins, suites
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.lora_keys import read_keys
from star_bench.catalogue.model_parts import parts_of
from star_bench.catalogue.suites import GenerationDefaults, SuiteCard
from star_bench.errors import UsageError
from star_bench.evaluators.base import Evaluator
from star_bench.generation.kinds import check_kind_of
from star_bench.generation.size import check_size_of
from star_bench.runs import foreign
from star_bench.runs.batch_size import fastest_for
from star_bench.runs.engines.base import Engine, Settings, Workers
from star_bench.runs.environment import environment
from star_bench.runs.execute import conclude, execute, generate, take_foreign
from star_bench.runs.log import LoggedProgress, recording
from star_bench.runs.nearest import nearest
from star_bench.runs.notices import Notice, of_model
from star_bench.runs.plan import Item, Plan, Subject, merge_protocol, select
from star_bench.runs.progress import Progress
from star_bench.runs.shards import Shard, begin_shard, finish_shard
from star_bench.runs.store import RunStore, open_run
from star_bench.runs.workers import Generate, MakeJudge, MakePictures, generating, make_evaluator


@dataclass(frozen=True)
class Options:
    """What the command line says. None leaves a choice to the suite's card, then to the checkpoint."""

    suite: str
    model: str | None = None
    base: str | None = None
    images: Path | None = None
    samples: int | None = None
    limit: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    size: int | None = None
    """Height and width, pixels."""
    seed: int = 0  # chosen here
    batch_size: int | None = 8  # chosen here: no image depends on it
    """None: found by trying, on this machine."""
    device: str = "auto"
    dtype: str = "auto"
    kernels: str = "default"
    free_text_encoders: bool = False
    runs: Path = Path("runs")
    engine: str = "local"
    workers: Workers = field(default_factory=Workers)
    scoring_workers: Workers = field(default_factory=Workers)
    address: str | None = None
    """Of the engine's cluster."""
    shard: Shard | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start: everything named was found and fits together."""

    plan: Plan
    folder: Path
    evaluator: Evaluator
    local: LocalCheckpoint | None
    source: dict[str, Any]
    """Where the images come from, for the manifest: the hub's commit is recorded here."""
    files: dict[tuple[str, int], Path] | None
    engine: Engine
    device: str
    """That workers compute on."""
    notices: tuple[Notice, ...] = ()
    """What a reader of the results must know, as far as preparing finds it out."""


def _may_have_accelerator() -> bool:
    """False only where torch could find none: no driver's device files, and no Mac. Asking torch takes seconds."""
    return sys.platform != "linux" or any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg"))


def choose_device(asked: str) -> str:
    """auto: cuda, then mps, then cpu. Raises UsageError for a device that this machine lacks."""
    if asked == "cpu" or (asked == "auto" and not _may_have_accelerator()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(asked.split(":")[0], False):
        usable = ", ".join(name for name, present in there.items() if present)
        raise UsageError(f"device {asked!r} is not on this machine", f"choose one of auto, {usable}")
    return asked


def _device(asked: str, *, elsewhere: bool) -> str:
    """elsewhere: where work is done on other machines, which device they have is for the user to say."""
    return asked.split(":")[0] if elsewhere and asked != "auto" else choose_device(asked)


def _device_here(device: str) -> str:
    """For the canaries that are judged before work is given to other machines."""
    try:
        return choose_device(device)
    except UsageError:
        return "cpu"


def choose_dtype(asked: str, checkpoint: Checkpoint, device: str) -> str:
    """auto: float32 on a CPU, whose half precision is slow and inexact; else what the checkpoint is published for."""
    if asked == "auto":
        return "float32" if device == "cpu" else checkpoint.precision
    if asked not in ("float32", "float16", "bfloat16"):
        raise UsageError(f"dtype {asked!r} is unknown", "choose auto, float32, float16 or bfloat16")
    return asked


def _given(options: Options) -> GenerationDefaults:
    return GenerationDefaults(
        samples=options.samples,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        height=options.size,
        width=options.size,
    )


def prepare(options: Options) -> Prepared:
    """Finds everything and plans the run, cheapest checks first. Raises the errors of all it asks."""
    if (options.model is None) == (options.images is None):
        raise UsageError("a run needs either a model or a folder of pictures", "give --model NAME or --images DIR")
    if options.batch_size is None and (options.images or options.shard or options.engine != "local"):
        raise UsageError(
            "a batch size is found only where one local run makes pictures",
            "give --batch-size a number with --images, --shard or another engine",
        )
    card = suites.load(options.suite)
    make_engine = plugins.load(plugins.ENGINES, options.engine)
    checkpoint = checkpoints.resolve(options.model, base=options.base) if options.model else None
    local = model_files.locate(checkpoint) if checkpoint else None
    device = _device(options.device, elsewhere=make_engine.remote)
    engine: Engine = make_engine(Settings(device, options.workers, options.scoring_workers, options.address))
    evaluator = make_evaluator(card, _device_here(device))
    everything = evaluator.prompts()
    prompts = select(everything, options.limit)
    judges = evaluator.judges()
    files, protocol = None, None
    notices: tuple[Notice, ...] = ()
    source: dict[str, Any] = {"folder": str(options.images)}
    if checkpoint and local:
        protocol = merge_protocol(
            _given(options),
            suite_defaults(card, checkpoint),
            checkpoint.generation,
            seed=options.seed,
            dtype=choose_dtype(options.dtype, checkpoint, device),
            device=device.split(":")[0],
            kernels=options.kernels,
            where=checkpoint.name,
        )
        check_kind_of(local.folder)
        check_size_of(local.folder, protocol.height, protocol.width)
        if local.lora_path:
            read_keys(local.lora_path, parts_of(local.folder))
        if options.kernels != "default":
            from star_bench.generation.kernels import check_kernels

            check_kernels(options.kernels, device=None if make_engine.remote else device, dtype=protocol.dtype)
        parts = tuple(licences.of_checkpoint(checkpoint))
        subject = Subject(checkpoint.name, local.digest, checkpoint.licence, licences=parts)
        samples = protocol.samples
        source = {
            "checkpoint": checkpoint.name,
            "place": str(checkpoint.lora or checkpoint.source),
            "base": checkpoint.base,
            "commit": local.revision,
        }
    else:
        assert options.images is not None
        samples = options.samples or card.protocol.samples or 1
        chosen = (prompt.id for prompt in prompts)
        found = foreign.find(options.images, everything, samples, asked=evaluator.asked, chosen=chosen)
        files, notices = found.files, found.notices
        name = options.images.resolve().name
        subject = Subject(name, foreign.digest(files), "not stated", foreign=True)
    plan = Plan(subject, card, evaluator.metric, judges, prompts, len(everything), samples, protocol)
    folder = plan.folder(options.runs)
    if options.shard:
        folder = options.shard.folder(folder)
    return Prepared(plan, folder, evaluator, local, source, files, engine, device, notices)


def suite_defaults(card: SuiteCard, checkpoint: Checkpoint) -> GenerationDefaults:
    """The card's protocol, but for the text length that a checkpoint was trained with: another one breaks it."""
    own = checkpoint.generation.max_sequence_length
    return card.protocol.model_copy(update={"max_sequence_length": own}) if own else card.protocol


def _earlier_batch_size(store: RunStore) -> int | None:
    """That of the run's last session, whose batches a run goes on with; None where it has not begun."""
    sessions = (store.read("manifest.json") or {}).get("sessions") or [{}]
    found: int | None = sessions[-1].get("batch_size")
    return found


def run(
    prepared: Prepared, options: Options, bar: Progress, *, begin: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Runs, or goes on with, a prepared run or shard. Returns the results, of a shard its record.

    Raises Locked while another process writes to it.

    begin is called once the run is this process', before anything is loaded: a second process is refused at once.
    """
    plan, engine, device = prepared.plan, prepared.engine, prepared.device
    notices = [*prepared.notices]
    with ExitStack() as stack:
        store = stack.enter_context(open_run(prepared.folder))
        begin()
        if prepared.local is not None and plan.protocol is not None:
            from star_bench.generation.seeded import check_seeded_in

            check_seeded_in(prepared.local.folder, plan.protocol.steps)  # before judges are loaded
            notices += of_model(prepared.local.folder, plan.protocol.max_sequence_length, plan.prompts)
        log = stack.enter_context(recording(prepared.folder, bar.note, device=device))
        stack.enter_context(engine)
        bar = LoggedProgress(bar, log)
        make: Callable[[], Generate] | None = None
        if prepared.local is not None and plan.protocol is not None:
            note = {} if engine.remote else {"note": bar.note}
            texts = tuple(prompt.text for prompt in plan.prompts) if options.free_text_encoders else ()
            make = MakePictures(prepared.local, plan.protocol, device, texts, begin, **note)
        batch_size = options.batch_size or _earlier_batch_size(store)
        if batch_size is None:
            assert isinstance(make, MakePictures)
            sampler = make.load()
            batch_size = fastest_for(sampler, plan.items)
            bar.note(f"{batch_size} pictures at a time are fastest here")
            make = functools.partial(generating, sampler, bar.note)
        whole = plan.batches(batch_size)
        batches = options.shard.own(whole) if options.shard else whole
        if options.shard:
            begin_shard(store, options.shard, plan, batch_size)
        elif not store.samples and (said := nearest(plan, options.runs)):
            bar.note(said)
        scoring_device = "cpu" if engine.settings.scoring.gpus == 0 else device

        def produce(shown: Progress) -> Iterator[list[Item]]:
            if prepared.files is not None:
                return take_foreign(batches, store, prepared.files, shown)
            assert make is not None
            return generate(batches, store, make, engine, shown)

        results = execute(
            plan,
            batches,
            store,
            prepared.evaluator,
            produce=produce,
            environment=environment(device),
            source=prepared.source,
            bar=bar,
            batch_size=batch_size,
            engine=engine,
            make_judge=MakeJudge(plan.card, scoring_device, begin) if engine.remote else None,
            notices=notices,
            apart=prepared.local is not None and prepared.evaluator.device != "cpu",
            then=finish_shard if options.shard else conclude,
        )
        log.write("results", complete=results["complete"], counts=results["counts"])
        return results
