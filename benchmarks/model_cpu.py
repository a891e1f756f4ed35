"""The speed of the backend `hf` on this machine's processor, compared with transformers itself.

    python benchmarks/model_cpu.py --models sam2.1-tiny,edgetam --rounds 3

Needs no published weights: random ones of the same architecture take the same time. Every
contender runs in a process of its own, and they take turns. Reports medians of processor seconds
(user and system), which other programs hardly change, and of seconds on the clock.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
from model_contenders import CONTENDERS, MODELS
from sam_cpu import Measured, Process, compute_median, describe_machine, describe_task, log

SCRIPT = Path(__file__).with_name("model_contenders.py")


def measure_model(
    model: str, names: list[str], threads: int, rounds: int, tasks: list[dict[str, object]]
) -> dict[tuple[str, str], list[Measured]]:
    """Measure all contenders with one model, in turns: (contender, task) -> measurements."""
    results: dict[tuple[str, str], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(SCRIPT), "write", model, folder], check=True)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                process = Process(name, [str(SCRIPT), name, model, folder], threads, CONTENDERS[name].environment)
                for task in tasks:
                    measured = process.run(dict(task))
                    results.setdefault((name, describe_task(task)), []).append(measured)
                    log(f"{model} {describe_task(task):10s} {name:20s} {measured['cpu']:6.2f} CPU-s")
                process.close()
    return results


def format_table(results: dict[tuple[str, str], list[Measured]], names: list[str], model: str) -> list[str]:
    """Markdown: a row for each contender, ratios of processor seconds to `ours` in brackets."""
    tasks = list(dict.fromkeys(task for _, task in results))
    lines = [
        f"| {model} | {' | '.join(f'{task}, CPU | clock' for task in tasks)} | peak memory |",
        "|---" * (2 * len(tasks) + 2) + "|",
    ]
    for name in names:
        cells = []
        for task in tasks:
            mine, ours = results[name, task], compute_median(results["ours", task], "cpu")
            if name == "openvino" and task != "encode":
                cells += ["", ""]
                continue
            ratio = "" if name == "ours" else f" ({compute_median(mine, 'cpu') / ours:.1f}×)"
            cells += [f"{compute_median(mine, 'cpu'):.2f} s{ratio}", f"{compute_median(mine):.2f} s"]
        peak = max(measured["peak"] for (who, _), all_of in results.items() if who == name for measured in all_of)
        lines.append(f"| {name} | {' | '.join(cells)} | {peak / 1000:.1f} GB |")
    return [*lines, ""]


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--models", default="sam2.1-tiny,edgetam", show_default=True, help=f"Of {', '.join(MODELS)}.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--boxes", default=100, show_default=True)
@click.option("--only", default=",".join(name for name in CONTENDERS if name != "openvino"), show_default=True)
def main(models: str, rounds: int, threads: int, boxes: int, only: str) -> None:
    """Measure, and print a report in Markdown."""
    click.echo(f"{threads} threads, {rounds} rounds. {describe_machine()}\n")
    names = [name for name in CONTENDERS if name == "ours" or name in only.split(",")]
    for model in models.split(","):
        tasks: list[dict[str, object]] = [{"job": "encode"}, {"job": "boxes", "count": boxes}]
        click.echo("\n".join(format_table(measure_model(model, names, threads, rounds, tasks), names, model)))


if __name__ == "__main__":
    main()
