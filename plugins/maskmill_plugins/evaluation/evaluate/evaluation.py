"""The evaluation of a run against ground truth."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskmill import ImageResult, Mask, OutputError, Run
from maskmill.stored.explain import describe_kind
from maskmill.stored.originals import OriginalImages
from maskmill_plugins._shared.doubt_rating import finite_number
from maskmill_plugins._shared.prompt_files.matching import Matcher

from ..report.pages import ListedNames
from ..report.pictures import WORST, MaskSet, ReportPicture, WorstImages, WorstRows, make_picture
from ..truth.image_table import Truth
from ..truth.objects import TrueImage
from .merge_regions import merge_regions
from .precision import Precision
from .scoring import ImageScore, ScoreTotals, hide_ignored, score_image

#: Position of the IoU in a row of `list_objects`.
_IOU = 4


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        truth: the ground truth.
        by_class: False if all classes count as one.
        precision: COCO's numbers, and AP by class.
        tallies: IoU and boundary F.
        images: number of evaluated images, including failed ones.
        failed: images that failed in the run; all their objects count as missed.
        errors: images that could not be evaluated, with the reason; ignored.
        only_in_run: images of the run without ground truth; ignored.
        only_in_truth: images with ground truth that are not in the run; ignored.
        unknown_labels: labels of masks that are not a class of the ground truth, with their number.
        worst: (key, mean IoU) of the worst images.
        objects: the objects with the lowest IoU, and the masks that match none: key, and a row of `list_objects`.
    """

    truth: Truth
    by_class: bool
    precision: Mapping[str, float | None] = field(default_factory=dict)
    tallies: ScoreTotals = field(default_factory=ScoreTotals)
    images: int = 0
    failed: ListedNames = field(default_factory=ListedNames)
    errors: ListedNames = field(default_factory=ListedNames)
    only_in_run: ListedNames = field(default_factory=ListedNames)
    only_in_truth: ListedNames = field(default_factory=ListedNames)
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    worst: Sequence[tuple[str, float]] = ()
    objects: WorstRows = field(default_factory=WorstRows)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {
            "truth": {
                "source": str(self.truth.source),
                "kind": self.truth.kind,
                "images": len(self.truth.images),
                "objects": self.truth.images.objects,
                "warnings": list(self.truth.warnings),
                "merged_classes": len(self.truth.merged),
            },
            "classes_compared": self.by_class,
            "images": self.images,
            "coco": dict(self.precision),
            "all": {**self.tallies.all.means(), "matched_by": self.tallies.ways, "extra_masks": self.tallies.extra},
            "iou_histogram": self.tallies.histogram,
            "confusions": [
                {"truth": true, "mask": mask, "objects": count}
                for (true, mask), count in sorted(self.tallies.confusions.items(), key=lambda item: (-item[1], item[0]))
            ],
            **{f"by_{group}": means for group, means in self.tallies.groups()},
            "failed": self.failed.to_json(),
            "troubles": self.errors.to_json(),
            "only_in_run": self.only_in_run.to_json(),
            "only_in_truth": self.only_in_truth.to_json(),
            "unknown_labels": dict(self.unknown_labels),
            "worst": [{"image": key, "mean_iou": value} for key, value in self.worst],
        }


class ImagePairs:
    """Which image of the ground truth an image of the run is; in a temporary file, so that memory does not grow.

    Names of the run and of the ground truth are paired one to one: if several images of the run match one name
    only by their stem, none of them is used.

    Args:
        run: the run.
        truth: the ground truth.
    """

    def __init__(self, run: Run, truth: Truth) -> None:
        self._truth = truth
        self._database = sqlite3.connect("", isolation_level=None)  # SQLite's own temporary file
        self._database.execute("CREATE TABLE pairs (key BLOB PRIMARY KEY, name BLOB) WITHOUT ROWID")
        self._matcher = Matcher(truth.images)
        found = ((row.key, self._matcher.find(row.key)) for row in run.rows())
        rows = ((_encode(key), _encode(name)) for key, name in found if name is not None)
        self._database.executemany("INSERT INTO pairs VALUES (?, ?)", rows)
        self._database.execute("CREATE INDEX by_name ON pairs (name)")

    def get(self, key: str) -> TrueImage | None:
        """The true image of an image of the run, None if there is none."""
        row = self._database.execute("SELECT name FROM pairs WHERE key = ?", (_encode(key),)).fetchone()
        if row is None:
            return None
        if row[0] != _encode(key) and self._count(row[0]) > 1:
            return None
        return self._truth.images[row[0].decode("utf-8", "surrogatepass")]

    def _count(self, name: bytes) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM pairs WHERE name = ?", (name,)).fetchone()[0])

    def list_unpaired(self, run: Run, found: Evaluation) -> None:
        """Add the images without a counterpart to `found`."""
        for row in run.rows():
            if self.get(row.key) is None:
                found.only_in_run.add(row.key)
        for name in self._truth.images:
            keys = self._database.execute("SELECT key FROM pairs WHERE name = ?", (_encode(name),)).fetchall()
            if len(keys) != 1 and (_encode(name),) not in keys:
                found.only_in_truth.add(name)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def evaluate(run: Run, truth: Truth, by_class: bool | None = None, pictures: int = WORST) -> Evaluation:
    """Compare the kept masks of a run with ground truth.

    Args:
        run: the run.
        truth: the ground truth.
        by_class: whether a mask must have its object's class; None: if any mask has a class of the truth.
        pictures: how many of the worst images are named.
    """
    found = Evaluation(truth, True if by_class is None else by_class)
    pairs = ImagePairs(run, truth)
    pairs.list_unpaired(run, found)
    if by_class is None:
        found.by_class = _has_labels(run, pairs, set(truth.labels))
    precision, worst = Precision(truth, found.by_class), WorstImages(pictures)
    for row in run.rows():
        if (image := pairs.get(row.key)) is None:
            continue
        if row.status == "rejected":  # left out of the dataset, as its objects in the truth are
            continue
        masks: Sequence[Mask] = ()
        if row.status in ("failed", "quarantined"):
            found.failed.add(row.key)
            scored = score_image(row.key, (), image, truth.kind, by_class=False)
        else:
            try:
                result = _require_same_size(run.result(row), image)
            except OutputError as error:
                found.errors.add(str(error))
                continue
            masks = hide_ignored(merge_regions(result.kept, truth.merged), image, truth.kind)
            scored = score_image(row.key, masks, image, truth.kind, found.by_class)
            if scored.iou is not None and scored.iou < 1:
                worst.add(scored.iou, row.key)
        found.images += 1
        found.tallies.add(scored)
        for each in list_objects(scored, masks):
            found.objects.add(each[_IOU], [row.key, *each])
        precision.add(image, masks)
    found.precision, found.unknown_labels, found.worst = precision.numbers(), precision.unknown, worst.ranked()
    return found


def _has_labels(run: Run, pairs: ImagePairs, labels: Collection[str]) -> bool:
    """Whether any mask of these images has one of these labels."""
    kept = (mask for row in run.rows(("done",)) if pairs.get(row.key) for mask in run.result(row).kept)
    try:
        return any(mask.label in labels for mask in kept)
    except OutputError:  # a damaged result, which the evaluation reports
        return True


def _require_same_size(result: ImageResult, image: TrueImage) -> ImageResult:
    if result.size != image.size:
        mine, theirs = (f"{size[1]}×{size[0]}" if size else "?" for size in (result.size, image.size))
        raise OutputError(
            f"{result.key}: the masks have {mine} pixels, the ground truth {theirs};"
            " was it made for another version of the image?"
        )
    return result


def list_objects(scored: ImageScore, masks: Sequence[Mask]) -> list[list[Any]]:
    """The rows of an image in the page's tables: its true objects, then the masks that match none.

    A row has label, size, kind of prompt, how it was matched, IoU, boundary F, score of the mask, and
    `ObjectScore.found_as`.
    """
    given = {mask.index: mask for mask in masks}
    rows = []
    for each in scored.scores:
        score = None if each.mask is None else finite_number(given[each.mask].score)
        figures = [None if value is None else round(value, 4) for value in (each.iou, each.boundary, score)]
        rows.append([each.true.label, each.true.size, each.kind, each.how or "missed", *figures, each.found_as])
    for index in scored.extra:
        mask, score = given[index], finite_number(given[index].score)
        figures = [0.0, None, None if score is None else round(score, 4)]
        rows.append([mask.label or "", "", describe_kind(mask.prompt), "extra", *figures, None])
    return rows


def draw_evaluation(
    run: Run, key: str, value: float, image: TrueImage | None, found: Evaluation, originals: OriginalImages
) -> ReportPicture:
    """Ground truth and masks over the image; an object and its matching mask have the same colour."""
    assert image is not None, "only images with ground truth are evaluated"
    result = run.result(run.find(key))
    masks = hide_ignored(merge_regions(result.kept, found.truth.merged), image, found.truth.kind)
    scored = score_image(key, masks, image, found.truth.kind, found.by_class)
    place = {mask.index: number for number, mask in enumerate(masks)}
    pairs: list[tuple[int | None, int | None]] = [
        (number, None if each.mask is None else place[each.mask]) for number, each in enumerate(scored.scores)
    ]
    pairs += [(None, place[index]) for index in scored.extra]
    tones = {second: number for number, (_, second) in enumerate(pairs)}
    true = MaskSet([image.mask(each.true) for each in scored.scores], range(len(scored.scores)))
    mine = MaskSet(masks, [tones.get(number, len(pairs) + number) for number in range(len(masks))])
    return make_picture(originals, result, value, (true, mine), pairs, list_objects(scored, masks))
