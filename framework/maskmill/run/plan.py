"""What a run has to do: the images of the dataset, less those whose results are up to date."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ..chain.fingerprint import Fingerprints
from ..config.config import Config
from ..dataset.dataset import Dataset
from ..errors import ImageReadError, OutputError, UsageError
from ..images import ImageRef, find_key, matches_pattern
from ..output.ledger import UNKNOWN, Ledger
from ..output.store import stat_result
from ..results import LedgerRow, require_doubt

BATCH = 256
#: The last nanosecond that the ledger can hold, in the year 2262; some cameras live later.
LATEST = 2**63 - 1


@dataclass(frozen=True)
class RunRequest:
    """What a user asks of one run, beside the pipeline file.

    Attributes:
        limit: only the first so many images of the dataset; None for all.
        only: only the image of this key, or those whose key matches this pattern (`fnmatch`); None for all.
        fresh: move an existing run aside and start over.
        retry_failed: try failed and quarantined images again.
        retry_doubtful: make images with one of these doubts again from the start.
        fail_on: codes of doubts that fail an image, besides those of the pipeline file.
        verify: compare the files' sha256, not only size and time, and look for missing outputs.
        verbose: tell the story of each image.
        quiet: show nothing but errors.
        log_json: tell it as JSON lines on the standard error.
        offline: refuse plugins that reach beyond this machine.
        yes: start also where a stage objects, because of what it would cost.
        command: what to repeat to go on, for the summary; "" makes it of the pipeline.
        pipeline_text: the pipeline file, to be kept in the output folder, of a pipeline that was not read from one.
    """

    limit: int | None = None
    only: str | None = None
    fresh: bool = False
    retry_failed: bool = False
    retry_doubtful: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    verify: bool = False
    verbose: bool = False
    quiet: bool = False
    log_json: bool = False
    offline: bool = False
    yes: bool = False
    command: str = ""
    pipeline_text: str = ""

    def __post_init__(self) -> None:
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
    yield from itertools.islice((ref for ref in refs if is_wanted(ref.key)), options.limit)


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
        due: whether there is anything to do.
        afresh: whether everything is made again, whatever of its stored result still holds.
    """

    ref: ImageRef
    row: LedgerRow | None
    fingerprint: str
    due: bool
    afresh: bool = False


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
        wanted = str(self._fingerprints.of(ref))
        if row is None:
            return DueImage(ref, row, wanted, due=True)
        failed = row.status in ("failed", "quarantined")
        afresh = bool(doubts & self._retry_doubtful)
        due = (
            self._options.verify
            or wanted != row.fingerprint
            or afresh
            or (failed and self._options.retry_failed)
            or (bool(doubts) and failed is not bool(doubts & self._fail_on))  # `fail_on` has changed
            or self._has_changed(ref, row, stored)
        )
        return DueImage(ref, row, wanted, due, afresh)

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

    def _has_changed(self, ref: ImageRef, row: LedgerRow, stored: tuple[int, int] | None) -> bool:
        """Whether the image's file or its stored result are not as they were when it was recorded.

        The ledger of an earlier version knows nothing about the result: then it must only be there. A failed image
        has no result that could be lost, and is tried again only if its own file changed.
        """
        is_stored = stat_result(self._config.output, row.key)
        if row.status in ("failed", "quarantined"):
            if row.bytes == UNKNOWN:  # of a ledger made anew
                return is_stored is None or stat(ref)[1] > is_stored[1]
            return stat(ref) != (row.bytes, row.mtime)
        return stat(ref) != (row.bytes, row.mtime) or is_stored is None or stored not in (None, is_stored)

    def count(self, ledger: Ledger | None) -> Counter[str]:
        """How many images are "to do", and how many "there already"; changes nothing."""
        counts: Counter[str] = Counter()
        for batch in self.batches(ledger, listed=False):
            counts.update("to do" if image.due else "there already" for image in batch)
        return counts


def stat(ref: ImageRef) -> tuple[int, int]:
    """Size and modification time of the image file, (-1, -1) if it is gone."""
    try:
        size, mtime = ref.stat()
    except (OSError, ImageReadError):
        return -1, -1
    return size, min(mtime, LATEST)


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
        raise OutputError(
            config.problem(
                ("backend",),
                f"'{config.output}' holds masks of {counts['done'] + counts['empty']} images made with another"
                " backend, model or backend option",
                hint="choose another output folder (-o), or --fresh to move the old run aside and start over",
            )
        )
    ledger.set_meta("masks", masks)
