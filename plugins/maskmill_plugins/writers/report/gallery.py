"""The gallery: a row and a thumbnail for each image, or for the most doubtful ones if there are too many."""

from __future__ import annotations

import heapq
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import quote

import PIL.Image

from maskmill import Image, ImageResult, Mask, colors
from maskmill.files import TEMPORARY_PREFIX, safe_path
from maskmill.results import STATUSES, LedgerRow
from maskmill_plugins._shared.doubt_rating import DoubtRating, finite_number, rate_doubt
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.export.file_names import name_image_file
from maskmill_plugins._shared.result_pages.document import data_json

from .changes import Changes
from .picture import DROPPED, choose_masks, describe_layers
from .summary import Summary

_MASKS_SHOWN = 60
_TEXT = 600
FOLDER = "thumbnails"
SUFFIX = ".webp"


class GalleryImage(NamedTuple):
    """An image of the gallery.

    Attributes:
        key: of its thumbnail, "" without one.
        row: its fields as JSON.
        layers: what is drawn over the photo, as JSON.
        change: how it changed since the last report, None if it did not.
    """

    key: str
    row: str
    layers: str
    change: Any


class Gallery:
    """The rows of the gallery, kept in a temporary file; a context manager.

    Args:
        folder: for the temporary file.
        limit: maximum number of images, the most doubtful ones.
        changes: since the last report.

    Attributes:
        total: number of images added.
    """

    def __init__(self, folder: Path, limit: int, changes: Changes) -> None:
        self.total = 0
        self._changes = changes
        self._limit = limit
        self._folder = folder
        self._chosen: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._rows: IO[str] = tempfile.TemporaryFile(
            "w+", encoding="ascii", newline="\n", prefix=TEMPORARY_PREFIX, dir=self._folder
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._rows.close()

    def add(self, result: ImageResult, row: LedgerRow | None, summary: Summary) -> None:
        """Add an image.

        Args:
            result: its result.
            row: its row in the ledger, if there is one.
            summary: has the numbers of the labels; the image must already be counted in it.
        """
        found = rate_doubt(result)
        # a thumbnail of a failed image would be from an earlier run
        is_finished = result.status in ("done", "empty")
        masks = sorted(choose_masks(result), key=_worst_first)
        fields = [
            result.key if is_finished else "",
            _image_row(result, found, row, summary, masks[:_MASKS_SHOWN]),
            describe_layers(result, masks) if is_finished else {},
            *self._changes.add(result, row, found),
        ]
        self._rows.write("\t".join(map(data_json, fields)) + "\n")
        push = heapq.heappush if len(self._chosen) < self._limit else heapq.heappushpop
        if self._limit:
            push(self._chosen, (found.value, -self.total))
        self.total += 1

    def __len__(self) -> int:
        return len(self._chosen)

    def images(self) -> Iterator[GalleryImage]:
        """The chosen images, in the order of their keys, after all were added."""
        chosen = {-negative for _, negative in self._chosen}
        self._rows.seek(0)
        for position, line in enumerate(self._rows):
            if position in chosen:
                key, row, layers, now, earlier = line.rstrip("\n").split("\t")
                change = self._changes.choose(json.loads(now), json.loads(earlier))
                yield GalleryImage(json.loads(key), row, layers, change)


def _image_row(
    result: ImageResult, found: DoubtRating, row: LedgerRow | None, summary: Summary, masks: Sequence[Mask]
) -> list[Any]:
    """The fields of an image, in the order that `gallery.js` reads.

    Key, status, doubt, its reason, its figure, [width, height], kept and dropped masks, lowest score,
    seconds, attempts, numbers of the labels, text, masks, path of its overlay, codes of its doubts.
    """
    kept = result.kept
    scores = [known for mask in kept if (known := finite_number(mask.score)) is not None]
    overlays = [item.path for item in result.artifacts if item.path.startswith("overlay/")]
    failure = result.failure
    texts = [f"{failure.type}: {failure.message}" if failure else result.reason or ""]
    texts += [f"{doubt.code}: {doubt.message}" for doubt in result.doubts if not failure]
    return [
        result.key,
        STATUSES.index(result.status),
        round(found.value, 4),
        found.why,
        _round_figure(found.figure),
        None if result.size is None else [result.size[1], result.size[0]],
        len(kept),
        len(result.masks) - len(kept),
        _round_figure(min(scores, default=None)),
        None if row is None else round(row.seconds, 3),
        None if row is None else row.attempts,
        sorted({summary.labels[mask.label] for mask in result.masks}),
        "; ".join(filter(None, texts))[:_TEXT],
        [_mask_row(mask, summary) for mask in masks],
        next((f"../{quote(path, errors='surrogatepass')}" for path in overlays), 0),
        list(dict.fromkeys(doubt.code for doubt in result.doubts)),
    ]


def _mask_row(mask: Mask, summary: Summary) -> list[Any]:
    """A mask: number of its label, score, stability, share of the image, the filter that dropped it, the reason."""
    part = mask.area / max(1, mask.size[0] * mask.size[1])
    values: list[Any] = [
        summary.labels[mask.label],
        _round_figure(mask.score),
        _round_figure(mask.stability),
        float(f"{part:.3g}"),
    ]
    return values if mask.dropped_by is None else [*values, mask.dropped_by, (mask.reason or "")[:_TEXT]]


def _worst_first(mask: Mask) -> tuple[bool, float, int]:
    score = finite_number(mask.score)
    return not mask.kept, 1.0 if score is None else score, mask.index


def _round_figure(value: float | None) -> float | None:
    known = finite_number(value)
    return None if known is None else round(known, 4)


def thumbnail_name(key: str) -> str:
    """The name of an image's thumbnail in the writer's folder, without suffix, for `maskmill.save`."""
    return f"{FOLDER}/{name_image_file(key)}"


def thumbnail_path(folder: Path, key: str) -> Path:
    """The path of an image's thumbnail, which may not exist."""
    return folder / safe_path(thumbnail_name(key), SUFFIX)


def draw_thumbnail(image: Image, result: ImageResult, side: int, quality: int) -> bytes:
    """The bytes of a WebP file: kept masks filled, prompts on top; without kept masks the outlines of dropped ones.

    Args:
        image: the image.
        result: its result.
        side: longer side of the picture in pixels; smaller images are not enlarged.
        quality: of the WebP, 1..100.
    """
    canvas = Canvas(image.pixels, 1, side)
    kept = sorted(enumerate(result.kept), key=lambda pair: -pair[1].area)
    for number, mask in kept:  # large ones first, so that small ones on top of them stay visible
        canvas.draw_mask(mask, colors.nth(number))
    if not kept:
        for mask in choose_masks(result):
            canvas.draw_mask(mask, DROPPED, alpha=0)
    canvas.draw_prompts(result.prompts)
    buffer = io.BytesIO()
    PIL.Image.fromarray(canvas.pixels).save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
