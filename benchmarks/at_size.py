"""What a run and the commands on its results cost over many tiny images: time and memory of each phase.

    python benchmarks/at_size.py --images 10000 --images 100000 --writer coco --writer yolo

Makes pictures of 16 × 16 pixels in folders of 1,000 and fills one box in each. Then, each in a process of its own:
the run, the same again, `status`, `explain`, an export to each `--export`, `evaluate` against the run's own COCO file,
`compare`, runs after one picture was changed and after one was removed, and `prune`. Prints the seconds of each phase,
those from the last image to the end, the CPU seconds of all processes, and the peak memory of the command (in a run:
the driver) and of its largest worker. The folder is removed afterwards.

    python benchmarks/at_size.py --images 400000 --copied --writer coco --writer "{use: yolo, images: none}"

With `--copied` only the first pictures go through the pipeline, and their results are copied for all others: the end
of a run and the commands can then be measured without waiting for the work. The writers must have no files for images.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import psutil

from maskmill.output.entry_store import NAME as ENTRIES, EntryStore, Origin
from maskmill.output.ledger import Ledger
from maskmill.output.store import result_path, stat_result
from maskmill.testing import DROP_IN, write_picture

SIDE, PER_FOLDER, KINDS = 16, 1000, 64
PIPELINE = """
dataset: photos
prompts: [{{use: manual, box: [2, 3, 12, 14], label: thing}}]
backend: {{use: fake-backend}}
writers: [{writers}]
output: out
run: {{jobs: {jobs}, threads: 1}}
"""


def picture(folder: Path, number: int) -> Path:
    """Where a picture is."""
    return folder / "photos" / f"{number // PER_FOLDER:04}" / f"{number:07}.png"


def make(folder: Path, images: int, writers: Sequence[str], jobs: int) -> Path:
    """The pictures, a plugin with the backend, and the pipeline file, which is returned."""
    kinds = [
        write_picture(folder / "kinds" / f"{seed}.png", SIDE, SIDE, seed).path.read_bytes() for seed in range(KINDS)
    ]
    for number in range(images):
        path = picture(folder, number)
        if number % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(kinds[number % KINDS])
    (folder / "plugins").mkdir()
    (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{DROP_IN}", encoding="utf-8")
    file = folder / "p.yaml"
    uses = ", ".join(name if name.startswith("{") else f"{{use: {name}}}" for name in writers)
    file.write_text(PIPELINE.format(writers=uses, jobs=jobs), encoding="utf-8")
    return file


def copy_results(folder: Path, images: int) -> None:
    """Results of all pictures, those of the first ones under the names of the others."""
    out = folder / "out"
    keys = [picture(folder, number).relative_to(folder / "photos").as_posix() for number in range(KINDS)]
    with Ledger.create(out) as ledger:
        texts = [result_path(out, key).read_text(encoding="utf-8") for key in keys]
        rows = [ledger.find_rows([key])[key] for key in keys]
        for number in range(KINDS, images):
            kind, path = number % KINDS, picture(folder, number)
            key = path.relative_to(folder / "photos").as_posix()
            target = result_path(out, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(texts[kind].replace(f'"{keys[kind]}"', f'"{key}"', 1), encoding="utf-8")
            row = rows[kind]._replace(key=key, mtime=path.stat().st_mtime_ns)
            ledger.record(row, stored=stat_result(out, key))
        ledger.set_meta("finished", None)
    copy_entries(folder, keys, images)


def copy_entries(folder: Path, keys: Sequence[str], images: int) -> None:
    """What the results add to the files about the dataset, as workers would have made it."""
    out = folder / "out"
    with EntryStore(out / ENTRIES) as entries:
        for writer in (path.name for path in out.iterdir() if path.is_dir()):
            data = {each.key: each.data for each in entries.read(writer)}
            if set(keys) - data.keys():
                continue
            origins = entries.find_origins(writer, sorted(keys))
            for number in range(KINDS, images):
                kind = keys[number % KINDS]
                key = picture(folder, number).relative_to(folder / "photos").as_posix()
                stored = stat_result(out, key)
                assert stored is not None, "copied before"
                text = data[kind].replace(kind.encode(), key.encode())
                entries.put(writer, key, Origin(stored, origins[kind].made_with), text)


def measure(name: str, folder: Path, *arguments: object) -> None:
    """Run `maskmill ARGUMENTS` and print what it cost."""
    log = folder / "log.txt"
    command = [sys.executable, "-m", "maskmill", *map(str, arguments)]
    command += ["--log-json"] if arguments[0] == "run" else []
    started, began, peak, of_workers = time.perf_counter(), time.time(), 0, 0
    before = os.times()
    with log.open("wb") as out:
        process = psutil.Popen(command, stdout=out, stderr=out)
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
                of_workers = max([of_workers, *(each.memory_info().rss for each in process.children(recursive=True))])
            except psutil.Error:
                pass
            time.sleep(0.05)
    seconds, after = time.perf_counter() - started, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        raise click.ClickException(f"{name}: exit code {process.returncode}\n{log.read_text('utf-8')[-2000:]}")
    worked = find_last_image(log, began)
    end = f"{seconds - worked:9.1f}" if worked else f"{'':9}"
    workers = f"{of_workers / 2**20:8.0f}" if of_workers else ""
    click.echo(f"  {name:20} {seconds:9.1f} {end} {processor:9.1f} {peak / 2**20:8.0f} {workers}")


def find_last_image(log: Path, began: float) -> float:
    """Seconds from the start of a run to its last image, 0 if it had none."""
    last = 0.0
    with log.open("rb") as lines:
        for line in lines:
            if b'"event": "image"' in line:
                last = json.loads(line)["time"] - began
    return last


def measure_phases(folder: Path, file: Path, images: int, exports: Sequence[str], copied: bool) -> None:
    """Print a line for each phase."""
    if copied:
        measure("the first images", folder, "run", file, "--limit", KINDS)
        copy_results(folder, images)
    out = folder / "out"
    middle = picture(folder, images // 2)
    key = middle.relative_to(folder / "photos").as_posix()
    measure("run", folder, "run", file)
    measure("run again", folder, "run", file)
    measure("status", folder, "status", out)
    measure("explain", folder, "explain", out, key)
    for writer in exports:
        measure(f"export to {writer}", folder, "export", out, "--to", writer, "-q")
    if (truth := out / "coco" / "instances.json").exists():
        measure("evaluate", folder, "evaluate", out, "--truth", truth)
    measure("compare with itself", folder, "compare", out, out)
    shutil.copyfile(folder / "kinds" / f"{(images // 2 + 1) % KINDS}.png", middle)
    measure("one image changed", folder, "run", file)
    middle.unlink()
    measure("one image removed", folder, "run", file)
    measure("prune", folder, "prune", out)


@click.command()
@click.option("--images", "counts", type=click.IntRange(min=KINDS), multiple=True, default=(10_000,), show_default=True)
@click.option("--writer", "writers", multiple=True, default=("coco", "yolo"), show_default=True)
@click.option("--export", "exports", multiple=True, default=("parquet",), show_default=True)
@click.option("--jobs", type=int, default=2, show_default=True)
@click.option("--copied", is_flag=True, help="Copy the results of the first pictures for all others.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make it, instead of the temporary folder.")
def main(
    counts: tuple[int, ...],
    writers: tuple[str, ...],
    exports: tuple[str, ...],
    jobs: int,
    copied: bool,
    folder: Path | None,
) -> None:
    """Measure, one size after the other."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    click.echo(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}; writers {', '.join(writers)}")
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="at-size-", dir=folder) as made:
            file = make(Path(made), count, writers, jobs)
            click.echo(f"{count:,} images{'':14} seconds   the end       CPU  peak MiB  worker MiB")
            measure_phases(Path(made), file, count, exports, copied)


if __name__ == "__main__":
    main()
