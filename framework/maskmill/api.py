"""`Pipeline`, a pipeline file or the same in Python: `Pipeline.load("x.yaml").run()`."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from .chain.chain import Chain
from .chain.contract import explain_accepted
from .config.config import Config
from .config.from_python import build_from_data, join_paths, replace_jobs, to_assignments
from .config.load import load_config
from .corrections import default_path as default_corrections, load_corrections
from .dataset.dataset import Dataset
from .decoding.formats import describe_left_out
from .display import brief
from .errors import PipelineError, Problem, UsageError, suggest_name
from .output.folder import check_output
from .plugins.engine import Engine
from .plugins.optional import network_reach
from .plugins.stage import Stage
from .predictor import KEPT_EMBEDDINGS, print_line
from .results import RunReport
from .run import driver, dry_run, watch
from .run.prompts_csv import Surveys
from .storage import is_address, is_bucket, list_objects

PathLike = str | os.PathLike[str]


class Pipeline:
    """A pipeline file, validated.

    Attributes:
        config: the validated content.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def load(
        cls,
        file: PathLike,
        *,
        sets: str | Sequence[str] | Mapping[str, Any] = (),
        dataset: PathLike | Sequence[PathLike] | None = None,
        output: PathLike | None = None,
        plugins: PathLike | Sequence[PathLike] = (),
        drop_ins: bool = True,
        jobs: int | str | None = None,
        state: PathLike | None = None,
        **unknown: Any,
    ) -> Self:
        """Read and validate a pipeline file; `dataset` and `output` may be missing until it is run.

        Args:
            file: the YAML file.
            sets: values of the file to replace: {"backend.model": "vit_h", "run.jobs": 2}, or texts KEY=VALUE as
                after `--set`.
            dataset: the images, instead of the file's: a folder, pattern, list file or image, or a list of these;
                relative to the working directory.
            output: the output folder, instead of the file's; relative to the working directory.
            plugins: drop-in files and folders to load in addition to those of the file.
            drop_ins: False loads only drop-ins that are named, and does not search next to the file.
            jobs: replaces `run.jobs`.
            state: the folder to work in, for an output in object storage or on a shared drive.
            unknown: no other keyword is taken.

        Raises:
            PipelineError: everything that is wrong in it, with file:line:column.
            PluginError: a plugin fails to load.
            TypeError: an unknown keyword; suggests the nearest one.
        """
        known = ("sets", "dataset", "output", "plugins", "drop_ins", "jobs", "state")
        _refuse_unknown("Pipeline.load()", unknown, known)
        config = load_config(
            Path(file),
            sets=to_assignments(sets),
            dataset=None if dataset is None else [os.fspath(part) for part in join_paths(dataset)],
            output=None if output is None else Path(output),
            plugins=[Path(path) for path in join_paths(plugins)],
            drop_ins=drop_ins,
            jobs=jobs,
            defer=True,
            state=None if state is None else Path(state),
        )
        return cls(config)

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        *,
        base: PathLike | None = None,
        plugins: PathLike | Sequence[PathLike] = (),
        drop_ins: bool = True,
    ) -> Self:
        """A pipeline without a file.

        Args:
            data: what the file would contain, as mappings, lists, texts and numbers; paths and arrays are taken, too.
                `${NAME}` in a text is an environment variable, as in a file.
            base: the folder that relative paths start from, and in whose `plugins/` drop-ins are searched; None for
                the working directory.
            plugins: drop-in files and folders to load in addition.
            drop_ins: False loads only drop-ins that are named.

        Raises:
            PipelineError: everything that is wrong in it, with the path of each value, such as `prompts.0.box`.
            PluginError: a plugin fails to load.
        """
        folder = Path.cwd() if base is None else Path(base)
        return cls(build_from_data(data, folder, [Path(path) for path in join_paths(plugins)], drop_ins))

    @classmethod
    def build(
        cls,
        *,
        prompts: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
        dataset: PathLike | Sequence[PathLike] | None = None,
        backend: str | Mapping[str, Any] | None = None,
        filters: Sequence[str | Mapping[str, Any]] = (),
        writers: Sequence[str | Mapping[str, Any]] = (),
        output: PathLike | None = None,
        base: PathLike | None = None,
        **more: Any,
    ) -> Self:
        """`from_dict` with keywords: plugins by name, or as mappings with `use`.

        Args:
            prompts: the prompt sources, or a single one.
            dataset: the images; only a run needs them.
            backend: the backend; None for sam with vit_b.
            filters: in order.
            writers: which files to write.
            output: the output folder; only a run needs it.
            base: as of `from_dict`.
            more: other keys of a pipeline file: `name`, `combine`, `images`, `storage`, `run`, `plugins`.

        Raises:
            PipelineError: everything that is wrong, unknown keys included.
            PluginError: a plugin fails to load.
        """
        sources = [prompts] if isinstance(prompts, (str, Mapping)) else prompts
        given = {"dataset": dataset, "prompts": sources, "backend": backend, "output": output}
        data = {key: value for key, value in given.items() if value is not None}
        return cls.from_dict({**data, "filters": filters, "writers": writers, **more}, base=base)

    def __repr__(self) -> str:
        config = self.config
        sources, writers = (", ".join(use.name for use in uses) for uses in (config.prompts, config.writers))
        parts = f"{sources} > {config.backend.name} > {writers or 'no writers'}"
        return f"<Pipeline {brief(config.name)}: {brief(parts)[1:-1]}>"

    def check(self, offline: bool = False, may_be_empty: bool = False) -> list[Problem]:
        """What is wrong that can be found without running: files, packages, options that do not fit.

        Args:
            offline: also refuse plugins that reach beyond this machine.
            may_be_empty: whether folders without images are right, as for a run that watches them.
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
        found += [*self._check_corrections(), *self._sources_not_reached()]
        found += config.registry.failures
        found += [problem for _, problem in config.deferred]
        missing = {key for key, _ in config.deferred}
        if "dataset" not in missing:
            dataset = self.dataset.check(may_be_empty)
            found += [config.problem(("dataset",), p.message, p.hint) if not p.file else p for p in dataset]
        if "output" not in missing:
            found += [config.problem(("output",), p.message, p.hint) for p in check_output(config.output)]
            found += self._output_inside_dataset()
            found += self._check_destination()
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

    def probe(self) -> list[str]:
        """Try to reach the workers that the engine of the pipeline would use; returns what was found, a line each.

        Raises:
            PluginError: they cannot be reached.
        """
        return list(cast(Engine, self.config.engine.stage).probe())

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

    def _check_destination(self) -> list[Problem]:
        """Why nothing can be read from the address of the output; whether it can be written shows the first image."""
        config = self.config
        if config.destination is None:
            return []
        if not is_bucket(config.destination):
            found = check_output(Path(config.destination))
            return [config.problem(("output",), problem.message, problem.hint) for problem in found]
        for entry in filter(is_address, config.dataset):
            if f"{config.destination}/".startswith(f"{entry.rstrip('/')}/"):
                text = f"the output {config.destination} lies inside the dataset; the next run would segment it"
                return [config.problem(("output",), text, "give an address beside the dataset")]
        try:
            next(list_objects(config.destination), None)
        except UsageError as error:
            return [config.problem(("output",), problem.message, problem.hint) for problem in error.problems]
        return []

    def _refuse_with_bucket(self, request: driver.RunRequest) -> list[Problem]:
        """What is asked of a run and cannot be done where its output is copied."""
        asked = {
            "--fresh": (request.fresh, "write to another address or folder"),
            "--watch": (request.watch, "write to a folder of this machine, and copy it"),
        }
        if (destination := self.config.destination) is None:
            return []
        what = "an output in object storage" if is_bucket(destination) else "--state"
        return [
            self.config.problem(("output",), f"{name} does not go with {what}", hint)
            for name, (is_asked, hint) in asked.items()
            if is_asked
        ]

    def _output_inside_dataset(self) -> list[Problem]:
        config = self.config
        output = config.shared_output
        for entry in config.dataset:
            folder = (config.dataset_base / entry).resolve()
            if folder.is_dir() and output.resolve().is_relative_to(folder):
                text = f"the output '{output}' lies inside the dataset; the next run would segment it"
                return [config.problem(("output",), text, "give a folder beside the dataset")]
        return []

    def _check_corrections(self) -> list[Problem]:
        """What is wrong with the file of what people decided, or that it exists and is not named."""
        config = self.config
        if config.corrections is not None:
            try:
                load_corrections(config.corrections)
            except PipelineError as error:
                return list(error.problems)
        elif config.file is not None and (beside := default_corrections(config.file)).exists():
            text = f"'{beside.name}' holds what people decided in a review, and this run does not use it"
            return [Problem(text, str(config.file), hint=f"add `corrections: {beside.name}`", warning=True)]
        return []

    def _prompts_not_accepted(self) -> list[Problem]:
        config = self.config
        accepted = config.backend.stage.accepts()  # type: ignore[attr-defined]
        found = []
        for use in config.prompts:
            kinds = use.stage.kinds()  # type: ignore[attr-defined]
            if kinds is not None and (unknown := kinds - accepted):
                takes = explain_accepted(config.backend.name, accepted)
                text = f"{takes}, and {use.name!r} gives {', '.join(sorted(unknown))}"
                found.append(config.problem(use.loc, text))
        return found

    def _sources_not_reached(self) -> list[Problem]:
        """A warning about each source that is never asked, because one before it has an answer for every image."""
        reached = self.config.stages().list_reachable()
        text = f"is never asked, because {reached[-1][0]!r} before it answers for every image" if reached else ""
        hint = "combine: all, or change the order"
        return [
            self.config.problem(use.loc, f"prompt source {use.name!r} {text}", hint, warning=True)
            for use in self.config.prompts[len(reached) :]
        ]

    def run(
        self, request: driver.RunRequest | None = None, *, jobs: int | str | None = None, **values: Any
    ) -> RunReport:
        """Check, then run over the dataset.

        Args:
            request: all that is asked of the run at once, or
            values: single fields of `RunRequest`: `limit`, `only`, `fresh`, `retry_failed`, `retry_doubtful`,
                `fail_on`, `verify`, `verbose`, `quiet`, `log_json`, `offline`, `yes`, `watch`.
            jobs: images at once, instead of `run: {jobs: ...}`: a number or "auto".

        Returns:
            The report; its `exit_code` is what the command line exits with.

        Raises:
            UsageError: the run cannot start.
            TypeError: an unknown keyword; suggests the nearest one.
        """
        known = [field.name for field in dataclasses.fields(driver.RunRequest)]
        unknown = {key: value for key, value in values.items() if key not in known}
        _refuse_unknown("Pipeline.run()", unknown, [*known, "jobs"])
        request = dataclasses.replace(request, **values) if request else driver.RunRequest(**values)
        config = self.config
        if jobs is not None:
            config = dataclasses.replace(config, run=replace_jobs(config.run, jobs))
        run = watch.watch if request.watch else driver.run
        return run(config, request, partial(self._checked, request))

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
        problems = [*self._refuse_with_bucket(request), *self.check(request.offline, request.watch)]
        if any(not problem.warning for problem in problems):
            raise PipelineError(*problems)
        return [str(problem) for problem in problems]

    @contextmanager
    def open_chain(self) -> Iterator[Chain]:
        """The pipeline's plugins, opened in this process, to be used on single images; nothing is written.

        ::

            with pipeline.open_chain() as chain:
                result = chain.run("photo.jpg")  # an ImageResult, after the filters

        `chain.run` takes what `Predictor.image` takes, and the references of `pipeline.dataset`. The last images stay
        encoded: other prompts for them (`chain.run(image, prompts)`) do not run the encoder again. A chain is for one
        thread.

        Raises:
            PipelineError: a file or a package is missing.
            PluginError: a plugin cannot be opened.
        """
        stages = dataclasses.replace(self.config.stages(), writers=())
        problems = [one for _, _, stage in stages.all() for one in stage.missing() or stage.check()]
        if errors := [problem for problem in problems if not problem.warning]:
            raise PipelineError(*errors)
        stages.prepare(print_line)
        models = stages.model_ids()
        run, conversion = self.config.run, self.config.images.as_conversion()
        with Chain(
            stages,
            max_pixels=run.max_pixels,
            models=models,
            conversion=conversion,
            conflict_iou=run.conflict_iou,
            keep=KEPT_EMBEDDINGS,
        ) as chain:
            yield chain


def _checks_over_network(stage: Stage) -> bool:
    """Whether its check may use the network, as that of a backend on another machine does."""
    return stage.network != "none" and network_reach(stage) != "none"


def _refuse_unknown(function: str, unknown: Mapping[str, object], known: Sequence[str]) -> None:
    if unknown:
        name = next(iter(unknown))
        raise TypeError(f"{function} has no keyword {name!r}; {suggest_name(name, known)}")
