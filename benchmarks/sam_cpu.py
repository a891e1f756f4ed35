"""How fast the `sam` backend is on this machine's processor, beside other ways to run SAM.

    python benchmarks/sam_cpu.py --model vit_b --rounds 3

Needs no published weights: random ones cost the same time. Every contender runs in a process
of its own, with the same number of threads; the contenders take turns, so that whatever else
the machine does hits all of them. Reported are medians, and ratios to `ours` within a round.
Packages that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import psutil
from sam_contenders import CONTENDERS, INNER, OUTER, ROWS, TIMES

#: Floating-point operations of one encoder pass, without those on padding, in units of 1e9.
GFLOP = {"vit_b": 942, "vit_l": 2851, "vit_h": 5666}
ENCODER_ONLY = ("transformers", "openvino", "onnxruntime")

Task = dict[str, Any]
Measured = dict[str, float]


class Process:
    """A contender's process, which waits for work."""

    def __init__(self, name: str, model: str, checkpoint: Path, threads: int) -> None:
        self.name = name
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MASKMILL_THREADS=str(threads))
        script = Path(__file__).with_name("sam_contenders.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), name, model, str(checkpoint)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment | CONTENDERS[name].environment,
        )
        self.receive()

    def send(self, task: Task) -> None:
        """Start a task."""
        assert self.process.stdin is not None
        print(json.dumps(task), file=self.process.stdin, flush=True)

    def receive(self) -> Measured:
        """Wait for its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"the contender {self.name} died with code {self.process.wait()}")
        answer: Measured = json.loads(line)
        return answer

    def run(self, task: Task) -> Measured:
        """Do a task and wait for its end."""
        self.send(task)
        return self.receive()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def random_checkpoint(model: str, folder: Path) -> Path:
    """A checkpoint with random weights, in a process of its own so that its memory is given back."""
    path = folder / f"{model}.pth"
    code = (
        "import sys, torch, segment_anything as s; torch.manual_seed(0);"
        " torch.save(s.sam_model_registry[sys.argv[1]]().state_dict(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, model, str(path)], check=True)
    return path


def take_turns(processes: Iterable[Process], tasks: list[Task], rounds: int) -> dict[tuple[str, str], list[Measured]]:
    """Every task of every process, `rounds` times, one at a time: (contender, task) -> measurements."""
    results: dict[tuple[str, str], list[Measured]] = {}
    processes = list(processes)
    for process in processes:  # the first pass asks for memory and fills caches
        process.run({"job": "encode"})
    for number in range(rounds):
        for task in tasks:
            turn = processes[number % len(processes) :] + processes[: number % len(processes)]
            for process in turn:
                if task["job"] in ("encode", "sgemm") or process.name not in ENCODER_ONLY:
                    measured = process.run(task)
                    results.setdefault((process.name, title(task)), []).append(measured)
                    say(f"{title(task):14s} {process.name:13s} {measured['seconds']:8.2f} s")
    return results


def title(task: Task) -> str:
    """A task in words."""
    return " ".join(str(part) for part in task.values())


def say(text: str) -> None:
    """Progress goes to standard error, the report to standard output."""
    print(text, file=sys.stderr, flush=True)


def median(results: list[Measured], what: str = "seconds") -> float:
    """The median of one quantity."""
    return statistics.median(measured[what] for measured in results)


def table(results: dict[tuple[str, str], list[Measured]], names: list[str], tasks: list[Task]) -> list[str]:
    """Markdown: a task a line; for each contender the median seconds and the ratio to `ours`."""
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for task in (title(task) for task in tasks if task["job"] != "sgemm"):
        ours = results["ours", task]
        cells = []
        for name in names:
            theirs = results.get((name, task))
            if theirs is None:
                cells.append("")
                continue
            ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
            cells.append(f"{median(theirs):.2f} s" + ("" if name == "ours" else f" ({ratio:.2f}×)"))
        lines.append(f"| {task} | {' | '.join(cells)} |")
    peaks = [max(m["peak"] for (who, _), all_of in results.items() if who == name for m in all_of) for name in names]
    lines.append(f"| peak memory | {' | '.join(f'{peak / 1000:.1f} GB' for peak in peaks)} |")
    return lines


def shares(results: dict[tuple[str, str], list[Measured]], names: list[str], model: str) -> list[str]:
    """How near each encoder comes to the rate of matrix products, measured in the same rounds."""
    lines = []
    for name in names:
        rate = TIMES * 2 * ROWS * INNER * OUTER / 1e9 / median(results[name, "sgemm"])
        reached = GFLOP[model] / median(results[name, "encode"])
        lines.append(f"{name}: {reached:.0f} of sgemm's {rate:.0f} GFLOP/s, {reached / rate:.0%}")
    return lines


def side_by_side(model: str, checkpoint: Path, threads: int, rounds: int) -> str:
    """Images a second of one process with all threads, and of as many processes as threads."""
    one = Process("ours", model, checkpoint, threads)
    many = [Process("ours", model, checkpoint, 1) for _ in range(threads)]
    rates: dict[str, list[float]] = {"one": [], "many": []}
    for _ in range(rounds + 1):
        for name, group in (("one", [one]), ("many", many)):
            start = time.perf_counter()
            for process in group:
                process.send({"job": "encode"})
            for process in group:
                process.receive()
            rates[name].append(len(group) / (time.perf_counter() - start))
    for process in [one, *many]:
        process.close()
    alone, together = (statistics.median(values[1:]) for values in rates.values())
    return f"1 process × {threads} threads: {alone:.3f} images/s; {threads} × 1: {together:.3f} images/s"


def machine() -> str:
    """Processor, cores, memory, versions, and how busy the machine is."""
    import torch

    memory = psutil.virtual_memory().total / 1e9
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    return (
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count(logical=False)} cores,"
        f" {torch.backends.cpu.get_cpu_capability()}, {memory:.0f} GB, {platform.platform()},"
        f" torch {torch.__version__}; load before: {load}"
    )


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--model", type=click.Choice(list(GFLOP)), default="vit_b", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--boxes", default="1,10,100", show_default=True, help="Boxes an image, end to end.")
@click.option("--everything", default=0, help="Points a side of everything mode; 0 leaves it out.")
@click.option(
    "--only",
    default=",".join(CONTENDERS),
    show_default=True,
    help="Contenders; ours is always in. All live at once: ViT-B's hold 24 GB.",
)
@click.option("--processes", is_flag=True, help="Also one process against several.")
def main(model: str, rounds: int, threads: int, boxes: str, everything: int, only: str, processes: bool) -> None:
    """Measure, and print a report in Markdown."""
    about = machine()
    wanted = {"ours", *only.split(",")}
    names = [
        name
        for name, contender in CONTENDERS.items()
        if name in wanted and all(importlib.util.find_spec(package) for package in contender.requires)
    ]
    tasks: list[Task] = [{"job": "sgemm"}, {"job": "encode"}]
    tasks += [{"job": "boxes", "count": int(count)} for count in boxes.split(",") if count]
    tasks += [{"job": "everything", "side": everything}] if everything else []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(model, Path(folder))
        running = [Process(name, model, checkpoint, threads) for name in names]
        results = take_turns(running, tasks, rounds)
        for process in running:
            process.close()
        lines = [f"{model}, {threads} threads, {rounds} rounds. {about}", ""]
        lines += [*table(results, names, tasks), "", *shares(results, names, model)]
        if processes:
            lines.append(side_by_side(model, checkpoint, threads, rounds))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
