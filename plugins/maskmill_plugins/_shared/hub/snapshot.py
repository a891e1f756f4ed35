"""Where the files of a model are: in a folder of the user, or in the hub's cache on this machine."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema

from maskmill import PipelineError, Problem
from maskmill.files import absolute_path, expand_home
from maskmill.plugins.packages import is_installed
from maskmill.plugins.stage import PATH_OR_NAME, Network

#: `owner/name`, as the hub writes it.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
#: Suffixes of weights that are pickles, which can run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
#: One of them says how pictures are prepared.
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def _resolve_name(name: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    folder = expand_home(name, base or Path())
    is_name = HUB_NAME.fullmatch(name) and not folder.is_dir() and folder.suffix.lower() != ".onnx"
    return name if is_name else str(absolute_path(folder))


#: The type of an option `model`: `owner/name` on the hub, or a folder, relative to the pipeline file.
ModelName = Annotated[str, AfterValidator(_resolve_name), WithJsonSchema({"type": "string", "format": PATH_OR_NAME})]


def hub_cache() -> Path:
    """The hub's cache, by its own rules: `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or in the user's cache folder."""
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")  # noqa: PTH118 - "~" is expanded below
    place = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")  # noqa: PTH118
    return Path(os.path.expanduser(os.path.expandvars(place)))  # noqa: PTH111 - never raises


def is_offline() -> bool:
    """Whether the user forbade the hub's client to use the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def list_weights(folder: Path) -> list[Path]:
    """The safetensors files that a model consists of, whether they exist or not.

    Raises:
        PipelineError: the index of a model in several files is damaged.
    """
    index = folder / INDEX
    if not index.is_file():
        return [folder / WEIGHTS]
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise PipelineError(Problem(f"{index} does not say which files the model consists of"))
    if outside := next((name for name in names.values() if Path(name).name != name), None):
        raise PipelineError(Problem(f"{index} names {outside!r}, which is not a file beside it"))
    return [folder / name for name in sorted(set(names.values()))]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        PipelineError: it cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PipelineError(Problem(f"{path} cannot be read: {reason}")) from None
    if not isinstance(data, dict):
        raise PipelineError(Problem(f"{path} does not hold a JSON object"))
    return data


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model by the name that the user gave.

    Attributes:
        name: `owner/name` on the hub, or the absolute path of a folder; a value of an option of type `ModelName`.
        revision: branch, tag or commit on the hub; None for `main`.
    """

    name: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the name is a folder's."""
        return not HUB_NAME.fullmatch(self.name)

    def find(self) -> Path | None:
        """The folder with all files that the model needs; None if they have to be downloaded first.

        Raises:
            PipelineError: the index of the weights is damaged.
        """
        if self.is_folder:
            return Path(self.name)
        if not is_installed("huggingface_hub"):
            return None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name, CONFIG, hub_cache(), self.revision)
        folder = Path(found).parent if isinstance(found, str) else None
        return None if folder is None or _find_missing(folder) else folder

    def folder(self) -> Path:
        """The folder with the model's files.

        Raises:
            PipelineError: they are not on this machine, or some are missing.
        """
        found = self.find()
        if found is None:
            hint = f"maskmill weights pull {self.spelling}"
            raise PipelineError(Problem(f"the model {self.spelling} is not on this machine", hint=hint))
        if problem := self._check_folder(found):
            raise PipelineError(problem)
        return found

    @property
    def spelling(self) -> str:
        """The name as the command `maskmill weights pull` takes it: `owner/name` or `owner/name@revision`."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def read_config(self) -> dict[str, Any] | None:
        """The model's config.json; None if it has to be downloaded first.

        Raises:
            PipelineError: it is missing in the folder, or cannot be read.
        """
        found = self.find()
        return None if found is None else read_json(self.folder() / CONFIG)

    def reaches(self) -> Network:
        """The internet, if the model has to be downloaded."""
        return "none" if self.find() else "internet"

    def check(self) -> list[Problem]:
        """What is wrong with the folder, or a warning that the model will be downloaded."""
        try:
            found = self.find()
            problem = None if found is None else self._check_folder(found)
        except PipelineError as error:
            return list(error.problems)
        if found is not None:
            return [problem] if problem else []
        if is_offline():
            text = f"the model {self.spelling} is not on this machine, and HF_HUB_OFFLINE forbids to download it"
            return [Problem(text, hint=f"HF_HUB_OFFLINE=0 maskmill weights pull {self.spelling}")]
        text = f"the model {self.spelling} will be downloaded from the Hugging Face hub into {hub_cache()}"
        return [Problem(text, warning=True)]

    def _check_folder(self, folder: Path) -> Problem | None:
        if not folder.is_dir():
            hint = "give a folder with config.json and model.safetensors, or a name on the Hugging Face hub: owner/name"
            return Problem(f"the model folder '{folder}' does not exist", hint=hint)
        missing = _find_missing(folder)
        if missing == WEIGHTS and (pickle := _find_pickle(folder)):
            text = f"'{folder}' has no {WEIGHTS}; {pickle} is not loaded, because a pickle can run code"
            return Problem(text, hint="if you trust it, load it with transformers and call save_pretrained()")
        return Problem(f"the model folder '{folder}' has no {missing}") if missing else None


def _find_missing(folder: Path) -> str:
    """The first file that a model lacks, "" if it is complete."""
    if not (folder / CONFIG).is_file():
        return CONFIG
    if missing := next((path for path in list_weights(folder) if not path.is_file()), None):
        return missing.name
    return "" if any((folder / name).is_file() for name in PROCESSORS) else PROCESSORS[1]


def _find_pickle(folder: Path) -> str:
    return next((path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES), "")
