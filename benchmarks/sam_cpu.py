"""The speed of the `sam` backend on this machine's processor, compared with other implementations of SAM.

    python benchmarks/sam_cpu.py --model vit_b --rounds 3

Needs no published weights: random ones take the same time. Every contender runs in a process
of its own, with the same number of threads. The contenders take turns, so that other load on the
machine affects all of them. Reports medians, and ratios to `ours` within a round. Contenders
whose packages are not installed are skipped.
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
    """The process of a contender.

    Args:
        name: of the contender.
        arguments: of Python.
        threads: how many it may use.
        variables: further environment variables.
    """

    def __init__(self, name: str, arguments: list[str], threads: int, variables: dict[str, str]) -> None:
        self.name = name
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MASKMILL_THREADS=str(threads))
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment | variables,
        )
        self.receive()

    def send(self, task: Task) -> None:
        """Start a task."""
        assert self.process.stdin is not None
        print(json.dumps(task), file=self.process.stdin, flush=True)

    def receive(self) -> Measured:
        """Wait for the result of a task."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"the contender {self.name} exited with code {self.process.wait()}")
        result: Measured = json.loads(line)
        return result

    def run(self, task: Task) -> Measured:
        """Run a task and wait for its result."""
        self.send(task)
        return self.receive()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def start_contender(name: str, model: str, checkpoint: Path, threads: int) -> Process:
    """Start a contender of `sam_contenders.py`."""
    script = Path(__file__).with_name("sam_contenders.py")
    return Process(name, [str(script), name, model, str(checkpoint)], threads, CONTENDERS[name].environment)


def write_random_checkpoint(model: str, folder: Path) -> Path:
    """Write a checkpoint with random weights, in a separate process so that its memory is freed."""
    path = folder / f"{model}.pth"
    code = (
        "import sys, torch, segment_anything as s; torch.manual_seed(0);"
        " torch.save(s.sam_model_registry[sys.argv[1]]().state_dict(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, model, str(path)], check=True)
    return path


def take_turns(processes: Iterable[Process], tasks: list[Task], rounds: int) -> dict[tuple[str, str], list[Measured]]:
    """Run every task on every process `rounds` times, one at a time: (contender, task) -> measurements."""
    results: dict[tuple[str, str], list[Measured]] = {}
    processes = list(processes)
    for process in processes:  # the first pass allocates memory and fills caches
        process.run({"job": "encode"})
    for number in range(rounds):
        for task in tasks:
            turn = processes[number % len(processes) :] + processes[: number % len(processes)]
            for process in turn:
                if task["job"] in ("encode", "sgemm") or process.name not in ENCODER_ONLY:
                    measured = process.run(task)
                    results.setdefault((process.name, describe_task(task)), []).append(measured)
                    seconds = f"{measured['seconds']:8.2f} s {measured['cpu']:8.2f} CPU-s"
                    log(f"{describe_task(task):14s} {process.name:13s} {seconds}")
    return results


def describe_task(task: Task) -> str:
    """A task as text."""
    return " ".join(str(part) for part in task.values())


def log(text: str) -> None:
    """Print progress on standard error; the report goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def compute_median(results: list[Measured], what: str = "seconds") -> float:
    """The median of one quantity."""
    return statistics.median(measured[what] for measured in results)


def format_table(results: dict[tuple[str, str], list[Measured]], names: list[str], tasks: list[Task]) -> list[str]:
    """Markdown with one row per task: for each contender the median seconds, processor seconds, ratio of seconds."""
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for task in (describe_task(task) for task in tasks if task["job"] != "sgemm"):
        ours = results["ours", task]
        cells = []
        for name in names:
            theirs = results.get((name, task))
            if theirs is None:
                cells.append("")
                continue
            ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
            text = f"{compute_median(theirs):.2f} s, {compute_median(theirs, 'cpu'):.2f} CPU-s"
            cells.append(text + ("" if name == "ours" else f" ({ratio:.2f}×)"))
        lines.append(f"| {task} | {' | '.join(cells)} |")
    peaks = [max(m["peak"] for (who, _), all_of in results.items() if who == name for m in all_of) for name in names]
    lines.append(f"| peak memory | {' | '.join(f'{peak / 1000:.1f} GB' for peak in peaks)} |")
    return lines


def format_shares(results: dict[tuple[str, str], list[Measured]], names: list[str], model: str) -> list[str]:
    """The speed of each encoder relative to that of matrix products measured in the same rounds."""
    lines = []
    for name in names:
        rate = TIMES * 2 * ROWS * INNER * OUTER / 1e9 / compute_median(results[name, "sgemm"])
        reached = GFLOP[model] / compute_median(results[name, "encode"])
        lines.append(f"{name}: {reached:.0f} of sgemm's {rate:.0f} GFLOP/s, {reached / rate:.0%}")
    return lines


def compare_processes(model: str, checkpoint: Path, threads: int, rounds: int) -> str:
    """Compare the images per second of one process with all threads and of one process per thread."""
    one = start_contender("ours", model, checkpoint, threads)
    many = [start_contender("ours", model, checkpoint, 1) for _ in range(threads)]
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


def describe_machine() -> str:
    """Processor, cores, memory, versions and load of the machine."""
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
@click.option("--boxes", default="1,10,100", show_default=True, help="Boxes per image, end to end.")
@click.option("--everything", default=0, help="Points per side in everything mode; 0: skip it.")
@click.option(
    "--only",
    default=",".join(CONTENDERS),
    show_default=True,
    help="Contenders; ours is always included. They run at the same time: 24 GB with ViT-B.",
)
@click.option("--processes", is_flag=True, help="Also compare one process with several.")
@click.option("--busy", default=0, help="Other processes that keep a core busy each, meanwhile.")
def main(
    model: str, rounds: int, threads: int, boxes: str, everything: int, only: str, processes: bool, busy: int
) -> None:
    """Measure, and print a report in Markdown."""
    about = describe_machine()
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
        checkpoint = write_random_checkpoint(model, Path(folder))
        running = [start_contender(name, model, checkpoint, threads) for name in names]
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            results = take_turns(running, tasks, rounds)
        finally:
            for other in others:
                other.kill()
        for process in running:
            process.close()
        lines = [f"{model}, {threads} threads, {rounds} rounds, {busy} busy processes. {about}", ""]
        lines += [*format_table(results, names, tasks), "", *format_shares(results, names, model)]
        if processes:
            lines.append(compare_processes(model, checkpoint, threads, rounds))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
