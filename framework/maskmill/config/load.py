"""From a pipeline file to a validated `Config`, or to all that is wrong with it, each thing with its place.

The text is read by `yamlfile`, `--set` is applied by `overrides`, the plugins check their
options themselves, and `messages` puts pydantic's errors into words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PipelineError, PluginError, Problem, nearest_name
from ..files import safe_part
from ..output.folder import OTHERS
from ..plugins.find import find_drop_ins
from ..plugins.registry import Registry
from ..plugins.stage import Stage
from .config import Config, PluginUse, RunOptions, stages_from
from .document import Document, Loc
from .option_errors import SIMILAR, findings, found
from .overrides import override
from .yaml_reader import parse_yaml, read_file

__all__ = ["Config", "PluginUse", "RunOptions", "load_config", "stages_from"]

Model = TypeVar("Model", bound=BaseModel)
Text = Annotated[str, Field(min_length=1)]

#: The plugins of a file that names none.
DEFAULT_BACKEND: Mapping[str, Any] = {"use": "sam", "model": "vit_b"}
DEFAULTS: Mapping[Loc, Mapping[str, Any]] = {("backend",): DEFAULT_BACKEND, ("run", "engine"): {"use": "joblib"}}
#: Folders of the output that no writer may have.
RESERVED = ("results", *OTHERS)


class PipelineFile(BaseModel):
    """The top level of a pipeline file; each `use:` in it is checked by its plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text | None = Field(None, description="of the pipeline; the file's name when left out")
    plugins: Text | list[Text] = Field([], description="plugin files or folders to load")
    dataset: Text | Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, description="the images: a folder, a pattern, a list file, or package:NAME/PATH; or a list of these"
    )
    prompts: Annotated[list[Any], Field(min_length=1)] = Field(
        [], description="what to segment: a list of prompt sources, such as `- use: manual`"
    )
    combine: Literal["first", "all"] = Field("first", description="ask until a source answers, or join them all")
    backend: Any = Field(DEFAULT_BACKEND, description="what makes the masks")
    filters: list[Any] = Field([], description="which masks are kept")
    writers: list[Any] = Field([], description="the files to make")
    output: Text | None = Field(None, description="the output folder")
    run: dict[str, Any] = Field({}, description="how to run")

    @property
    def images(self) -> list[str]:
        """`dataset` as a list."""
        return [self.dataset] if isinstance(self.dataset, str) else self.dataset or []


def load_config(
    file: Path,
    *,
    sets: Sequence[str] = (),
    dataset: Sequence[str] | None = None,
    output: Path | None = None,
    plugins: Sequence[Path] = (),
    drop_ins: bool = True,
    jobs: int | str | None = None,
    complete: bool = True,
) -> Config:
    """Read and validate a pipeline file.

    Args:
        file: the YAML file, as the user wrote its name.
        sets: `KEY=VALUE`, each overriding one value of the file.
        dataset: overrides the file's; relative to the working directory.
        output: overrides the file's; relative to the working directory.
        plugins: drop-in files and folders to load besides those of the file.
        drop_ins: False loads only drop-ins that are named, and does not look beside the file.
        jobs: overrides `run.jobs`.
        complete: False lets `dataset` and `output` be missing, for a pipeline that is opened and
            not run; `output` is then the folder `outputs/NAME` beside the file.

    Raises:
        PipelineError: all that is wrong with the file and with `sets`, at once, by line.
        PluginError: a drop-in cannot be loaded; with all that was found before.
    """
    document = parse_yaml(read_file(file), str(file))
    loader = _Loader(file, document)
    loader.prepare(sets, jobs)
    top = loader.top(complete and dataset is None, complete and output is None)
    registry, paths = loader.load_plugins(plugins, drop_ins)
    sources = loader.uses("prompt source", "prompts", registry)
    backend = loader.use("backend", ("backend",), document.tree.get("backend", DEFAULT_BACKEND), registry)
    filters, writers = loader.uses("filter", "filters", registry), loader.uses("writer", "writers", registry)
    run = loader.run_options()
    engine = loader.engine(registry)
    loader.finish()
    assert top and run and backend and engine, "what is missing has a problem, and problems are raised"
    name = top.name or file.stem
    written = loader.base / Path(top.output or f"outputs/{safe_part(name)}").expanduser()
    return Config(
        file=file,
        base=loader.base,
        name=name,
        dataset=tuple(top.images if dataset is None else dataset),
        dataset_base=loader.base if dataset is None else Path.cwd(),
        prompts=tuple(sources),
        combine=top.combine,
        backend=backend,
        filters=tuple(filters),
        writers=_with_folders(writers),
        engine=engine,
        output=_absolute(written if output is None else output.expanduser()),
        run=run,
        drop_ins=tuple(paths),
        registry=registry,
        document=document,
    )


class _Loader:
    """The steps of `load_config`; each notes what is wrong and goes on."""

    def __init__(self, file: Path, document: Document) -> None:
        self.base = _absolute(file).parent
        self._document = document
        self._problems: list[Problem] = []
        self._empty: set[str] = set()

    def finish(self) -> None:
        """Raise what was found."""
        if problems := self._sorted():
            raise PipelineError(*problems)

    def _sorted(self) -> list[Problem]:
        """What was found in the file by line, then the rest."""
        every = dict.fromkeys([*self._document.problems, *self._problems])
        return sorted(every, key=lambda each: (each.file != self._document.name, each.line, each.column))

    def _note(self, loc: Loc, message: str, hint: str = "", key: bool = False) -> None:
        if not self._document.is_refused(loc):
            self._problems.append(self._document.problem(loc, message, hint, key=key))

    def prepare(self, sets: Sequence[str], jobs: int | str | None) -> None:
        """Apply what the command line sets; a key without a value counts as left out."""
        tree = self._document.tree
        if not isinstance(tree, dict):
            self._note((), f"expected `key: value` lines, found {found(tree)}", "for example: `dataset: photos`")
            self.finish()
        for assignment in sets:
            self._problems += override(self._document, assignment, defaults=DEFAULTS)
        if jobs is not None:
            self._problems += override(self._document, f"run.jobs={jobs}", label="--jobs")
        self._empty = {key for key, value in tree.items() if value is None and key in PipelineFile.model_fields}
        for key in self._empty:
            del tree[key]

    def top(self, needs_dataset: bool, needs_output: bool) -> PipelineFile | None:
        """The top level but for its plugins."""
        tree = self._document.tree
        misplaced = [key for key in tree if key in RunOptions.model_fields]
        for key in misplaced:
            self._note((key,), f"unknown key {key!r}", f"write it below `run:`, as `run: {{{key}: ...}}`", key=True)
        top = self._validated(PipelineFile, {key: value for key, value in tree.items() if key not in misplaced}, ())
        wanted = {
            "prompts": (True, "write below it what to segment, for example `- use: manual` and its options"),
            "dataset": (needs_dataset, "write `dataset: FOLDER` in the file, or: run-pipeline FILE.yaml FOLDER"),
            "output": (needs_output, "write `output: FOLDER` in the file, or: run-pipeline FILE.yaml -o FOLDER"),
        }
        for key, (needed, hint) in wanted.items():
            if needed and key not in tree and not any(nearest_name(other, [key], SIMILAR) for other in tree):
                text = f"the key '{key}' has no value" if key in self._empty else f"the key '{key}' is missing"
                self._note((key,), text, hint, key=True)
        return top

    def run_options(self) -> RunOptions | None:
        """What stands under `run:`."""
        run = self._document.tree.get("run", {})
        return self._validated(RunOptions, run, ("run",), "run") if isinstance(run, dict) else RunOptions()

    def engine(self, registry: Registry) -> PluginUse | None:
        """What stands under `run: {engine: ...}`."""
        run = self._document.tree.get("run", {})
        written = run.get("engine", RunOptions().engine) if isinstance(run, dict) else None
        return self.use("engine", ("run", "engine"), written, registry) if isinstance(written, (str, dict)) else None

    def load_plugins(self, named: Sequence[Path], search: bool) -> tuple[Registry, list[Path]]:
        """Every plugin: installed, named in the file, named by the caller, and lying beside the file."""
        written = self._document.tree.get("plugins", [])
        texts = [written] if isinstance(written, str) else written if isinstance(written, list) else []
        paths: dict[Path, None] = {}
        for index, text in enumerate(texts):
            loc: Loc = ("plugins",) if isinstance(written, str) else ("plugins", index)
            if not isinstance(text, str) or not text or self._document.is_refused(loc):
                continue
            try:
                paths.update(dict.fromkeys(find_drop_ins(None, [self.base / Path(text).expanduser()])))
            except PluginError as error:
                for problem in error.problems:
                    self._note(loc, problem.message, problem.hint)
        try:
            paths.update(dict.fromkeys(find_drop_ins(self.base / "_", list(named), search)))
            return Registry.load(paths), list(paths)
        except PluginError as error:
            raise PluginError(*self._sorted(), *error.problems) from error

    def uses(self, role: str, key: str, registry: Registry) -> list[PluginUse]:
        """The plugins listed under a key."""
        items = self._document.tree.get(key, [])
        if not isinstance(items, list):  # `top` says so
            return []
        uses = [self.use(role, (key, index), item, registry) for index, item in enumerate(items)]
        return [use for use in uses if use is not None]

    def use(self, role: str, loc: Loc, item: Any, registry: Registry) -> PluginUse | None:
        """One plugin with its options; None, with problems noted, if it cannot be had."""
        if self._document.is_refused(loc):
            return None
        named = loc if isinstance(item, str) else (*loc, "use")
        if (name := self._name(role, loc, item, registry)) is None:
            return None
        try:
            entry = registry.get(role, name)
        except PluginError as error:
            hint = error.problems[0].hint
            if match := re.match(r"use:\s*(\S+)$", name):
                hint = f"put a space after the ':', as in `use: {match[1]}`"
            self._note(named, error.problems[0].message, hint)
            return None
        options = {} if isinstance(item, str) else {key: value for key, value in item.items() if key != "use"}
        stage = self._validated(entry.cls, options, loc, f"the {role} {name!r}")
        return None if stage is None else PluginUse(role, name, options, stage, entry, loc)

    def _name(self, role: str, loc: Loc, item: Any, registry: Registry) -> str | None:
        """What stands under `use:`."""
        path = ".".join(map(str, loc))
        if isinstance(item, str):
            return item
        if not isinstance(item, dict):
            self._note(loc, f"{path}: expected a {role}, such as `use: NAME`, not {found(item)}")
            return None
        if (name := item.get("use")) is None and "use" not in item:
            names = registry.names(role)
            hint = f"the {role}s are: {', '.join(names)}"
            if close := nearest_name("use", list(item), SIMILAR):
                hint = f"did you mean 'use' instead of {close!r}?"
            elif first := next((key for key in item if key in names), None):
                hint = f"write `use: {first}`, and its options as keys beside it"
            self._note(loc, f"{path}: `use: NAME` is missing, which says what {role} this is", hint)
        elif not isinstance(name, str):
            self._note((*loc, "use"), f"{path}.use: expected the name of a {role}, not {found(name)}")
        return name if isinstance(name, str) else None

    def _validated(self, model: type[Model], options: dict[str, Any], loc: Loc, owner: str = "") -> Model | None:
        """The options as their model; None, with problems noted, if it refuses them."""
        try:
            if issubclass(model, Stage):
                return cast(Model, model.from_options(options, self.base))
            return model.model_validate_json(json.dumps(options))
        except ValidationError as error:
            for item in findings(error, model, options, owner, lambda at: (*loc, *at) in self._document.variables):
                at = (*loc, *item.loc)
                named = item.subject and not self._document.label(at).endswith(item.subject)
                self._note(at, f"{item.subject}: {item.message}" if named else item.message, item.hint, item.key)
        except Exception as error:
            text = f"{owner} failed while it read its options: {type(error).__name__}"
            self._note(loc, text, "this is a fault of the plugin; tell its author")
        return None


def _with_folders(writers: Sequence[PluginUse]) -> tuple[PluginUse, ...]:
    """Writers with folder names that differ: `png`, then `png-2`; also on systems that ignore case."""
    taken = set(RESERVED)
    placed = []
    for use in writers:
        folder, number = safe_part(use.name), 1
        while folder.lower() in taken:
            number += 1
            folder = safe_part(use.name, f"-{number}")
        taken.add(folder.lower())
        placed.append(replace(use, folder=folder))
    return tuple(placed)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - without following links, as the user sees it
