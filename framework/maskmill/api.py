"""The public object: `Pipeline.load("x.yaml").run()`, and `segment` for a single image."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from .chain.chain import Chain
from .chain.contract import fit_prompts
from .chain.plugin_call import StepError
from .config.config import Config
from .config.load import load_config
from .dataset.dataset import Dataset
from .decoding.formats import describe_left_out
from .errors import PipelineError, Problem, PromptError
from .images import Image, ImageRef
from .masks import Mask
from .output.folder import check_output
from .plugins.optional import network_reach, prepare_stage
from .plugins.registry import Registry
from .plugins.roles import Stages
from .plugins.stage import Stage
from .prompts import Box, Point, Prompt, to_box, to_point
from .results import RunReport
from .run import driver, dry_run
from .run.prompts_csv import Surveys

T = TypeVar("T")


class Pipeline:
    """A pipeline file, validated.

    Attributes:
        config: the validated content.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def load(cls, file: Path | str, **overrides: Any) -> Self:
        """Read and validate a pipeline file.

        Args:
            file: the YAML file.
            overrides: `sets`, `dataset`, `output`, `plugins`, `drop_ins`, `jobs` of `load_config`.

        Raises:
            PipelineError: everything that is wrong in it, with file:line:column.
            PluginError: a plugin fails to load.
        """
        return cls(load_config(Path(file), **overrides))

    def check(self, offline: bool = False) -> list[Problem]:
        """What is wrong that can be found without running: files, packages, options that do not fit.

        Args:
            offline: also refuse plugins that reach beyond this machine.
        """
        config = self.config
        found = [
            config.problem(use.loc, f"{use.role} {use.name!r}: {problem.message}", problem.hint, problem.warning)
            if not problem.file
            else problem
            for use in config.uses()
            for problem in use.stage.missing()
            or ([] if offline and _checks_over_network(use.stage) else use.stage.check())
        ]
        found += config.registry.failures
        found += [config.problem(("dataset",), p.message, p.hint) if not p.file else p for p in self.dataset.check()]
        found += [config.problem(("output",), p.message, p.hint) for p in check_output(config.output)]
        found += self._output_inside_dataset()
        if offline:
            found += [
                config.problem(
                    use.loc, f"--offline: the {use.role} {use.name!r} needs the network ({network_reach(use.stage)})"
                )
                for use in config.uses()
                if network_reach(use.stage) != "none"
            ]
        if not any(not problem.warning for problem in found):
            found += self._prompts_not_accepted()
        return found

    def unmatched(self, most: int = 20_000) -> list[str]:
        """Warnings about the dataset: files that cannot be read, nearly black pictures, annotations without an image.

        Args:
            most: of more images than this only the first are listed, and no prompt source is queried.

        Raises:
            DatasetError: the images cannot be listed.
        """
        dataset = self.dataset
        count = sum(1 for _ in itertools.islice(dataset, most + 1))
        skipped = describe_left_out(dataset.left_out, complete=count <= most)
        found = [*([skipped] if skipped else []), *dry_run.describe_first_images(self.config, dataset)]
        found += [f"warning: {line}" for line in dataset.warnings]
        return found if count > most else [*found, *Surveys(self.config, self.dataset).warnings()]

    @property
    def dataset(self) -> Dataset:
        """The images, listed anew each time."""
        return Dataset(self.config.dataset, self.config.dataset_base)

    def _output_inside_dataset(self) -> list[Problem]:
        config = self.config
        for entry in config.dataset:
            folder = (config.dataset_base / entry).resolve()
            if folder.is_dir() and config.output.resolve().is_relative_to(folder):
                text = f"the output '{config.output}' lies inside the dataset; the next run would segment it"
                return [config.problem(("output",), text, "give a folder beside the dataset")]
        return []

    def _prompts_not_accepted(self) -> list[Problem]:
        config = self.config
        accepted = config.backend.stage.accepts()  # type: ignore[attr-defined]
        found = []
        for use in config.prompts:
            kinds = use.stage.kinds()  # type: ignore[attr-defined]
            if kinds is not None and (unknown := kinds - accepted):
                text = (
                    f"the backend {config.backend.name!r} takes {', '.join(sorted(accepted))},"
                    f" and {use.name!r} gives {', '.join(sorted(unknown))}"
                )
                found.append(config.problem(use.loc, text))
        return found

    def run(self, request: driver.RunRequest | None = None, **values: Any) -> RunReport:
        """Check, then run over the dataset.

        Args:
            request: all that is asked of the run at once, or
            values: single fields of `RunRequest`: `limit`, `only`, `fresh`, `retry_failed`, `verify`,
                `verbose`, `quiet`, `offline`.

        Returns:
            The report; its `exit_code` is what the command line exits with.

        Raises:
            UsageError: the run cannot start.
        """
        request = request or driver.RunRequest(**values)
        return driver.run(self.config, request, self._checked(request))

    def rehearse(self, request: driver.RunRequest | None = None, probe: int = 0) -> str:
        """Check, then say what `run` would do, in words; writes nothing to the output folder.

        Args:
            request: what would be asked of the run.
            probe: so many images are worked on and timed, in a temporary folder.

        Raises:
            UsageError: the run could not start.
        """
        request = request or driver.RunRequest()
        warnings = self._checked(request)
        return "\n".join([*warnings, dry_run.rehearse(self.config, request, probe)])

    def _checked(self, request: driver.RunRequest) -> list[str]:
        """The warnings; errors are raised, and the warnings with them, which may explain them."""
        problems = self.check(request.offline)
        if any(not problem.warning for problem in problems):
            raise PipelineError(*problems)
        return [str(problem) for problem in problems]

    @contextmanager
    def open_chain(self) -> Iterator[Chain]:
        """The pipeline's plugins, opened in this process, to be used on single images."""
        stages = self.config.stages()
        stages.prepare(_print)
        models = stages.model_ids()
        run, conversion = self.config.run, self.config.images.as_conversion()
        with Chain(
            stages,
            max_pixels=run.max_pixels,
            models=models,
            conversion=conversion,
            conflict_iou=run.conflict_iou,
        ) as chain:
            yield chain


def segment(
    image: Path | str | npt.NDArray[np.uint8],
    *,
    boxes: Sequence[Box | Sequence[float]] | npt.NDArray[Any] = (),
    points: Sequence[Point | Sequence[float]] | npt.NDArray[Any] = (),
    backend: str | Mapping[str, Any] = "sam",
) -> list[Mask]:
    """Masks of one image.

    Args:
        image: a file, or pixels uint8 (H, W, 3) RGB.
        boxes: each [x1, y1, x2, y2] in pixels; each gives one mask. Lists, tuples or an array, as of `points`.
        points: [x, y] (foreground) or [x, y, label]; together they give one mask.
        backend: a name, or a mapping as under `backend:` in a pipeline file.

    Returns:
        The masks of the boxes in order, then that of the points.

    Raises:
        PromptError: neither boxes nor points, one outside the image, or a kind the backend does not take.
        ImageReadError: the file cannot be read.
        PluginError: no such backend, or it cannot be opened.
        ImageError: the backend failed on this image.
    """
    prompts = [Prompt(box=_name_list(to_box, box, "boxes", "[[x1, y1, x2, y2]]")) for box in boxes]
    if len(points):
        prompts.append(Prompt(points=tuple(_name_list(to_point, one, "points", "[[x, y]]") for one in points)))
    if not prompts:
        raise PromptError("give boxes or points")
    if isinstance(image, np.ndarray):
        picture = Image.from_array(image)
    else:
        picture = Image.load(ImageRef(str(image), Path(image).name))
    stage = Registry.load().backend(backend)
    if problems := [one for one in stage.missing() or stage.check() if not one.warning]:
        raise PipelineError(*problems)
    name = backend if isinstance(backend, str) else str(backend["use"])
    fitted = fit_prompts(name, stage, prompts, picture.size)
    prepare_stage(stage, _print)
    with Chain(Stages([], "first", (name, stage))) as chain:
        try:
            return list(chain.run(picture, fitted).masks)
        except StepError as error:
            failure = error.failure
            raise StepError(
                failure, f"{picture.ref.key}: {failure.plugin or failure.stage}: {failure.message}"
            ) from error


def _checks_over_network(stage: Stage) -> bool:
    """Whether its check may use the network, as that of a backend on another machine does."""
    return stage.network != "none" and network_reach(stage) != "none"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _name_list(convert: Callable[[Any], T], item: Any, name: str, form: str) -> T:
    """One box or point; the message for a list that is flat says how to write it."""
    try:
        return convert(item)
    except PromptError as error:
        raise PromptError(str(error) if np.ndim(item) else f"{error}; write {name}={form}") from None
