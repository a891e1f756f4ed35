"""`Predictor`, a model opened once for many pictures and prompts, and `segment` for a single call."""

from __future__ import annotations

import atexit
import json
import numbers
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pydantic import ValidationError

from .chain.chain import Chain
from .chain.contract import fit_prompts
from .chain.plugin_call import StepError, Trace
from .colors import Rgb
from .config.from_python import join_paths, to_plain_data
from .config.option_errors import explain_validation_error
from .display import brief
from .drawable import Drawable
from .errors import PipelineError, Problem, PromptError, UsageError
from .images import Image
from .inputs import to_image
from .masks import BoolArray, Mask, color_masks
from .plugins.find import find_drop_ins
from .plugins.optional import prepare_stage
from .plugins.registry import Registry
from .plugins.roles import Backend, Stages
from .prompts import Box, Point, Prompt, to_box, to_list, to_point
from .results import Doubt

if TYPE_CHECKING:
    import PIL.Image

T = TypeVar("T")
#: Images whose embedding a predictor keeps, besides those of open views.
KEPT_EMBEDDINGS = 4
#: Models that `segment` keeps open.
KEPT_MODELS = 2


class Predictor:
    """A backend that is opened once; a context manager.

    ::

        with Predictor("sam", model="vit_b") as predictor, predictor.image("photo.jpg") as view:
            masks = view.masks(boxes=[[100, 80, 400, 360]])

    Without `with`, call `close` to free the model. One thread works at a time: calls from other threads wait
    for their turn. To compute in parallel, open a predictor in each process. Random generators are seeded before
    each call, as in a run, so that masks do not depend on what was computed before.

    Args:
        backend: the name of a backend, or a mapping as under `backend:` in a pipeline file.
        plugins: files or folders of drop-in plugins to load.
        options: of the backend, such as `model="vit_b"`; relative paths start from the working directory.

    Raises:
        PluginError: there is no such backend, or it cannot be opened.
        PipelineError: an option is wrong, or a file or package is missing.
    """

    def __init__(
        self,
        backend: str | Mapping[str, Any] = "sam",
        *,
        plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        **options: Any,
    ) -> None:
        self.name, self.backend = _build_backend(backend, options, plugins)
        self._lock = threading.RLock()
        self._chain: Chain | None = _open_chain(self.name, self.backend)

    def image(self, image: Any) -> ImageView:
        """Open an image; prompts are then answered by `ImageView.masks`, and the image is encoded once.

        Args:
            image: a path (or `package:PACKAGE/PATH`), the bytes of an image file, a Pillow picture, an `Image` or an
                `ImageRef`, or pixels uint8 (H, W, 3) RGB, (H, W) gray or (H, W, 4), as an array or as lists. OpenCV's
                arrays are BGR: give `array[:, :, ::-1]`.

        Raises:
            ImageReadError: it cannot be read, or is something else; says what was expected.
        """
        self._require_open()
        return ImageView(self, to_image(image))

    def close(self) -> None:
        """Free the model; after that, only new predictors compute masks. Waits for a call in another thread."""
        with self._lock:
            chain, self._chain = self._chain, None
            if chain is not None:
                chain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = getattr(self.backend, "model", None)
        name = f"{self.name} {model}" if isinstance(model, str) else self.name
        return f"<Predictor {brief(name)}: {'closed' if self._chain is None else 'open'}>"

    def _require_open(self) -> Chain:
        if self._chain is None:
            raise UsageError("the predictor is closed; open a new one, or compute inside its `with` block")
        return self._chain

    @contextmanager
    def _use(self, image: Image) -> Iterator[Chain]:
        """The chain, for this thread alone; a failure of the backend names it and the image."""
        with self._lock:
            chain = self._require_open()
            try:
                yield chain
            except StepError as error:
                failure = error.failure
                plugin = failure.plugin or failure.stage
                raise StepError(failure, f"{image.ref.key}: {plugin}: {failure.message}") from error


class ImageView(Drawable):
    """An image opened by `Predictor.image`; a context manager, which frees its embedding.

    Attributes:
        image: the image; `image.pixels` is uint8 (H, W, 3) RGB.
        doubts: of the last call of `masks`: what may be wrong with its result, such as a box that was clipped.
    """

    def __init__(self, predictor: Predictor, image: Image) -> None:
        self.image = image
        self._predictor = predictor
        self._embedding: Any = None
        self._found: tuple[Mask, ...] = ()
        self.doubts: tuple[Doubt, ...] = ()

    def masks(
        self,
        *,
        boxes: Any = (),
        points: Any = (),
        box: Any = None,
        labels: Any = None,
        prompts: Sequence[Prompt] = (),
    ) -> list[Mask]:
        """Masks of what these prompts mean; the first call encodes the image, later ones do not.

        Coordinates are pixels of the upright image, origin at the top-left corner. Lists, tuples, arrays and tables
        of numbers are taken, and a single box or point without the outer list.

        Args:
            boxes: each [x1, y1, x2, y2]: left, top, right, bottom; each gives one mask.
            points: [x, y] (on the object), or [x, y, 0] (off it); all points together give one mask.
            box: one box; together with `points` it is one prompt and gives one mask.
            labels: class names for the masks: one text for all, or a text or None for each mask (boxes first). As
                many 0 and 1 as there are points say which points are on the object (1) and off it (0).
            prompts: further `Prompt`s: any combination, also texts and grids, for backends that accept them.

        Returns:
            The masks of `boxes` in order, that of `box` and `points`, those of `prompts`.

        Raises:
            PromptError: nothing to segment, numbers that are no boxes or points, a prompt outside the image or of a
                kind that the backend does not take.
            ImageError: the backend failed on this image.
            UsageError: the predictor is closed.
        """
        asked = make_prompts(boxes=boxes, points=points, box=box, labels=labels, prompts=prompts)
        with self._predictor._use(self.image) as chain:
            fit_prompts(*chain.stages.backend, asked, self.image.size)  # before the image is encoded
            if self._embedding is None:
                self._embedding = chain.embed(self.image)
            trace = Trace()
            self._found = chain.run(self.image, asked, trace, embedding=self._embedding).masks
            self.doubts = tuple(trace.doubts)
        return list(self._found)

    def draw(self, photo: Any = None) -> PIL.Image.Image:
        """The image with the masks of the last call of `masks`, a Pillow picture of at most 800 pixels a side."""
        return super().draw(self.image if photo is None else photo)

    def close(self) -> None:
        """Free the embedding."""
        self._embedding = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ImageView {brief(self.image.ref.key)}: {self.image.width}×{self.image.height} pixels>"

    def _drawn_size(self) -> tuple[int, int]:
        return self.image.size

    def _drawn_masks(self) -> Iterator[tuple[BoolArray, Rgb]]:
        return color_masks(self._found)


_kept: OrderedDict[tuple[object, ...], Predictor] = OrderedDict()
_keeping = threading.RLock()


def segment(
    image: Any,
    *,
    boxes: Any = (),
    points: Any = (),
    box: Any = None,
    labels: Any = None,
    prompts: Sequence[Prompt] = (),
    backend: str | Mapping[str, Any] = "sam",
) -> list[Mask]:
    """Masks of one image.

    The models of the last two backends stay open for the next call, and the last images stay encoded;
    `free_models` closes them.

    Args:
        image: a path, a Pillow picture, an array or list of pixels, ...: all that `Predictor.image` takes.
        boxes: each [x1, y1, x2, y2] in pixels; each gives one mask.
        points: [x, y] (on the object) or [x, y, 0] (off it); together they give one mask.
        box: one box, which is one prompt together with `points`.
        labels: class names of the masks, or 0 and 1 for the points; as of `ImageView.masks`.
        prompts: further `Prompt`s.
        backend: a name, or a mapping as under `backend:` in a pipeline file.

    Returns:
        The masks of `boxes` in order, that of `box` and `points`, those of `prompts`.

    Raises:
        PromptError: nothing to segment, a prompt outside the image, or a kind the backend does not take.
        ImageReadError: the image cannot be read.
        PluginError: no such backend, or it cannot be opened.
        PipelineError: an option of the backend is wrong, or a file or package is missing.
        ImageError: the backend failed on this image.
    """
    asked = make_prompts(boxes=boxes, points=points, box=box, labels=labels, prompts=prompts)
    opened = to_image(image)
    with _keeping:  # also while computing: another thread's call must not close the model
        return _keep_predictor(backend, opened, asked).image(opened).masks(prompts=asked)


def free_models() -> None:
    """Close the models that `segment` keeps open, for example to free the memory of a GPU."""
    with _keeping:
        while _kept:
            _kept.popitem()[1].close()


atexit.register(free_models)


def make_prompts(
    *, boxes: Any = (), points: Any = (), box: Any = None, labels: Any = None, prompts: Sequence[Prompt] = ()
) -> list[Prompt]:
    """The prompts that the arguments of `ImageView.masks` mean.

    Raises:
        PromptError: as `ImageView.masks`.
    """
    found_boxes = _to_rows(to_box, boxes, Box, "boxes")
    found_points = _to_rows(to_point, points, Point, "points")
    if box is not None and found_boxes:
        raise PromptError("give either boxes (a mask each) or box (one prompt, together with points), not both")
    names, found_points = _sort_labels(labels, found_points)
    asked = [Prompt(box=each) for each in found_boxes]
    if box is not None or found_points:
        asked.append(Prompt(points=tuple(found_points), box=None if box is None else to_box(box)))
    if isinstance(names, str):
        names = [names] * len(asked)
    if names is not None and len(names) != len(asked):
        text = f"labels has {len(names)} entries for {len(asked)} masks"
        raise PromptError(f"{text}; give one text, or one for each mask")
    if names is not None:
        asked = [Prompt(each.points, each.box, label=name) for each, name in zip(asked, names, strict=True)]
    further = [prompts] if isinstance(prompts, Prompt) else to_list(prompts, "prompts")
    for prompt in further:
        if not isinstance(prompt, Prompt):
            raise PromptError(f"prompts is a list of maskmill.Prompt, and has {brief(prompt)}")
    if not asked and not further:
        raise PromptError("give boxes or points, or prompts: there is nothing to segment")
    return [*asked, *further]


def _to_rows(convert: Callable[[Any], T], given: Any, kind: type[T], name: str) -> list[T]:
    """Boxes or points; one alone is taken without the outer list."""
    rows = [given] if isinstance(given, kind) else to_list(given, name)
    if rows and all(isinstance(number, numbers.Real) and not isinstance(number, bool) for number in rows):
        rows = [rows]
    return [convert(row) for row in rows]


def _sort_labels(labels: Any, points: list[Point]) -> tuple[str | list[str | None] | None, list[Point]]:
    """The class names that `labels` holds, and the points with the 0 and 1 that it holds."""
    if labels is None or isinstance(labels, str):
        return labels, points
    items = to_list(labels, "labels")
    if all(item is None or isinstance(item, str) for item in items):
        return items or None, points
    if not all(isinstance(item, numbers.Real) and not isinstance(item, bool) and item in (0, 1) for item in items):
        raise PromptError(
            "labels are texts (class names), or 0 and 1 (points off and on the object; a class is a text),"
            f" not {brief(labels)}"
        )
    if len(items) != len(points):
        raise PromptError(f"labels has {len(items)} numbers for {len(points)} points; give 0 or 1 for each point")
    return None, [Point(point.x, point.y, int(item)) for point, item in zip(points, items, strict=True)]


def _keep_predictor(backend: str | Mapping[str, Any], image: Image, prompts: Sequence[Prompt]) -> Predictor:
    """The kept predictor of this backend; opened, if need be, once the prompts are known to suit it."""
    name, stage = _build_backend(backend, {}, (), check=False)
    options = {} if isinstance(backend, str) else to_plain_data(backend, "backend")
    key = (type(stage), json.dumps(options, sort_keys=True), str(Path.cwd()))
    if key not in _kept:
        fit_prompts(name, stage, prompts, image.size)
        while len(_kept) >= KEPT_MODELS:  # before the next one is loaded: memory holds no more than these
            _kept.popitem(last=False)[1].close()
        _kept[key] = Predictor(backend)
    _kept.move_to_end(key)
    return _kept[key]


def _open_chain(name: str, backend: Backend) -> Chain:
    prepare_stage(backend, print_line)
    chain = Chain(Stages([], "first", (name, backend)), keep=KEPT_EMBEDDINGS)
    try:
        chain.open()
    except BaseException:
        chain.close()
        raise
    return chain


def _build_backend(
    backend: str | Mapping[str, Any], options: Mapping[str, Any], plugins: Any, check: bool = True
) -> tuple[str, Backend]:
    """A backend that is not open, and its name.

    Args:
        backend: its name, or a mapping with `use`.
        options: further options.
        plugins: files and folders of drop-ins.
        check: whether to look for missing files and packages.
    """
    spec = to_plain_data({"use": backend} if isinstance(backend, str) else backend, "backend")
    if not isinstance(spec, dict) or not isinstance(spec.get("use"), str):
        raise PipelineError(
            Problem(
                f"a backend is a name or a mapping with `use`, not {brief(backend)}",
                hint='for example "grabcut", or {"use": "sam", "model": "vit_b"}',
            )
        )
    spec |= to_plain_data(options, "")
    name = spec.pop("use")
    paths = find_drop_ins(None, [Path(path) for path in join_paths(plugins)])
    registry = Registry.load(paths) if paths else Registry.load()
    entry = registry.get("backend", name)
    try:
        stage = cast(Backend, entry.cls.from_options(spec, Path.cwd()))
    except ValidationError as error:
        found = explain_validation_error(error, entry.cls, spec, f"the backend {name!r}")
        raise PipelineError(*(Problem(f"{name}: {each}", hint=each.hint) for each in found)) from None
    if check and (problems := [one for one in stage.missing() or stage.check() if not one.warning]):
        raise PipelineError(*problems)
    return name, stage


def print_line(line: str) -> None:
    """Print a line for the user of a Python session."""
    print(line, file=sys.stderr, flush=True)
