"""Reads a pipeline file into a validated `Config`, or raises everything that is wrong with it, by line and column.

`yaml_reader` parses the text, `overrides` applies `--set`, each plugin's model validates its own
options, and `option_errors` rewrites pydantic's errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ..errors import PipelineError, PluginError, Problem, nearest_name
from ..files import absolute_path, expand_home, safe_part
from ..output.folder import OTHERS
from ..output.mirror import state_folder
from ..plugins.find import find_drop_ins
from ..plugins.options import OptionSchema
from ..plugins.registry import Registry
from ..plugins.stage import Stage
from ..storage import check_packages, configure, is_bucket, restore_address
from .config import Config, ImageOptions, PluginUse, RunOptions, StorageModel
from .document import Document, Loc
from .inherit import KEY as EXTENDS, read_document
from .option_errors import SIMILAR, explain_validation_error, format_value
from .overrides import override, settle_texts
from .pipeline_file import DEFAULT_BACKEND, DEFAULTS, PipelineFile, find_top_schemas

Model = TypeVar("Model", bound=BaseModel)

#: Folders of the output that writers cannot have.
RESERVED = ("results", *OTHERS)


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
    document: Document | None = None,
    defer: bool = False,
    state: Path | None = None,
) -> Config:
    """Read and validate a pipeline file.

    Args:
        file: the YAML file, as the user wrote its name.
        sets: `KEY=VALUE`, each overriding one value of the file.
        dataset: overrides the file's; relative to the working directory.
        output: overrides the file's; relative to the working directory.
        plugins: drop-in files and folders to load in addition to those of the file.
        drop_ins: False loads only drop-ins that are named, and does not search next to the file.
        jobs: overrides `run.jobs`.
        complete: False allows `dataset` and `output` to be missing, for a pipeline that is opened but
            not run; `output` is then the folder `outputs/NAME` next to the file.
        document: the content, where it is not that of the file (see `Document.from_tree`); changed in place.
        state: a folder on this machine to work in, for an output in object storage (None: one of this user) or on a
            drive that machines share.
        defer: True raises for a missing `dataset` or `output` only together with other problems; alone they are
            in `Config.deferred`, for a run to raise.

    Raises:
        PipelineError: everything that is wrong with the file and with `sets`, sorted by line.
        PluginError: a drop-in cannot be loaded; includes the problems found before.
    """
    document = document or read_document(file)
    for key, is_replaced in (("dataset", dataset is not None), ("output", output is not None or not complete)):
        if is_replaced:  # a variable in what is not used need not be set
            document.drop_problems((key,))
    builder = ConfigBuilder(file, document)
    builder.apply_overrides(sets, jobs)
    top = builder.read_top(complete and dataset is None, complete and output is None, defer)
    builder.load_plugins(plugins, drop_ins)
    return builder.build(top, dataset, output, state)


class ConfigBuilder:
    """Builds a `Config` step by step.

    A user should see every mistake of a file in one go. So a step that finds something wrong records
    it, returns None (or what it could read), and the next step goes on; only `raise_problems` raises.
    A None therefore always comes with a recorded problem.

    Args:
        file: the file, as the user wrote its name; None for a pipeline that is given in Python.
        document: the content.
    """

    def __init__(self, file: Path | None, document: Document) -> None:
        self._file = file
        self._default_name = file.stem if file else "pipeline"
        self._deferred: dict[str, Problem] = {}
        self._document = document
        self._problems: list[Problem] = []
        self._empty: set[str] = set()
        self._registry = Registry()
        self._drop_ins: list[Path] = []

    def raise_problems(self) -> None:
        """Raise what was found, if anything."""
        if problems := self._sort_problems():
            if self._file is not None:  # in Python, a pipeline need not be meant for a run
                problems += self._deferred.values()
            known = {problem.message for problem in problems}
            left_out = [problem for problem in self._registry.failures if problem.message not in known]
            raise PipelineError(*problems, *left_out)

    def _sort_problems(self) -> list[Problem]:
        """Problems of the file by line, then those of the files that it extends, of the command line; each once."""
        every = dict.fromkeys([*self._document.problems, *self._problems])
        files = [source.name for source in self._document.sources()]
        ranks = {name: rank for rank, name in enumerate(files)}
        return sorted(every, key=lambda each: (ranks.get(each.file, len(files)), each.line, each.column))

    def _record(self, loc: Loc, message: str, hint: str = "", key: bool = False) -> None:
        # A value that the YAML reader already complained about is only a placeholder in the tree:
        # whatever is wrong with the placeholder would confuse the user.
        if not self._document.has_problem(loc):
            self._problems.append(self._document.problem(loc, message, hint, key=key))

    def apply_overrides(self, sets: Sequence[str], jobs: int | str | None) -> None:
        """Apply `--set` and `--jobs` to the tree; a top-level key without a value counts as missing.

        Raises:
            PipelineError: the file does not contain a mapping, so no other step makes sense.
        """
        tree = self._document.tree
        if not isinstance(tree, dict):
            text = f"expected `key: value` lines, found {format_value(tree)}"
            self._record((), text, "for example: `dataset: photos`")
            self.raise_problems()
        for assignment in sets:
            self._problems += override(self._document, assignment, defaults=DEFAULTS)
        if jobs is not None:
            self._problems += override(self._document, f"run.jobs={jobs}", label="--jobs")
        settle_texts(self._document, find_top_schemas)
        if EXTENDS in tree:  # what a file extends is merged, and this key removed, when it is read
            self._record((EXTENDS,), "it is read from the file only")
        self._empty = {key for key, value in tree.items() if value is None and key in PipelineFile.model_fields}
        for key in self._empty:
            del tree[key]

    def read_top(self, needs_dataset: bool, needs_output: bool, defer: bool = False) -> PipelineFile | None:
        """Validate the top level; its plugins are validated later, by `build`."""
        tree = self._document.tree
        misplaced = [key for key in tree if key in RunOptions.model_fields]
        for key in misplaced:
            self._record((key,), f"unknown key {key!r}", f"write it under `run:`, as `run: {{{key}: ...}}`", key=True)
        top = self._validate(PipelineFile, {key: value for key, value in tree.items() if key not in misplaced}, ())
        required = {
            "prompts": (True, "list what to segment, for example `- use: manual` with its options"),
            "dataset": (needs_dataset, "write `dataset: FOLDER` in the file, or: run-pipeline FILE.yaml FOLDER"),
            "output": (needs_output, "write `output: FOLDER` in the file, or: run-pipeline FILE.yaml -o FOLDER"),
        }
        if self._file is None:
            required["dataset"] = (needs_dataset, "give the images: a folder, a pattern, a list file or an image")
            required["output"] = (needs_output, "give the output folder")
        for key, (is_needed, hint) in required.items():
            # `datset: photos` is reported as an unknown key; that `dataset` is missing is then the same mistake.
            is_misspelt = any(nearest_name(other, [key], SIMILAR) for other in tree)
            if is_needed and key not in tree and not is_misspelt:
                text = f"the key '{key}' has no value" if key in self._empty else f"the key '{key}' is missing"
                if defer and key != "prompts":
                    self._deferred[key] = self._document.problem((key,), text, hint, key=True)
                else:
                    self._record((key,), text, hint, key=True)
        return top

    def load_plugins(self, named: Sequence[Path], search: bool) -> None:
        """Load all plugins: installed ones, then drop-ins named in the file, named by the caller, next to the file.

        Raises:
            PluginError: one that is named cannot be loaded. What it would register is unknown, so no `use:` can be
                checked. One that lies beside the file is left out; `_read_use` names it if its plugin is needed.
        """
        written = self._document.tree.get("plugins", [])
        texts = [written] if isinstance(written, str) else written if isinstance(written, list) else []
        paths: dict[Path, None] = {}
        for index, text in enumerate(texts):
            loc: Loc = ("plugins",) if isinstance(written, str) else ("plugins", index)
            if not isinstance(text, str) or not text or self._document.has_problem(loc):
                continue
            try:
                paths.update(dict.fromkeys(find_drop_ins(None, [expand_home(text, self._folder(("plugins",)))])))
            except ValueError as error:
                self._record(loc, str(error))
            except PluginError as error:
                for problem in error.problems:
                    self._record(loc, problem.message, problem.hint)
        try:
            paths.update(dict.fromkeys(find_drop_ins(None, list(named))))
            folders = dict.fromkeys(source.folder for source in self._document.sources())
            beside = [path for folder in folders for path in find_drop_ins(folder / "_", search=search)]
            found = [path for path in dict.fromkeys(beside) if path not in paths]
            self._registry = Registry.load([*paths, *found], optional=found)
            self._drop_ins = list(self._registry.drop_ins)
        except PluginError as error:
            raise PluginError(*self._sort_problems(), *error.problems) from error

    def build(
        self,
        top: PipelineFile | None,
        dataset: Sequence[str] | None,
        output: Path | None,
        state: Path | None = None,
    ) -> Config:
        """Validate the plugins and put everything together.

        Args:
            top: of `read_top`.
            dataset: overrides the file's.
            output: overrides the file's.
            state: the folder to work in, if the output is elsewhere.

        Raises:
            PipelineError: this step or one before found something wrong.
        """
        prompts = self._read_uses("prompt source", "prompts")
        backend = self._read_use("backend", ("backend",), self._document.tree.get("backend", DEFAULT_BACKEND))
        filters, writers = self._read_uses("filter", "filters"), self._read_uses("writer", "writers")
        run, engine = self._read_section("run", RunOptions), self._read_engine()
        images, storage = self._read_section("images", ImageOptions), self._read_section("storage", StorageModel)
        destination, corrections = self._find_bucket(top, output), self._locate_corrections(top)
        folder = self._locate_output(top, output) if destination is None else self._locate_bucket(destination, state)
        if state is not None and destination is None and folder is not None:
            destination, folder = str(folder), self._locate_state(state, folder)
        self.raise_problems()
        assert top and run and backend and engine and images and folder and storage, "each None comes with a problem"
        options = storage.as_options()
        configure(options)
        return Config(
            file=self._file,
            base=self._document.folder,
            name=top.name or self._default_name,
            dataset=tuple(top.entries if dataset is None else dataset),
            dataset_base=self._folder(("dataset",)) if dataset is None else Path.cwd(),
            prompts=tuple(prompts),
            corrections=corrections,
            combine=top.combine,
            backend=backend,
            filters=tuple(filters),
            writers=_assign_folders(writers),
            engine=engine,
            output=folder,
            destination=destination,
            images=images,
            storage=options,
            run=run,
            drop_ins=tuple(self._drop_ins),
            registry=self._registry,
            document=self._document,
            deferred=tuple(self._deferred.items()),
        )

    def _find_bucket(self, top: PipelineFile | None, output: Path | None) -> str | None:
        """The address of an output in object storage."""
        written = top.output if top and output is None else None
        address = restore_address(output) if output else written if written and is_bucket(written) else None
        return None if address is None else address.rstrip("/")

    def _locate_bucket(self, bucket: str, state: Path | None) -> Path | None:
        """The folder on this machine that a run works in whose output is in object storage."""
        self._problems += check_packages()
        return state_folder(bucket) if state is None else self._locate_state(state)

    def _locate_state(self, state: Path, output: Path | None = None) -> Path | None:
        """The folder that a run works in whose output is elsewhere, perhaps in this folder."""
        try:
            folder = absolute_path(expand_home(state, Path()))
        except ValueError as error:
            self._problems.append(Problem(str(error), "--state"))
            return None
        if output is not None and (folder.is_relative_to(output) or output.is_relative_to(folder)):
            text = f"'{folder}' and the output '{output}' must be beside each other"
            self._problems.append(Problem(text, "--state", hint="give a folder on a disk of this machine"))
        return folder

    def _locate_output(self, top: PipelineFile | None, output: Path | None) -> Path | None:
        """The output folder: the caller's, the file's, or `outputs/NAME` beside the file."""
        if top is None:
            return None
        written = top.output or f"outputs/{safe_part(top.name or self._default_name)}"
        try:
            folder = self._folder(("output",))
            return absolute_path(expand_home(written, folder) if output is None else expand_home(output, Path()))
        except ValueError as error:
            if output is None:
                self._record(("output",), str(error))
            else:
                self._problems.append(Problem(str(error), "--output"))
        return None

    def _locate_corrections(self, top: PipelineFile | None) -> Path | None:
        if top is None or top.corrections is None:
            return None
        try:
            return absolute_path(expand_home(top.corrections, self._folder(("corrections",))))
        except ValueError as error:
            self._record(("corrections",), str(error))
        return None

    def _read_section(self, key: str, model: type[Model]) -> Model | None:
        """The options under a key of the top level; another type of value there is reported by `read_top`."""
        options = self._document.tree.get(key, {})
        return self._validate(model, options, (key,), key) if isinstance(options, dict) else model()

    def _read_engine(self) -> PluginUse | None:
        """The plugin under `run: {engine: ...}`; another type of value there is reported by `_read_section`."""
        run = self._document.tree.get("run", {})
        written = run.get("engine", RunOptions().engine) if isinstance(run, dict) else None
        return self._read_use("engine", ("run", "engine"), written) if isinstance(written, (str, dict)) else None

    def _read_uses(self, role: str, key: str) -> list[PluginUse]:
        """The plugins listed under a key."""
        items = self._document.tree.get(key, [])
        if not isinstance(items, list):  # reported by `read_top`
            return []
        uses = [self._read_use(role, (key, index), item) for index, item in enumerate(items)]
        return [use for use in uses if use is not None]

    def _read_use(self, role: str, loc: Loc, item: Any) -> PluginUse | None:
        """One plugin with its options; None if there is no such plugin or its options are wrong."""
        if self._document.has_problem(loc):
            return None
        if (name := self._read_name(role, loc, item)) is None:
            return None
        try:
            entry = self._registry.get(role, name)
        except PluginError as error:
            hint = error.problems[0].hint
            if match := re.match(r"use:\s*(\S+)$", name):  # `- use:sam` is the text "use:sam" in YAML
                hint = f"put a space after the ':', as in `use: {match[1]}`"
            self._record(loc if isinstance(item, str) else (*loc, "use"), error.problems[0].message, hint)
            self._problems += error.problems[1:]
            return None
        self._settle_options(loc, entry.cls)
        options = {} if isinstance(item, str) else {key: value for key, value in item.items() if key != "use"}
        stage = self._validate(entry.cls, options, loc, f"the {role} {name!r}")
        return None if stage is None else PluginUse(role, name, options, stage, entry, loc, base=self._folder(loc))

    def _folder(self, loc: Loc) -> Path:
        """The folder that relative paths in a value start from."""
        return self._document.source(loc).folder

    def _settle_options(self, loc: Loc, cls: type[Stage]) -> None:
        """Read the options that the command line set for the plugin at `loc` as what the plugin says they are."""
        if any(known[: len(loc)] == loc for known in self._document.given):
            schema = OptionSchema(cls)
            settle_texts(
                self._document, lambda known: schema.at(known[len(loc) :]) if known[: len(loc)] == loc else None
            )

    def _read_name(self, role: str, loc: Loc, item: Any) -> str | None:
        """The plugin's name: the item itself if it is a text, else the value of its `use:`."""
        if isinstance(item, str):
            return item
        path = ".".join(map(str, loc))
        if not isinstance(item, dict):
            self._record(loc, f"{path}: expected a {role}, such as `use: NAME`, not {format_value(item)}")
        elif "use" not in item:
            names = self._registry.names(role)
            hint = f"the {role}s are: {', '.join(names)}"
            if close := nearest_name("use", list(item), SIMILAR):
                hint = f"did you mean 'use' instead of {close!r}?"
            elif first := next((key for key in item if key in names), None):  # `- manual: {boxes: ...}`
                hint = f"write `use: {first}`, with its options as keys next to it"
            elif (base := self._document.base) and base.tree.get(loc[0]) is not None:
                hint = f"it takes the place of the {role} in {base.name}, whose options are not merged; {hint}"
            self._record(loc, f"{path}: `use: NAME` is missing; it selects the {role}", hint)
        elif not isinstance(name := item["use"], str):
            self._record((*loc, "use"), f"{path}.use: expected the name of a {role}, not {format_value(name)}")
        else:
            return name
        return None

    def _validate(self, model: type[Model], options: dict[str, Any], loc: Loc, owner: str = "") -> Model | None:
        """The options as an instance of their model; None if it rejects them.

        Args:
            model: a stage, or a part of the pipeline file.
            options: plain data.
            loc: their place in the document.
            owner: names the model in messages, such as "the backend 'sam'".
        """
        try:
            if issubclass(model, Stage):
                return cast(Model, model.from_options(options, self._folder(loc)))
            return model.model_validate_json(json.dumps(options))
        except ValidationError as error:
            for item in explain_validation_error(
                error, model, options, owner, lambda at: (*loc, *at) in self._document.variables
            ):
                at = (*loc, *item.loc)
                # `--set run.jobs: expected ...` names the option already
                is_named = self._document.is_argument(at) or self._document.label(at).endswith(item.subject)
                self._record(at, item.message if is_named else str(item), item.hint, item.key)
        except Exception as error:  # a validator of the plugin failed; not even its message may contain the options
            text = f"{owner} failed while reading its options: {type(error).__name__}"
            self._record(loc, text, "this is a bug in the plugin; please report it to its author")
        return None


def _assign_folders(writers: Sequence[PluginUse]) -> tuple[PluginUse, ...]:
    """Give each writer a folder of its own: `png`, then `png-2`; names differ also on systems that ignore case."""
    taken = set(RESERVED)
    assigned = []
    for use in writers:
        folder, number = safe_part(use.name), 1
        while folder.lower() in taken:
            number += 1
            folder = safe_part(use.name, f"-{number}")
        taken.add(folder.lower())
        assigned.append(replace(use, folder=folder))
    return tuple(assigned)
