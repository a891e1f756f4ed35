"""Lists of class names beside the data: `labels.txt`, whose line numbers are class numbers, and `renamed.csv`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from maskmill import Artifact, Mask, Problem
from maskmill.files import atomic_path
from maskmill.tables import write_table

from .classes import BACKGROUND, NOT_IN_LINE, label_of, rename_class
from .output_files import describe_file, remove_file, save_as

LABELS = "labels.txt"
RENAMED = "renamed.csv"


def name_in_list(label: str) -> str:
    """The name of a class in `labels.txt`."""
    return rename_class(label, NOT_IN_LINE, {BACKGROUND})


def write_labels(folder: Path, classes: Sequence[str]) -> Iterator[Artifact]:
    """Write `labels.txt`, a name per line: the background, which is class 0, then `classes`; and `renamed.csv`."""
    names = [BACKGROUND, *map(name_in_list, classes)]
    yield save_as(folder, LABELS, "".join(f"{name}\n" for name in names).encode())
    yield from write_renamed(folder, classes, name_in_list)


def find_renamed(labels: Iterable[str], name_class: Callable[[str], str]) -> Mapping[str, str]:
    """The labels that a format does not allow, and their names in it."""
    return {label: name for label in labels if (name := name_class(label)) != label}


def find_renamed_masks(masks: Iterable[Mask], name_class: Callable[[str], str]) -> Mapping[str, str]:
    """The labels of masks that a format does not allow, in alphabetical order, and their names in it."""
    return find_renamed(sorted({label_of(mask) for mask in masks}), name_class)


def check_renamed(classes: Iterable[str], name_class: Callable[[str], str]) -> list[Problem]:
    """A warning for each of the classes that will have another name."""
    return [
        Problem(f"classes: {label!r} is written as {name!r}, because the format does not allow it", warning=True)
        for label, name in find_renamed(classes, name_class).items()
    ]


def write_renamed(folder: Path, classes: Iterable[str], name_class: Callable[[str], str]) -> Iterator[Artifact]:
    """Write `renamed.csv`, with the columns `label` and `name`, if any class has another name than its label."""
    renamed = find_renamed(classes, name_class)
    if not renamed:
        remove_file(folder, RENAMED)
        return
    with (
        atomic_path(folder / RENAMED) as unfinished,
        write_table(unfinished, ("label", "name"), errors="backslashreplace") as write,
    ):
        for row in renamed.items():
            write(row)
    yield describe_file(folder, RENAMED)


def summarize_renamed(writer: str, classes: Iterable[str], name_class: Callable[[str], str]) -> list[str]:
    """The lines that a writer tells at its end about renamed labels."""
    renamed = [f"{label!r} as {name!r}" for label, name in find_renamed(classes, name_class).items()]
    if not renamed:
        return []
    more = f" and {len(renamed) - 5} more" if len(renamed) > 5 else ""
    head = f"{writer}: labels that the format does not allow are written otherwise (see {RENAMED}):"
    return [head, f"  {', '.join(renamed[:5])}{more}"]
