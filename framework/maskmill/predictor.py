"""`Predictor`, a model opened once for many pictures and prompts, and `segment` for a single call."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .chain.chain import Chain
from .chain.contract import fit_prompts
from .chain.plugin_call import StepError, Trace
from .colors import Rgb
from .config.from_python import build_backend, to_plain_data
from .display import brief
from .drawable import Drawable
from .errors import UsageError
from .images import Image
from .inputs import make_prompts, to_image
from .masks import BoolArray, Mask, color_masks
from .plugins.optional import prepare_stage
from .plugins.roles import Backend, Stages
from .prompts import Prompt
from .results import Doubt

if TYPE_CHECKING:
    import PIL.Image

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
        self.name, self.backend = build_backend(backend, options, plugins)
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
        given = {name: str(getattr(self.backend, name)) for name in sorted(self.backend.model_fields_set)}
        options = "".join(f", {name}={value}" for name, value in given.items() if "://" not in value)  # no passwords
        return f"<Predictor {brief(self.name + options)}: {'closed' if self._chain is None else 'open'}>"

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
        self._found, self.doubts = (), ()  # of an earlier call; this one may fail
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


def _keep_predictor(backend: str | Mapping[str, Any], image: Image, prompts: Sequence[Prompt]) -> Predictor:
    """The kept predictor of this backend; opened, if need be, once the prompts are known to suit it."""
    name, stage = build_backend(backend, {}, (), check=False)
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


def print_line(line: str) -> None:
    """Print a line for the user of a Python session."""
    print(line, file=sys.stderr, flush=True)
