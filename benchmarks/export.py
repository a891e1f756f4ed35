"""What `maskmill export`, `merge` and `evaluate` cost over many stored images.

    python benchmarks/export.py --images 1000 --images 10000

Makes a run of so many images, each of 480 × 640 pixels with ten ragged masks, without images or a model:
results and ledger alone, as a run leaves them. Then merges its two halves, exports that, evaluates it
against its own masks moved by two pixels, and compares it with itself; each in a process of its own. Prints
seconds and the peak memory of the largest process. `--skip png` leaves out the steps that have it in their names.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import psutil

from maskmill import ImageResult, Mask, Prompt
from maskmill.geometry import Box
from maskmill.output.ledger import Ledger
from maskmill.output.store import store_result
from maskmill.results import LedgerRow

SIZE, MASKS, KINDS = (480, 640), 10, 50
FINGERPRINT = "0/0/0/"


def pictures() -> list[tuple[Mask, ...]]:
    """Sets of masks: discs with a ragged border."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    sets = []
    for _ in range(KINDS):
        masks = []
        for number in range(MASKS):
            cy, cx, radius = random.uniform(60, 420), random.uniform(60, 580), random.uniform(15, 60)
            far = np.hypot(y - cy, x - cx) + random.normal(0, 1.5, SIZE)
            box = Box(cx - radius, cy - radius, cx + radius, cy + radius)
            prompt = Prompt(box=box, label=f"class {number % 5}", source="file", ref=str(number))
            masks.append(Mask.from_array(far < radius, score=0.9, stability=0.95, prompt=prompt))
        sets.append(tuple(masks))
    return sets


def make(folder: Path, first: int, last: int) -> None:
    """The output folder of a run over images first to last."""
    sets = pictures()
    about = {"schema": 1, "name": folder.name, "pipeline": {"dataset": [str(folder / "photos")]}, "fingerprint": {}}
    with Ledger.create(folder) as ledger:
        for number in range(first, last):
            key, masks = f"{number // 1000:03}/{number:06}.jpg", sets[number % KINDS]
            prompts = tuple(mask.prompt for mask in masks if mask.prompt)
            provenance = {"fingerprint": FINGERPRINT, "backend": "none", "versions": {}}
            store_result(
                folder, ImageResult(key, "done", SIZE, f"{number:064x}", prompts, masks, provenance=provenance)
            )
            ledger.record(LedgerRow(key, "done", FINGERPRINT, 1, 1, 1, 0.1, 0))
        ledger.set_meta("masks", "0")
    (folder / "run.json").write_text(json.dumps({**about, "outcome": "finished"}), encoding="utf-8")


def make_truth(path: Path, count: int) -> None:
    """A COCO file of the same masks, moved to the right."""
    moved = [[Mask.from_array(np.roll(mask.array, 2, axis=1)) for mask in masks] for masks in pictures()]
    images, annotations = [], []
    for number in range(count):
        name = f"{number // 1000:03}/{number:06}.jpg"
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for index, mask in enumerate(moved[number % KINDS]):
            about = {"id": number * MASKS + index, "image_id": number, "category_id": index % 5}
            annotations.append({**about, "segmentation": mask.rle, "area": mask.area, "iscrowd": 0})
    categories = [{"id": number, "name": f"class {number}"} for number in range(5)]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories}), encoding="utf-8"
    )


def measured(*arguments: object) -> tuple[float, float]:
    """Seconds and the peak memory in MiB of the largest process of `maskmill ARGUMENTS`."""
    command = [sys.executable, "-m", "maskmill", *map(str, arguments)]
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=sys.stderr)
    peak = 0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max([peak, *(each.memory_info().rss for each in family)])
        except psutil.Error:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{command} failed with exit code {process.returncode}")
    return time.perf_counter() - started, peak / 2**20


@click.command()
@click.option("--images", "counts", type=int, multiple=True, default=(1000, 10_000), show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make them, instead of the temporary folder.")
@click.option("--skip", "skipped", multiple=True, metavar="TEXT", help="Leave out steps with this in their names.")
def main(counts: tuple[int, ...], folder: Path | None, skipped: tuple[str, ...]) -> None:
    """Measure."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    click.echo(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}")
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as made:
            root = Path(made)
            make(root / "one", 0, count // 2)
            make(root / "two", count // 2, count)
            whole = root / "whole"
            make_truth(root / "truth.json", count)
            steps = {
                "merge": ("merge", root / "one", root / "two", "-o", whole),
                "export --to coco": ("export", whole, "--to", "coco", "-q"),
                "export --to png, 1 job": ("export", whole, "--to", "png", "-q", "-j", 1, "-o", root / "png1"),
                "export --to png, 2 jobs": ("export", whole, "--to", "png", "-q", "-j", 2, "-o", root / "png2"),
                "explain": ("explain", whole, "000/000007.jpg"),
                "compare": ("compare", whole, whole),
                "evaluate": ("evaluate", whole, "--truth", root / "truth.json"),
            }
            click.echo(f"{count:,} images, {count * MASKS:,} masks")
            for name, arguments in steps.items():
                if any(part in name for part in skipped):
                    continue
                seconds, peak = measured(*arguments)
                click.echo(f"  {name:27} {seconds:7.1f} s {peak:6.0f} MiB")


if __name__ == "__main__":
    main()
