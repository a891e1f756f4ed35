"""`maskmill segment PHOTO... --box ... -o OUTPUT`: a run without a pipeline file, of what the command line says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import run
from .options import FILE

if TYPE_CHECKING:
    from ..config.document import Document, Loc

#: The writers without `--to`.
WRITERS = ("overlay", "cutout", "png")
_BETWEEN = re.compile(r"[,;，；、]")


#: What was typed, for messages, and its numbers.
Given = Sequence[tuple[str, list[float]]]


def _read_numbers(
    least: int, most: int, form: str
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], Given]:
    """The callback of an option whose values are numbers with commas or spaces between them."""

    def read(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Given:
        return [(value, read_one(ctx, param, value)) for value in values]

    def read_one(ctx: click.Context, param: click.Parameter, value: str) -> list[float]:
        parts = re.sub(r"[,，;；\s]+", " ", value.strip().strip("[]()")).split()
        try:
            numbers = [int(part) if re.fullmatch(r"[-+]?\d{1,9}", part) else float(part) for part in parts]
        except ValueError:
            numbers = []
        if not least <= len(numbers) <= most or not all(abs(number) < 1e9 for number in numbers):
            raise click.BadParameter(f"expected {form}, found {value!r}", ctx, param)
        return numbers

    return read


@click.command("segment")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Output folder; it also gets the pipeline file.")
@click.option(
    "--box",
    "boxes",
    multiple=True,
    callback=_read_numbers(4, 4, "X0,Y0,X1,Y1"),
    metavar="X0,Y0,X1,Y1",
    help="A box around an object: left, top, right, bottom; repeat it for more objects.",
)
@click.option(
    "--point",
    "points",
    multiple=True,
    callback=_read_numbers(2, 3, "X,Y or X,Y,0"),
    metavar="X,Y[,0]",
    help="A point on the object; with ,0 one off it. All points, and the box if there is one, are of one object.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="TEXT",
    help="Class name of the objects, or one for each --box, in order.",
)
@click.option("--relative", is_flag=True, help="Boxes and points are fractions of width and height, from 0 to 1.")
@click.option(
    "--find",
    multiple=True,
    metavar="A,B",
    help="Find these things: a Qwen model is asked (docs/qwen.md), or the detector of --detector.",
)
@click.option(
    "--detector",
    metavar="MODEL",
    help="Find them with this detector on this machine, such as iSEE-Laboratory/llmdet_tiny; see docs/detect.md.",
)
@click.option("--everything", is_flag=True, help="Segment all objects, without prompts; needs SAM.")
@click.option("--prompts", type=FILE, metavar="FILE", help="Prompts image by image: JSON Lines, COCO, YOLO, CSV, ...")
@click.option("--backend", metavar="NAME", help="The model: sam by default; grabcut needs no weights.")
@click.option("--model", metavar="NAME", help="Short for --set backend.model=NAME, such as vit_b, vit_l, vit_h.")
@click.option("--to", multiple=True, metavar="A,B", help=f"Writers, instead of {','.join(WRITERS)}: coco, yolo, ...")
def command(
    photos: tuple[str, ...],
    output: Path,
    sets: tuple[str, ...],
    jobs: str | None,
    plugins: tuple[Path, ...],
    no_drop_ins: bool,
    **given: Any,
) -> int:
    """Segment PHOTOs: pictures, folders, patterns in quotes, lists. Without a pipeline file.

    OUTPUT/pipeline.yaml is the pipeline that was run; `run-pipeline OUTPUT/pipeline.yaml` does the same again.
    Run the same command again to continue an unfinished run. Exit code: as of run-pipeline.
    """
    from ..api import Pipeline
    from ..config.load import load_config
    from ..config.pipeline_text import format_pipeline
    from ..output.records import PIPELINE

    wanted = SegmentRequest(**{name: given.pop(name) for name in SegmentRequest.__dataclass_fields__})
    document = wanted.make_document(photos, output, plugins)
    config = load_config(output / PIPELINE, sets=sets, jobs=jobs, drop_ins=not no_drop_ins, document=document)
    head = f"To run it again: run-pipeline {PIPELINE}. To change it, copy it to another folder."
    text = format_pipeline(config, config.output, head)
    return run.execute(Pipeline(config), pipeline_text=text, **given)


# The options of a run are those of `maskmill run`.
command.params += [each for each in run.command.params if each.name not in ("file", "photos", "output", "state")]


@dataclass(frozen=True)
class SegmentRequest:
    """What to segment, with what, into which files, as given on the command line."""

    boxes: Given
    points: Given
    labels: Sequence[str]
    relative: bool
    find: Sequence[str]
    detector: str | None
    everything: bool
    prompts: Path | None
    backend: str | None
    model: str | None
    to: Sequence[str]

    def make_document(self, photos: Sequence[str], output: Path, plugins: Sequence[Path]) -> Document:
        """The content of the pipeline file; relative paths start from the current folder."""
        from ..config.document import Document

        arguments: dict[Loc, str] = {("dataset",): "PHOTO", ("output",): "-o"}
        arguments |= {("plugins", number): f"--plugins {path}" for number, path in enumerate(plugins)}
        prompts = self._list_sources(arguments)
        if not prompts:
            raise click.UsageError("say what to segment: --box, --point, --find, --everything or --prompts FILE")
        tree: dict[str, Any] = {"name": "segment"}
        tree |= {"plugins": list(map(str, plugins))} if plugins else {}
        tree |= {"dataset": list(dict.fromkeys(photos)), "prompts": prompts}
        tree |= {"combine": "all"} if len(prompts) > 1 else {}
        tree |= {"backend": self._make_backend(arguments), "writers": self._list_writers(arguments)}
        return Document.from_tree("maskmill segment", Path.cwd(), {**tree, "output": str(output)}, arguments)

    def _list_sources(self, arguments: dict[Loc, str]) -> list[dict[str, Any]]:
        """The prompt sources; what they were made of is added to `arguments`."""
        sources: list[dict[str, Any]] = []
        if self.labels and not (self.boxes or self.points or self.everything):
            raise click.UsageError("--label names the objects of --box, --point or --everything; none of them is given")
        if self.boxes or self.points:
            sources.append(self._make_manual(arguments))
        elif self.relative:
            raise click.UsageError("--relative is about --box and --point; none of them is given")
        if self.prompts is not None:
            arguments["prompts", len(sources)] = arguments["prompts", len(sources), "path"] = "--prompts"
            sources.append({"use": "file", "path": str(self.prompts)})
        if self.find:
            arguments["prompts", len(sources)] = "--find" if self.detector is None else "--detector"
            finder = {"use": "qwen"} if self.detector is None else {"use": "detect", "model": self.detector}
            sources.append({**finder, "find": _split(self.find)})
        elif self.detector is not None:
            raise click.UsageError("--detector: --find says what to look for; it is not given")
        if self.everything:
            arguments["prompts", len(sources)] = "--everything"
            label = self.labels if not (self.boxes or self.points) else ()
            if len(label) > 1:
                raise click.UsageError("--label: with --everything all masks have one label; give it once")
            sources.append({"use": "everything", **({"label": label[0]} if label else {})})
        return sources

    def _make_manual(self, arguments: dict[Loc, str]) -> dict[str, Any]:
        """The source `manual` with the boxes and points; the first of the sources."""
        boxes, points, labels = self.boxes, self.points, self.labels
        if points and len(boxes) > 1:
            raise click.UsageError(
                "--point: with several boxes it is not clear to which the points belong; give one --box with points,"
                " or write a prompts file (--prompts)"
            )
        if len(labels) not in (0, 1, len(boxes)):
            raise click.UsageError(f"--label: expected one, or one for each of the {max(len(boxes), 1)} objects")
        place: Loc = ("prompts", 0)
        arguments[place] = "--box" if boxes else "--point"
        units = {"units": "relative"} if self.relative else {}
        if len(boxes) <= 1:
            source: dict[str, Any] = {"box": boxes[0][1]} if boxes else {}
            source |= {"points": [numbers for _, numbers in points]} if points else {}
            arguments.update({(*place, "box"): f"--box {text}" for text, _ in boxes})
            arguments.update({(*place, "points", n): f"--point {text}" for n, (text, _) in enumerate(points)})
        elif len(labels) > 1:
            pairs = zip(boxes, labels, strict=True)
            source = {"objects": [{"box": numbers, "label": label} for (_, numbers), label in pairs]}
            arguments.update({(*place, "objects", n, "box"): f"--box {text}" for n, (text, _) in enumerate(boxes)})
        else:
            source = {"boxes": [numbers for _, numbers in boxes]}
            arguments.update({(*place, "boxes", n): f"--box {text}" for n, (text, _) in enumerate(boxes)})
        return {"use": "manual", **source, **({"label": labels[0]} if len(labels) == 1 else {}), **units}

    def _make_backend(self, arguments: dict[Loc, str]) -> dict[str, Any]:
        from ..config.pipeline_file import DEFAULT_BACKEND

        chosen = dict(DEFAULT_BACKEND) if self.backend is None else {"use": self.backend}
        if self.backend is not None:
            arguments["backend",] = arguments["backend", "use"] = "--backend"
        if self.model is not None:
            chosen["model"] = self.model
            arguments["backend", "model"] = "--model"
        return chosen

    def _list_writers(self, arguments: dict[Loc, str]) -> list[str]:
        names = _split(self.to) if self.to else list(WRITERS)
        arguments.update({("writers", number): "--to" for number, _ in enumerate(names)})
        return names


def _split(texts: Sequence[str]) -> list[str]:
    """The names in texts such as "cat, dog"."""
    return [name.strip() for text in texts for name in _BETWEEN.split(text) if name.strip()]
