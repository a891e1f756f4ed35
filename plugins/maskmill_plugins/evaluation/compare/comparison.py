"""The comparison of two runs over the same images: which masks correspond, and how well they agree."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskmill import ImageResult, Mask, OutputError, Run
from maskmill.masks import iou
from maskmill.output.join import join_runs
from maskmill.results import LedgerRow
from maskmill.stored.originals import OriginalImages
from maskmill_plugins._shared.doubt_rating import finite_number
from maskmill_plugins._shared.pairing import pair_by_overlap

from ..pairing import pair_by_key
from ..report.pages import ListedNames
from ..report.pictures import WORST, MaskSet, ReportPicture, WorstImages, WorstRows, make_picture

#: IoU thresholds for which the share of pairs is reported.
STEPS = (0.5, 0.75, 0.9, 0.95, 0.99)
#: Bins of the histogram of IoU.
BINS = 20
_RAN = ("done", "empty")


@dataclass(frozen=True, slots=True)
class MaskPair:
    """One mask of each run for the same object.

    Attributes:
        a: position among the kept masks of the first run.
        b: position among the kept masks of the second run.
        iou: of the two masks.
        identical: whether all pixels are equal.
        by_prompt: whether they were paired by equal prompts; otherwise by overlap.
    """

    a: int
    b: int
    iou: float
    identical: bool
    by_prompt: bool


def pair_masks(a: Sequence[Mask], b: Sequence[Mask]) -> list[MaskPair]:
    """Pair masks of equal prompts, several of one prompt by overlap; then the rest greedily by overlap.

    If a prompt has one mask in each run, these are a pair even if they have no pixel in common.
    """
    overlap = iou(a, b)
    keys = [[_prompt_key(mask) for mask in masks] for masks in (a, b)]
    equal = np.array([[key is not None and key == other for other in keys[1]] for key in keys[0]], np.bool_)
    equal = equal.reshape(overlap.shape)
    found = [(row, column, True) for row, column, _ in pair_by_overlap(overlap, equal)]
    left = [
        [n for n in range(len(masks)) if n not in {pair[side] for pair in found}] for side, masks in enumerate((a, b))
    ]
    same = pair_by_key(*([_single_mask_key(keys[side][n]) for n in left[side]] for side in (0, 1)))
    found += [(left[0][row], left[1][column], True) for row, column in same]
    free = np.ones(overlap.shape, np.bool_)
    free[[row for row, _, _ in found]] = False
    free[:, [column for _, column, _ in found]] = False
    found += [(row, column, False) for row, column, _ in pair_by_overlap(overlap, free)]
    return [
        MaskPair(row, column, float(overlap[row, column]), a[row].counts == b[column].counts, by_prompt)
        for row, column, by_prompt in sorted(found)
    ]


def _prompt_key(mask: Mask) -> Any:
    """The prompt without label, source and score."""
    return None if mask.prompt is None else replace(mask.prompt, label=None, source=None, score=None)


def _single_mask_key(key: Any) -> Any:
    """The prompt of a mask if it has points or a box, so that it yields one mask; None otherwise."""
    return key if key is not None and key.needs <= {"points", "box"} else None


@dataclass
class ComparedRun:
    """One of the two runs.

    Attributes:
        name: its name.
        folder: its output folder.
        model: the model, if known.
        masks: number of kept masks in the compared images.
        only: number of masks without a partner.
        seconds: processing time of each image that both runs have.
    """

    name: str
    folder: str
    model: str | None
    masks: int = 0
    only: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        took = self.seconds
        return {
            "name": self.name,
            "folder": self.folder,
            "model": self.model,
            "masks": self.masks,
            "masks_without_partner": self.only,
            "seconds_per_image": {
                "mean": statistics.fmean(took) if took else None,
                "median": statistics.median(took) if took else None,
            },
        }


@dataclass
class Comparison:
    """The result of a comparison.

    Attributes:
        a: the first run.
        b: the second run.
        images: number of images that both runs finished with the same file.
        identical_images: number of images whose masks are identical.
        by_prompt: number of pairs with equal prompts; the others overlap.
        identical: number of pairs with identical pixels.
        agreement: sum of the agreement of all images.
        ious: of the pairs.
        statuses: (status in the first run, in the second run) of the images that both have.
        only: images that only the first run has, and only the second.
        errors: images that cannot be compared, with the reason.
        worst: (key, agreement) of the images that differ most.
        pairs: the pairs with the lowest IoU and the masks without a partner: key, label in the first run, label in
            the second, how they were paired, IoU, score in the first run, score in the second.
    """

    a: ComparedRun
    b: ComparedRun
    images: int = 0
    identical_images: int = 0
    by_prompt: int = 0
    identical: int = 0
    agreement: float = 0.0
    ious: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    only: tuple[ListedNames, ListedNames] = field(default_factory=lambda: (ListedNames(), ListedNames()))
    errors: ListedNames = field(default_factory=ListedNames)
    worst: Sequence[tuple[str, float]] = ()
    pairs: WorstRows = field(default_factory=WorstRows)

    def shares(self) -> dict[str, float]:
        """The share of pairs that reach each IoU threshold."""
        values = np.frombuffer(self.ious, np.float64) if self.ious else np.zeros(0)
        return {f"{step:g}": float(np.mean(values >= step)) if values.size else 0.0 for step in STEPS}

    def to_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "images": self.images,
            "identical_images": self.identical_images,
            "mean_agreement": self.agreement / self.images if self.images else None,
            "pairs": len(self.ious),
            "pairs_by_prompt": self.by_prompt,
            "identical_pairs": self.identical,
            "mean_iou": statistics.fmean(self.ious) if self.ious else None,
            "median_iou": statistics.median(self.ious) if self.ious else None,
            "share_of_pairs_from_iou": self.shares(),
            "iou_histogram": np.histogram(self.ious, BINS, (0, 1))[0].tolist(),
            "statuses": [{"a": a, "b": b, "images": count} for (a, b), count in sorted(self.statuses.items())],
            "only_in_a": self.only[0].to_json(),
            "only_in_b": self.only[1].to_json(),
            "troubles": self.errors.to_json(),
            "worst": [{"image": key, "agreement": value} for key, value in self.worst],
        }


def compare(a: Run, b: Run, names: tuple[str, str], pictures: int = WORST) -> Comparison:
    """Compare two runs; memory use grows by eight bytes per mask and per image.

    Args:
        a: the first run.
        b: the second run.
        names: of the two.
        pictures: how many of the images that differ most are named.
    """
    found = Comparison(_describe_run(a, names[0]), _describe_run(b, names[1]))
    worst = WorstImages(pictures)
    for key, rows in _join_rows(a, b):
        if rows[0] is None or rows[1] is None:
            found.only[rows[0] is None].add(key)
            continue
        found.statuses[rows[0].status, rows[1].status] += 1
        if rows[0].status not in _RAN or rows[1].status not in _RAN:
            continue
        try:
            results = a.result(rows[0]), b.result(rows[1])
            value = _compare_image(found, *results)
        except OutputError as error:
            found.errors.add(str(error))
            continue
        found.a.seconds.append(rows[0].seconds)
        found.b.seconds.append(rows[1].seconds)
        if value < 1:
            worst.add(value, key)
    found.worst = worst.ranked()
    return found


def _describe_run(run: Run, name: str) -> ComparedRun:
    model = (run.about.get("fingerprint") or {}).get("model")
    return ComparedRun(name, str(run.folder.absolute()), None if model is None else str(model))


def _compare_image(found: Comparison, a: ImageResult, b: ImageResult) -> float:
    """Add an image and return its agreement: the mean IoU of its pairs, where masks without a partner count as 0."""
    if a.sha256 != b.sha256:
        raise OutputError(f"{a.key}: the runs saw different versions of this image")
    pairs = pair_masks(a.kept, b.kept)
    found.images += 1
    found.a.masks += len(a.kept)
    found.b.masks += len(b.kept)
    found.a.only += len(a.kept) - len(pairs)
    found.b.only += len(b.kept) - len(pairs)
    found.by_prompt += sum(pair.by_prompt for pair in pairs)
    same = sum(pair.identical for pair in pairs)
    found.identical += same
    found.identical_images += same == len(a.kept) == len(b.kept)
    found.ious.extend(pair.iou for pair in pairs)
    for _, _, row in list_objects(a.kept, b.kept, pairs):
        found.pairs.add(row[3], [a.key, *row])
    things = len(a.kept) + len(b.kept) - len(pairs)
    value = sum(pair.iou for pair in pairs) / things if things else 1.0
    found.agreement += value
    return value


def _join_rows(a: Run, b: Run) -> Iterator[tuple[str, tuple[LedgerRow | None, LedgerRow | None]]]:
    """The rows of both runs by key."""
    for found in join_runs((a, b)):
        rows = {side: row for _, side, row in found}
        yield found[0][0], (rows.get(0), rows.get(1))


def list_objects(
    a: Sequence[Mask], b: Sequence[Mask], pairs: Sequence[MaskPair]
) -> Iterator[tuple[int | None, int | None, list[Any]]]:
    """Position in each run and the row in the page's tables of each pair, and of each mask without a partner."""

    def row(first: int | None, second: int | None, how: str, value: float) -> list[Any]:
        masks = [None if n is None else side[n] for side, n in ((a, first), (b, second))]
        scores = [None if mask is None else finite_number(mask.score) for mask in masks]
        rounded = [None if score is None else round(score, 4) for score in scores]
        return [*(None if mask is None else mask.label or "" for mask in masks), how, round(value, 4), *rounded]

    for pair in pairs:
        yield pair.a, pair.b, row(pair.a, pair.b, "prompt" if pair.by_prompt else "overlap", pair.iou)
    for number in sorted(set(range(len(a))) - {pair.a for pair in pairs}):
        yield number, None, row(number, None, "only_a", 0.0)
    for number in sorted(set(range(len(b))) - {pair.b for pair in pairs}):
        yield None, number, row(None, number, "only_b", 0.0)


def draw_comparison(a: Run, b: Run, key: str, value: float, originals: OriginalImages) -> ReportPicture:
    """Both runs' masks over the image; the masks of a pair have the same colour."""
    result = a.result(a.find(key))
    kept = result.kept, b.result(b.find(key)).kept
    objects = list(list_objects(*kept, pair_masks(*kept)))
    pairs = [(first, second) for first, second, _ in objects]
    tones = [{pair[side]: number for number, pair in enumerate(pairs)} for side in (0, 1)]
    sets = [MaskSet(kept[side], [tones[side][n] for n in range(len(kept[side]))]) for side in (0, 1)]
    return make_picture(originals, result, value, (sets[0], sets[1]), pairs, [row for _, _, row in objects])
