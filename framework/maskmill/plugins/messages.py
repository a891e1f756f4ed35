"""What crosses a process border in a run: plain frozen data, from the driver to its workers and back.

Workers and the prompt lane build their plugins from it, since instances of classes that live in
drop-in files cannot be pickled. Engines pass it on unopened. The lane is reached through
pipes, so what goes there also has `to_json` and `from_json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ..decoding.bit_depth import DEFAULT, Conversion
from ..files import TEMPORARY_PREFIX
from ..images import ImageRef
from ..prompts import Prompt
from ..results import Doubt, Failure, Status
from ..work import FirstStep

Data = bytes
#: A file in the output folder while workers are at work; a sweep removes one that is left.
RUN_MARK = f"{TEMPORARY_PREFIX}run"
#: The prompts of one image by the position of their source; None: the source has nothing about the image.
Answers = dict[int, list[Prompt] | None]


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """One `use:` of a pipeline.

    Attributes:
        use: the registered name.
        options: as in YAML, environment variables replaced; may hold secrets, so never stored or shown.
        base: the folder that relative paths in the options start from.
        folder: a writer's folder below the output, else "".
    """

    use: str
    options: Mapping[str, Any] = field(repr=False)
    base: str
    folder: str = ""


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """The plugins of a pipeline, for `config.build_stages` in another process.

    Attributes:
        drop_ins: path -> sha256 of each plugin file to load.
        combine: "first" or "all".
        prompts: the prompt sources in order.
        memories: JSON that each prompt source is given back by `recall`; () if none has any.
        backend: the backend.
        filters: in order.
        writers: in order.
    """

    drop_ins: Mapping[str, str]
    combine: str
    prompts: tuple[PluginSpec, ...]
    memories: tuple[Any, ...]
    backend: PluginSpec
    filters: tuple[PluginSpec, ...]
    writers: tuple[PluginSpec, ...]


@dataclass(frozen=True, slots=True)
class ModelIds:
    """What identifies the models of a pipeline; "" for a stage without one.

    Attributes:
        backend: of the backend.
        sources: of the prompt sources in their order.
    """

    backend: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunMark:
    """By which a worker, on another machine perhaps, tells that it sees the folders of the run.

    Attributes:
        token: content of the file `RUN_MARK` in the output folder.
        host: name of the driver's machine.
        sample: an image of the dataset, None if it is empty or in a bucket.
        bytes: size of its file.
    """

    token: str
    host: str
    sample: ImageRef | None = None
    bytes: int = -1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**data, "sample": ImageRef(**data["sample"]) if data["sample"] else None})


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker needs to open its chain.

    Attributes:
        chain: the plugins.
        output: the output folder.
        max_pixels: larger images fail.
        fail_on: codes of doubts that fail an image.
        models: the models when the run began.
        backend_digest: of the backend's options when the run began.
        conversion: how image files become images.
        conflict_iou: IoU from which on two boxes must not have different labels; None: not compared.
        hashes: `files.known_hashes()` of the driver, so that no worker reads the models' files to hash them.
        storage: the options of object storage, as plain data; None for the defaults.
        destination: where the files are copied to from there, as `Config.destination`.
        mark: by which a worker tells that it sees the run's folders; None if it cannot be otherwise.
        in_lane: whether the prompt lane queries the sources of `Stages.list_ahead`.
    """

    chain: ChainSpec
    output: str
    max_pixels: int
    fail_on: tuple[str, ...]
    models: ModelIds
    backend_digest: str
    conversion: Conversion = DEFAULT
    conflict_iou: float | None = None
    hashes: tuple[tuple[str, int, int, str], ...] = ()
    mark: RunMark | None = None
    storage: Mapping[str, Any] | None = None
    destination: str | None = None
    in_lane: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        chain = dict(data["chain"])
        for name in ("prompts", "filters", "writers"):
            chain[name] = tuple(PluginSpec(**plugin) for plugin in chain[name])
        chain["backend"] = PluginSpec(**chain["backend"])
        chain["memories"] = tuple(chain["memories"])
        conversion = Conversion(**data["conversion"])
        models = ModelIds(data["models"]["backend"], tuple(data["models"]["sources"]))
        plain = {"chain": ChainSpec(**chain), "conversion": conversion, "models": models}
        hashes = tuple((path, size, mtime, sha256) for path, size, mtime, sha256 in data["hashes"])
        mark = RunMark.from_json(data["mark"]) if data["mark"] else None
        return cls(**{**data, **plain, "fail_on": tuple(data["fail_on"]), "hashes": hashes, "mark": mark})


@dataclass(frozen=True, slots=True)
class LaneAnswers:
    """What the prompt lane found for one image.

    Attributes:
        sha256: of the image file that was looked at, "" if it could not be read.
        answers: by the position of the source; None: it has nothing about this image.
        notes: what the sources noted, by plugin name.
        failure: why the lane failed on this image, or None.
        doubts: what may be wrong with the answers.
    """

    sha256: str = ""
    answers: Answers = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    doubts: tuple[Doubt, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sha256": self.sha256,
            "answers": [
                [index, None if found is None else [prompt.to_json() for prompt in found]]
                for index, found in self.answers.items()
            ],
            "notes": dict(self.notes),
            "failure": None if self.failure is None else asdict(self.failure),
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        answers: Answers = {
            index: None if found is None else [Prompt.from_json(prompt) for prompt in found]
            for index, found in data["answers"]
        }
        failure = None if data["failure"] is None else Failure(**data["failure"])
        return cls(data["sha256"], answers, data["notes"], failure, tuple(Doubt(**doubt) for doubt in data["doubts"]))


@dataclass(frozen=True, slots=True)
class Task:
    """One image for a worker.

    Attributes:
        ref: where the image is.
        fingerprint: text of the `Fingerprint` that its result must have.
        verbose: whether a line for each step comes back.
        stack_file: receives the stack if the time limit ends the process.
        timeout: seconds, 0 for no limit; the engine sets it.
        answers: what the prompt lane found, None if the worker queries every source.
        afresh: make everything again, whatever of the stored result still holds.
        careful: an earlier try took its worker down, see `Chain.process`.
        correction: the line of what a person decided about it; no source is queried then.
    """

    ref: ImageRef
    fingerprint: str
    verbose: bool
    stack_file: str
    timeout: float = 0.0
    answers: LaneAnswers | None = None
    afresh: bool = False
    careful: bool = False
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How a worker finished a task.

    Attributes:
        status: the image's status; None if the worker asks for the run to stop.
        stop: why the run has to stop, "" if it does not.
        bytes: size of the image file when it was read, -1 if unknown.
        mtime: its modification time in nanoseconds, -1 if unknown.
        seconds: by stage.
        failure: for a failed image, why.
        doubts: codes of what may be wrong with the result.
        lines: the steps, for `-v`.
        first: the first step that was done again.
        entries: what the image adds to the files about the whole dataset, by the name of the writer's folder.
        host: the machine, "" if machines are not told apart; the engine sets it.
    """

    status: Status | None
    stop: str = ""
    bytes: int = -1
    mtime: int = -1
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    doubts: tuple[str, ...] = ()
    lines: Sequence[str] = ()
    first: FirstStep = "segment"
    entries: Mapping[str, Data] = field(default_factory=dict)
    host: str = ""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The process that ran the task is gone: killed, crashed, or ended by the time limit.

    Attributes:
        reason: what is known of it, for the user.
        timed_out: True if it was ended because it took too long.
        stack: where it was when the time limit ended it, "" if that is not known.
        host: the machine, as in `Reply`.
    """

    reason: str
    timed_out: bool = False
    stack: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class HostLost:
    """The machine that had the task, or its connection, is gone; whether the task had begun is not known.

    Attributes:
        reason: what is known of it, for the user.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The engine gives the task back: no slot has begun it, and it can be submitted again."""


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """The chain could not be opened in the worker: the run cannot work, and no image is to blame.

    Attributes:
        message: the error with its hint, for the user.
        traceback: "" if the process died.
        died: MAX_OPENINGS processes of one slot died in a row while they were starting.
    """

    message: str
    traceback: str = ""
    died: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class LaneSetup:
    """What the process of the prompt lane needs to open its sources.

    Attributes:
        worker: as a worker gets it.
        threads: images at the same time.
        driver: the process id of the driver; the lane ends with it.
    """

    worker: WorkerSetup
    threads: int
    driver: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**data, "worker": WorkerSetup.from_json(data["worker"])})


@dataclass(frozen=True, slots=True)
class LaneTask:
    """One image for the lane; `token` names it in the reply, the rest is as in `Task`."""

    token: int
    ref: ImageRef
    fingerprint: str
    verbose: bool
    afresh: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**data, "ref": ImageRef(**data["ref"])})


@dataclass(frozen=True, slots=True)
class LaneReply:
    """How the lane finished a `LaneTask`; `stop`, `seconds` and `lines` as in `Reply`.

    Attributes:
        token: of the task.
        answers: None if the run has to stop.
    """

    token: int
    answers: LaneAnswers | None = None
    stop: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        answers = None if self.answers is None else self.answers.to_json()
        return {
            "token": self.token,
            "answers": answers,
            "stop": self.stop,
            "seconds": dict(self.seconds),
            "lines": self.lines,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        answers = None if data["answers"] is None else LaneAnswers.from_json(data["answers"])
        return cls(**{**data, "answers": answers, "lines": tuple(data["lines"])})
