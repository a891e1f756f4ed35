"""What a run has to do: the images of the dataset, less those whose results are up to date."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..chain.fingerprint import DECIDED, Fingerprint, Fingerprints, plan_reuse
from ..config.config import Config
from ..corrections import parse as parse_correction
from ..dataset.dataset import Dataset
from ..dataset.shard import Shard
from ..errors import ImageError, ImageReadError, OutputError, UsageError
from ..images import ImageRef, find_key, matches_pattern
from ..output.ledger import UNKNOWN, Ledger
from ..output.store import RESULTS, have_files, load_result, stat_result
from ..results import ImageResult, LedgerRow, require_doubt
from ..wording import count_noun
from ..work import NO_WORK, FirstStep, Work, name_work

BATCH = 256
#: The last nanosecond that the ledger can hold, in the year 2262; some cameras live later.
LATEST = 2**63 - 1


@dataclass(frozen=True)
class RunRequest:
    """What a user asks of one run, beside the pipeline file.

    Attributes:
        limit: only the first so many images of the dataset; None for all.
        only: only the image of this key, or those whose key matches this pattern (`fnmatch`); None for all.
        shard: only the images of this part of the dataset; None for all. `limit` counts those.
        fresh: move an existing run aside and start over.
        retry_failed: try failed and quarantined images again.
        retry_doubtful: make images with one of these doubts again from the start.
        fail_on: codes of doubts that fail an image, besides those of the pipeline file.
        verify: compare the files' sha256, not only size and time, and look for missing outputs.
        prune: remove the outdated files of earlier runs at the end, if the run comes to its end.
        verbose: tell the story of each image.
        quiet: show nothing but errors.
        log_json: tell it as JSON lines on the standard error.
        offline: refuse plugins that reach beyond this machine.
        yes: start also where a stage objects, because of what it would cost.
        watch: do not end, but process what is added to the dataset, until a signal comes.
        command: what to repeat to go on, for the summary; "" makes it of the pipeline.
        pipeline_text: the pipeline file, to be kept in the output folder, of a pipeline that was not read from one.
    """

    limit: int | None = None
    only: str | None = None
    shard: Shard | None = None
    fresh: bool = False
    retry_failed: bool = False
    retry_doubtful: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    verify: bool = False
    prune: bool = False
    verbose: bool = False
    quiet: bool = False
    log_json: bool = False
    offline: bool = False
    yes: bool = False
    watch: bool = False
    command: str = ""
    pipeline_text: str = ""

    def __post_init__(self) -> None:
        if self.watch and self.limit is not None:
            raise UsageError("--watch processes every image that comes; it does not go with --limit")
        try:
            for code in (*self.retry_doubtful, *self.fail_on):
                require_doubt(code)
        except ValueError as error:
            raise UsageError(str(error)) from None


def listing(config: Config, options: RunRequest, images: Iterable[ImageRef] | None = None) -> Iterator[ImageRef]:
    """The images that this run is about, lazily.

    Args:
        config: the pipeline.
        options: `only` and `limit` narrow the dataset.
        images: of the whole dataset, where they are listed already; may be iterated twice.
    """
    refs = Dataset(config.dataset, config.dataset_base) if images is None else images
    is_wanted = _selector(options.only, refs) if options.only is not None else lambda key: True
    shard = options.shard
    wanted = (ref for ref in refs if is_wanted(ref.key) and (shard is None or shard.has(ref.key)))
    yield from itertools.islice(wanted, options.limit)


def _selector(only: str, refs: Iterable[ImageRef]) -> Callable[[str], bool]:
    """Whether `--only` means the image of a key: that of this name if there is one, else those that the pattern fits.

    Raises:
        DatasetError: several images have this name.
    """
    if (key := find_key(only, (ref.key for ref in refs))) is not None:
        return key.__eq__
    return lambda key: matches_pattern(key, only)


@dataclass(frozen=True, slots=True)
class DueImage:
    """An image of the dataset against the ledger.

    Attributes:
        ref: where it is.
        row: what the ledger knows of it, None if nothing.
        fingerprint: that its result needs.
        work: what is expected to be done for it; a worker that looks closer may find less to do, or more.
        afresh: whether everything is made again, whatever of its stored result still holds.
    """

    ref: ImageRef
    row: LedgerRow | None
    fingerprint: str
    work: Work
    afresh: bool = False

    @property
    def due(self) -> bool:
        """Whether there is anything to do."""
        return self.work not in NO_WORK


class Plan:
    """Which images are due, against the ledger of the output folder.

    Args:
        config: the pipeline.
        options: narrow the dataset; say what counts as up to date.
        fingerprints: that the results need.
        images: of the whole dataset, where they are listed already.
    """

    def __init__(
        self,
        config: Config,
        options: RunRequest,
        fingerprints: Fingerprints,
        images: Iterable[ImageRef] | None = None,
    ) -> None:
        self._images = images
        self._config = config
        self._options = options
        self._fingerprints = fingerprints
        self._fail_on = frozenset((*config.run.fail_on, *options.fail_on))
        self._retry_doubtful = frozenset(options.retry_doubtful)
        self._decided: set[str] = set()

    def batches(self, ledger: Ledger | None, listed: bool = True) -> Iterator[list[DueImage]]:
        """Every image with what is known of it and what is due.

        Args:
            ledger: None if there is none yet.
            listed: mark the images as seen in this listing of the dataset.
        """
        refs = listing(self._config, self._options, self._images)
        while batch := list(itertools.islice(refs, BATCH)):
            keys = [ref.key for ref in batch]
            known = ledger.find_rows(keys, listed) if ledger else {}
            doubts = ledger.doubts_of(keys) if ledger else {}
            stored = ledger.find_stored(keys) if ledger else {}
            yield [
                self._check(ref, known.get(ref.key), doubts.get(ref.key, frozenset()), stored.get(ref.key))
                for ref in batch
            ]

    def _check(
        self, ref: ImageRef, row: LedgerRow | None, doubts: frozenset[str], stored: tuple[int, int] | None
    ) -> DueImage:
        wanted = self._fingerprints.of(ref)
        if self._fingerprints.corrections is not None and ref.key in self._fingerprints.corrections:
            self._decided.add(ref.key)
        if row is None:
            return DueImage(ref, row, str(wanted), "new")
        failed = row.status in ("failed", "quarantined")
        afresh = bool(doubts & self._retry_doubtful)
        change = self._find_change(ref, row, stored)
        due = (
            self._options.verify
            or str(wanted) != row.fingerprint
            or afresh
            or (failed and self._options.retry_failed)
            or (bool(doubts) and failed is not bool(doubts & self._fail_on))  # `fail_on` has changed
            or change is not None
        )
        work: Work
        if not due:
            work = "failed" if failed else "done"
        elif afresh:
            work = "doubtful"
        elif failed:
            work = "retried"
        elif wanted.masks == DECIDED and not row.fingerprint.startswith(f"{wanted.prompts}/"):
            work = change or "corrected"
        else:
            work = change or name_work("checked", _compare(row, wanted))
        return DueImage(ref, row, str(wanted), work, afresh)

    def is_decided(self, key: str) -> bool:
        """Whether a person decided about an image, so that nothing is asked about it."""
        corrections = self._fingerprints.corrections
        return corrections is not None and bool(corrections.digest_of(key))

    def find_decision(self, key: str) -> str | None:
        """The line of what a person decided about an image, None if the pipeline decides."""
        corrections = self._fingerprints.corrections
        return None if corrections is None else corrections.find_decision(key)

    def count_verdicts(self) -> Mapping[str, int]:
        """How many of the images that `batches` gave have each verdict of a person; {} without corrections."""
        corrections = self._fingerprints.corrections
        return {} if corrections is None else corrections.count_verdicts(self._decided)

    def list_unknown_corrections(self) -> list[str]:
        """The images that have a correction and were not among those that `batches` gave."""
        shard, corrections = self._options.shard, self._fingerprints.corrections or ()
        return [key for key in corrections if key not in self._decided and (shard is None or shard.has(key))]

    def count_beyond_limit(self, ledger: Ledger, most: int) -> int:
        """How many images beyond `limit` have no result; counts at most so many."""
        if self._options.limit is None:
            return 0
        every = listing(self._config, replace(self._options, limit=None), self._images)
        refs = itertools.islice(every, self._options.limit, None)
        count = 0
        while count < most and (batch := list(itertools.islice(refs, BATCH))):
            count += len(batch) - len(ledger.find_rows([ref.key for ref in batch], listed=False))
        return min(count, most)

    def _find_change(
        self, ref: ImageRef, row: LedgerRow, stored: tuple[int, int] | None
    ) -> Literal["changed", "lost"] | None:
        """What is not as it was when the image was recorded: its file, or its stored result.

        The ledger of an earlier version knows nothing about the result: then it must only be there. A failed image
        has no result that could be lost, and is tried again only if its own file changed.
        """
        is_stored = stat_result(self._config.output, row.key)
        if row.status in ("failed", "quarantined"):
            if row.bytes == UNKNOWN:  # of a ledger made anew
                return "changed" if is_stored is None or stat(ref)[1] > is_stored[1] else None
            return "changed" if stat(ref) != (row.bytes, row.mtime) else None
        if stat(ref) != (row.bytes, row.mtime):
            return "changed"
        return "lost" if is_stored is None or stored not in (None, is_stored) else None

    def count(self, ledger: Ledger | None) -> Counter[Work]:
        """Count the images by what a run would do for them; changes nothing.

        Whether prompts are the same as before is not known: "prompts" are all images whose sources are queried again.
        """
        counts: Counter[Work] = Counter()
        is_first = self._options.fresh or not (self._config.output / RESULTS).is_dir()
        for batch in self.batches(ledger, listed=False):
            counts.update(image.work if is_first else self._foresee(image) for image in batch)
        return counts

    def _foresee(self, image: DueImage) -> Work:
        """What a worker would find to do; reads the image and its stored result only if they may have changed."""
        if not image.due or image.afresh or image.work in ("filters", "writers"):
            return image.work
        before = load_result(self._config.output, image.ref.key)
        if before is None:
            return image.work
        try:
            sha256 = before.sha256 if image.work == "prompts" else hashlib.sha256(image.ref.read()).hexdigest()
        except ImageError:
            return image.work
        images = self._config.images.as_conversion().to_json()
        wanted, line = Fingerprint.parse(image.fingerprint), self.find_decision(image.ref.key)
        reuse = plan_reuse(before, sha256, wanted, images, None if line is None else parse_correction(line))
        if reuse.everything and not have_files(self._config.output, before.artifacts):
            return "writers"
        return name_work(image.work, reuse.first)


def _compare(row: LedgerRow, wanted: Fingerprint) -> FirstStep:
    """The first step to be done again for an image whose file and stored result are as the ledger has them."""
    stored = ImageResult(row.key, row.status, provenance={"fingerprint": row.fingerprint})
    return "prompts" if (reuse := plan_reuse(stored, "", wanted)).candidate else reuse.first


def stat(ref: ImageRef) -> tuple[int, int]:
    """Size and modification time of the image file, (-1, -1) if it is gone."""
    try:
        size, mtime = ref.stat()
    except (OSError, ImageReadError):
        return -1, -1
    return size, min(mtime, LATEST)


def check_same_shard(ledger: Ledger, shard: Shard | None, config: Config) -> None:
    """Refuse to mix shards in one output, where images that another shard has would count as gone.

    Args:
        ledger: of the output folder.
        shard: that this run is about.
        config: to say where the output stands in the file.

    Raises:
        OutputError: the folder holds images of another shard, of another number of shards, or of none.
    """
    before, wanted = ledger.meta("shard"), None if shard is None else str(shard)
    if before == wanted or not sum(ledger.counts().values()):
        return
    held = f"the shard {before}" if before else "a run without --shard"
    what = f"the shard {wanted}" if wanted else "a run without --shard"
    hint = f"give each shard an output folder of its own (-o), or continue with --shard {before}"
    if not before:
        hint = "give each shard an output folder of its own (-o)"
    raise OutputError(config.problem(("output",), f"'{config.output}' holds {held}, and this is {what}", hint=hint))


def check_same_backend(ledger: Ledger, masks: str, config: Config) -> None:
    """Refuse to mix masks of two models in one output.

    Args:
        ledger: of the output folder.
        masks: the fingerprint of this run's backend and model.
        config: to say where the backend stands in the file.

    Raises:
        OutputError: masks of another backend, model or backend option are there, or those of several runs.
    """
    if ledger.meta("merged"):
        text = f"'{config.output}' was merged from several runs, so no run can continue in it"
        hint = "choose another output folder (-o); to write files from it: maskmill export"
        raise OutputError(config.problem(("output",), text, hint=hint))
    before = ledger.meta("masks")
    counts = ledger.counts()
    if before not in (None, masks) and counts["done"] + counts["empty"]:
        images = count_noun(counts["done"] + counts["empty"], "image")
        raise OutputError(
            config.problem(
                ("backend",),
                f"'{config.output}' holds masks of {images} made with another backend, model or backend option",
                hint="choose another output folder (-o), or --fresh to move the old run aside and start over",
            )
        )
