"""`star-bench run`: a checkpoint, or a folder of pictures, and suites; pictures and scores in their stores."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_bench.assets import model_files, prompt_sets
from star_bench.assets.asset import Asset, check_all_here, unique
from star_bench.assets.model_files import LocalCheckpoint
from star_bench.assets.prompt_files import prompts_of
from star_bench.catalogue import checkpoints, licences, plugins, suites
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.lora_keys import read_keys
from star_bench.catalogue.model_parts import parts_of
from star_bench.catalogue.protocol import MODEL, UNSAID, GenerationSettings, Protocol, settings_of
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.base import Evaluator, Status
from star_bench.generation.kinds import check_kind_of
from star_bench.generation.size import check_size_of
from star_bench.runs import foreign
from star_bench.runs.batch_size import fastest_for
from star_bench.runs.callable import CallableModel
from star_bench.runs.draw import Batches, draw, generate, opening, take_foreign, take_stored
from star_bench.runs.engines.base import Engine, Settings, Workers
from star_bench.runs.environment import environment
from star_bench.runs.log import LoggedProgress, recording
from star_bench.runs.manifest import PicturesManifest, read_pictures_manifest
from star_bench.runs.nearest import nearest
from star_bench.runs.notices import Notice, of_model
from star_bench.runs.pictures import PictureStore, open_pictures
from star_bench.runs.plan import Item, Plan, Subject, merge_protocol, select
from star_bench.runs.progress import NotesOnly, Progress
from star_bench.runs.score import begin_scores, conclude, judge
from star_bench.runs.scores import ScoreStore, open_scores
from star_bench.runs.shards import Shard, begin_shard, finish_shard
from star_bench.runs.workers import MakeJudge, MakePictures, Pipes, make_evaluator


@dataclass(frozen=True)
class Options:
    """What the command line says. None leaves a choice to the suite's card, the protocol, the checkpoint."""

    suites: tuple[str, ...]
    model: str | None = None
    base: str | None = None
    drawn_by: CallableModel | None = None
    """A function in place of a checkpoint."""
    images: Path | None = None
    pictures: Path | None = None
    """The folder of pictures that are stored already."""
    samples: int | None = None
    limit: int | None = None
    protocol: str = MODEL
    """The name of a protocol, or a file."""
    settings: GenerationSettings = UNSAID
    """What goes before the protocol."""
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
    score: bool = True
    """False: pictures are drawn, and not judged."""
    fetch: bool = True
    """Whether the model may be downloaded where nothing else is lacking."""


@dataclass(frozen=True)
class Part:
    """One suite of a run. folder: of its scores; drawn: of its pictures."""

    plan: Plan
    folder: Path
    drawn: Path
    evaluator: Evaluator


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start: everything named was found and fits together."""

    parts: tuple[Part, ...]
    local: LocalCheckpoint | None
    source: dict[str, Any]
    """Where the images come from, for the manifest: the hub's commit is recorded here."""
    files: dict[tuple[str, int], Path] | None
    engine: Engine
    device: str
    """That workers compute on."""
    notices: tuple[Notice, ...] = ()
    """What a reader of the results must know, as far as preparing finds it out."""
    drawn_by: CallableModel | None = None


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


def prepare(options: Options) -> Prepared:
    """Finds everything and plans the run, cheapest checks first. Raises the errors of all it asks."""
    if sum(each is not None for each in (options.model, options.drawn_by, options.images, options.pictures)) != 1:
        raise UsageError("a run needs either a model or a folder of pictures", "give --model NAME or --images DIR")
    if options.batch_size is None and (not options.model or options.shard or options.engine != "local"):
        raise UsageError(
            "a batch size is found only where one local run makes pictures",
            "give --batch-size a number with --images, --shard or another engine",
        )
    if twice := [name for name, times in Counter(options.suites).items() if times > 1]:
        raise UsageError(f"the suite {twice[0]!r} is named twice", "name each suite once")
    if options.shard and (len(options.suites) > 1 or not options.score):
        raise UsageError("a shard is of one suite, drawn and judged", "give one --suite, and leave --no-score out")
    cards = [suites.load(name) for name in options.suites]
    make_engine = plugins.load(plugins.ENGINES, options.engine)
    drawn_by = generator(options)
    checkpoint = checkpoints.resolve(options.model, base=options.base) if options.model and not drawn_by else None
    stored = read_pictures_manifest(options.pictures) if options.pictures else None
    device = _device(options.device, elsewhere=make_engine.remote)
    engine: Engine = make_engine(Settings(device, options.workers, options.scoring_workers, options.address))
    evaluators = [make_evaluator(card, _device_here(device)) for card in cards]
    local = _all_here(options, checkpoint, evaluators)
    source: dict[str, Any] = {"folder": str(options.images)}
    protocol = stored.protocol if stored else None
    if checkpoint and local:
        check_kind_of(local.folder)
        if local.lora_path:
            read_keys(local.lora_path, parts_of(local.folder))
        protocol = _protocol(checkpoint, options, device)
        check_size_of(local.folder, protocol.height, protocol.width)
        if options.kernels != "default":
            from star_bench.generation.kernels import check_kernels

            check_kernels(options.kernels, device=None if make_engine.remote else device, dtype=protocol.dtype)
        source = {
            "checkpoint": checkpoint.name,
            "place": str(checkpoint.lora or checkpoint.source),
            "base": checkpoint.base,
            "commit": local.revision,
        }
    elif stored:
        source = stored.source
    elif drawn_by:
        source = {"function": drawn_by.name, "version": drawn_by.version}
    parts: list[Part] = []
    files: dict[tuple[str, int], Path] | None = None
    notices: tuple[Notice, ...] = ()
    for card, evaluator in zip(cards, evaluators, strict=True):
        everything = evaluator.prompts()
        prompts = select(everything, options.limit)
        judges = evaluator.judges() if options.score else {}
        samples = options.samples or card.protocol.samples or 1
        if checkpoint and local:
            licensed = tuple(licences.of_checkpoint(checkpoint))
            subject = Subject(checkpoint.name, local.digest, checkpoint.licence, licences=licensed)
        elif stored:
            subject = stored.subject
        elif drawn_by:
            subject = drawn_by.subject(options.seed)
        else:
            assert options.images is not None
            if len(cards) > 1:
                raise UsageError("a folder is taken for one suite", "give one --suite with --images")
            chosen = (prompt.id for prompt in prompts)
            found = foreign.find(options.images, everything, samples, asked=evaluator.asked, chosen=chosen)
            files, notices = found.files, found.notices
            subject = Subject(options.images.resolve().name, foreign.digest(files), "not stated", foreign=True)
        plan = Plan(subject, card, evaluator.metric, judges, prompts, len(everything), samples, protocol)
        folder, drawn = plan.folder(options.runs), plan.pictures.folder(options.runs)
        if stored:
            _check_same_texts(stored, plan)
            assert options.pictures is not None
            drawn = options.pictures
        if options.shard:
            folder, drawn = options.shard.folder(folder), options.shard.folder(drawn)
        parts.append(Part(plan, folder, drawn, evaluator))
    return Prepared(tuple(parts), local, source, files, engine, device, notices, drawn_by)


def generator(options: Options) -> CallableModel | None:
    """What draws in place of a checkpoint: a function, or a model of another package by its name; a name in checkpoints.yaml
    is that checkpoint. Raises UsageError for settings, which are its own."""
    name, found = options.model, options.drawn_by
    if name is not None and name not in checkpoints.names() and name in plugins.names(plugins.GENERATORS):
        draw = plugins.load(plugins.GENERATORS, name)
        found = CallableModel(name, draw, plugins.version(plugins.GENERATORS, name))
    if found and (options.settings != UNSAID or options.protocol != MODEL):
        raise UsageError(f"{found.name} draws by its own settings", "leave protocol, steps, guidance and size out")
    return found


def needed(options: Options, checkpoint: Checkpoint | None, evaluators: Sequence[Evaluator]) -> list[Asset]:
    """Everything that a run needs on this machine, the model last."""
    files = [prompts_of(each.card) for each in evaluators if each.card.prompts.path]
    judges = [asset for each in evaluators if options.score for asset in each.assets()]
    model = [model_files.asset_of(checkpoint, str(options.model))] if checkpoint else []
    return unique([*map(prompt_sets.asset_of, files), *judges, *model])


def _all_here(
    options: Options, checkpoint: Checkpoint | None, evaluators: Sequence[Evaluator]
) -> LocalCheckpoint | None:
    """The model's files; fetched where `options` allow it and nothing else is lacking, so that gigabytes are not brought
    for a run that can't begin. Raises MissingWeights with all that is not here."""
    assets = needed(options, checkpoint, evaluators)
    if checkpoint is None:
        check_all_here(assets)
        return None
    others = assets[:-1]
    if not options.fetch or any(asset.lack for asset in others):
        check_all_here(assets)
    return model_files.locate(checkpoint, fetch=options.fetch)


def _protocol(checkpoint: Checkpoint, options: Options, device: str) -> Protocol:
    return merge_protocol(
        options.settings,
        named_settings(settings_of(options.protocol), checkpoint),
        checkpoint.generation,
        seed=options.seed,
        dtype=choose_dtype(options.dtype, checkpoint, device),
        device=device.split(":")[0],
        kernels=options.kernels,
        where=checkpoint.name,
    )


def _check_same_texts(stored: PicturesManifest, plan: Plan) -> None:
    """Raises Refused where stored pictures are not those that the plan judges."""
    mine, theirs = dict(plan.pictures.texts), dict(stored.prompts)
    if other := [name for name, text in mine.items() if theirs.get(name) != text]:
        raise Refused(
            f"{len(other)} of the {len(mine)} prompts of suite {plan.card.name!r} are not those of the pictures (the first: "
            f"{other[0]!r}, {mine[other[0]]!r})",
            "judge them by a suite with the same prompts, or draw this suite's own with 'star-bench run'",
        )
    if plan.pictures.digest() != stored.digest:
        raise Refused(
            f"the pictures are of {len(theirs)} prompts and suite {plan.card.name!r} has {len(mine)} of them",
            f"give --limit {len(theirs)} where the pictures are of a subset, or draw this suite's own",
        )


def named_settings(settings: GenerationSettings, checkpoint: Checkpoint) -> GenerationSettings:
    """A protocol's, but for the text length that a checkpoint was trained with: another one breaks it."""
    own = checkpoint.generation.max_sequence_length
    return settings.model_copy(update={"max_sequence_length": own}) if own else settings


def _earlier_batch_size(store: PictureStore) -> int | None:
    """That of the last session that drew, whose batches a run goes on with; None where none has."""
    sessions = store.manifest.get("sessions") or [{}]
    found: int | None = sessions[-1].get("batch_size")
    return found


def run(
    prepared: Prepared, options: Options, bar: Progress, *, begin: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Runs, or goes on with, a prepared run or shard: each picture is drawn once, whichever suites it is judged by. Returns
    the results of each suite, of a shard its record, and of pictures that are only drawn their counts.

    Raises Locked while another process writes to it.

    begin is called once the run is this process', before anything is loaded: a second process is refused at once.
    """
    return _Run(prepared, options, bar, begin).run()


@dataclass
class _Open:
    """A part that was begun, while its folder is this process'."""

    part: Part
    scores: ScoreStore
    canaries: int
    bar: LoggedProgress


class _Run:
    """One call of `run`: canaries first, then pictures, then scores."""

    def __init__(self, prepared: Prepared, options: Options, bar: Progress, begin: Callable[[], None]) -> None:
        self.prepared, self.options, self.bar, self.begin = prepared, options, bar, begin
        self.engine, self.device = prepared.engine, prepared.device
        self.pipes = Pipes()

    def run(self) -> list[dict[str, Any]]:
        prepared, options = self.prepared, self.options
        groups: dict[Path, list[Part]] = {}
        for part in prepared.parts:
            groups.setdefault(part.drawn, []).append(part)
        out: dict[Path, dict[str, Any]] = {}
        with ExitStack() as stack:
            stores = {}
            for part in prepared.parts if options.score else ():
                stores[part.folder] = stack.enter_context(open_scores(part.folder))
            drawn = {folder: stack.enter_context(open_pictures(folder)) for folder in groups}
            self.begin()
            stack.enter_context(self.engine)
            notices = {folder: self._notices(parts[0].plan) for folder, parts in groups.items()}
            judged = {folder: self._begin(stack, parts, stores) for folder, parts in groups.items() if options.score}
            sizes: dict[Path, int] = {}
            for folder, parts in groups.items():
                with recording(folder, self.bar.note, device=self.device) as log:
                    shown = LoggedProgress(self.bar, log)
                    make = self._make(parts[0].plan, shown)
                    sizes[folder] = self._batch_size(drawn[folder], parts, make, shown)
                    self._open(drawn[folder], parts[0].plan, notices[folder], sizes[folder], shown)
                    if self.engine.remote and options.score:
                        # Scoring goes on beside drawing: the first suite's judges are given pictures as they come.
                        first = judged[folder][0]
                        stream = self._stored(
                            self._batches(parts[:1], sizes[folder]), drawn[folder], make, NotesOnly(shown)
                        )
                        out[first.part.folder] = self._judge(first, stream, drawn[folder], sizes[folder])
                    for _ in self._stored(self._batches(parts, sizes[folder]), drawn[folder], make, shown):
                        pass
            self.pipes.clear()
            for folder, opened in judged.items():
                for one in opened:
                    if one.part.folder not in out:
                        batches = self._batches([one.part], sizes[folder])
                        out[one.part.folder] = self._judge(one, batches, drawn[folder], sizes[folder])
            if not options.score:
                return [_counted(part, drawn[part.drawn]) for part in prepared.parts]
        return [out[part.folder] for part in prepared.parts]

    def _notices(self, plan: Plan) -> list[Notice]:
        """Of the model, before judges are loaded."""
        local, found = self.prepared.local, [*self.prepared.notices]
        if local is not None and plan.protocol is not None:
            from star_bench.generation.seeded import check_seeded_in

            check_seeded_in(local.folder, plan.protocol.steps)
            found += of_model(local.folder, plan.protocol.max_sequence_length, plan.prompts)
        return found

    def _begin(self, stack: ExitStack, parts: Sequence[Part], stores: dict[Path, ScoreStore]) -> list[_Open]:
        """Opens each part's log and judges its canaries."""
        opened = []
        for part in parts:
            log = stack.enter_context(recording(part.folder, self.bar.note, device=self.device))
            shown, store = LoggedProgress(self.bar, log), stores[part.folder]
            if self.options.shard:
                assert self.options.batch_size is not None
                begin_shard(store, self.options.shard, part.plan, self.options.batch_size)
            canaries = begin_scores(
                part.plan,
                store,
                part.evaluator,
                environment=environment(self.device),
                source=self.prepared.source,
                remote=self.engine.remote,
                apart=self.prepared.local is not None and part.evaluator.device != "cpu",
                bar=shown,
            )
            opened.append(_Open(part, store, canaries, shown))
        return opened

    def _make(self, plan: Plan, bar: Progress) -> MakePictures | None:
        if self.prepared.local is None or plan.protocol is None:
            return None
        here: dict[str, Any] = {} if self.engine.remote else {"note": bar.note, "pipes": self.pipes}
        texts = tuple(prompt.text for prompt in plan.prompts) if self.options.free_text_encoders else ()
        return MakePictures(self.prepared.local, plan.protocol, self.device, texts, self.begin, **here)

    def _batch_size(self, store: PictureStore, parts: Sequence[Part], make: MakePictures | None, bar: Progress) -> int:
        found = self.options.batch_size or _earlier_batch_size(store)
        if found is None:
            assert make is not None
            found = fastest_for(self.pipes.sampler(make), parts[0].plan.items)
            bar.note(f"{found} pictures at a time are fastest here")
        return found

    def _open(self, store: PictureStore, plan: Plan, notices: Sequence[Notice], batch_size: int, bar: Progress) -> None:
        for notice in notices:
            bar.note(notice.text)
        is_new = self.prepared.local is not None and not store.rows and not self.options.shard
        if is_new and (said := nearest(plan.pictures, self.options.runs)):
            bar.note(said)
        store.opening(
            **opening(
                plan.pictures,
                source=self.prepared.source,
                notices=notices,
                environment=environment(self.device),
                batch_size=batch_size,
                remote=self.engine.remote,
            )
        )

    def _batches(self, parts: Sequence[Part], size: int) -> Batches:
        """Of all images that any of the parts needs, cut as the part with the most of them has them alone."""
        most = max((part.plan for part in parts), key=lambda plan: plan.samples)
        batches = most.batches(size)
        return self.options.shard.own(batches) if self.options.shard else batches

    def _stored(
        self, batches: Batches, store: PictureStore, make: MakePictures | None, bar: Progress
    ) -> Iterator[list[Item]]:
        """The batches, each once its pictures are stored."""
        if self.prepared.files is not None:
            return draw(store, take_foreign(batches, store, self.prepared.files, bar))
        if drawn_by := self.prepared.drawn_by:
            seed = self.options.seed
            return draw(store, generate(batches, store, lambda: drawn_by.maker(seed), self.engine, bar))
        if make is None:
            return iter(take_stored(batches, store))
        return draw(store, generate(batches, store, make, self.engine, bar))

    def _judge(
        self, one: _Open, stored: Iterable[list[Item]], pictures: PictureStore, batch_size: int
    ) -> dict[str, Any]:
        part, settings = one.part, self.engine.settings
        one.scores.say(batch_size=batch_size)
        scoring_device = "cpu" if settings.scoring.gpus == 0 else self.device
        results = judge(
            part.plan,
            self._batches([part], batch_size),
            stored,
            pictures,
            one.scores,
            part.evaluator,
            canaries=one.canaries,
            bar=one.bar,
            engine=self.engine,
            make_judge=MakeJudge(part.plan.card, scoring_device, self.begin) if self.engine.remote else None,
            then=finish_shard if self.options.shard else conclude,
        )
        one.bar.log.write("results", complete=results["complete"], counts=results["counts"])
        return results


def _counted(part: Part, store: PictureStore) -> dict[str, Any]:
    """Of pictures that are drawn and not judged."""
    statuses = Counter(store.rows[item.key]["status"] for item in part.plan.items)
    counts = {"planned": len(part.plan.items), **{status.value: statuses.get(status.value, 0) for status in Status}}
    return {"pictures": str(store.folder), "counts": counts, "complete": counts["ok"] == counts["planned"]}
