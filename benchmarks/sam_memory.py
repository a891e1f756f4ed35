"""The memory of several workers together, after loading and before the first image.

    python benchmarks/sam_memory.py --model vit_h --workers 2
    python benchmarks/sam_memory.py --model sam2.1-large --workers 2

Compares workers that map the weights from the file, as the backends `sam` and `hf` do, with workers
that have their own copy, as `segment_anything` does. Random weights are written to a temporary file
of the size of the published one, and every weight is read once before the measurement. PSS divides
memory shared by n processes by n; it exists on Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import psutil
from model_contenders import MODELS
from sam_cpu import write_random_checkpoint

SCRIPT = Path(__file__).with_name("model_contenders.py")
LOAD_SAM = {
    "mapped": """
from maskmill_plugins.backends.sam import Sam
stage = Sam(model={model!r}, checkpoint={path!r}, device="cpu")
stage.open()
model = stage._segmenter.sam
""",
    "stock": """
from segment_anything import sam_model_registry
model = sam_model_registry[{model!r}]({path!r})
""",
}
MAPPED = """
from maskmill_plugins.backends.hf import Hf
stage = Hf(model={path!r}, device="cpu")
stage.open()
model = stage._segmenter.model
"""
LOAD_HF = {
    "mapped": MAPPED,
    "copies": MAPPED + "for weights in model.parameters(): weights.data = weights.data.clone()",
}
WAIT = """
for weights in model.parameters():
    weights.sum()
print("ready", flush=True)
input()
"""


def measure_workers(load: str, model: str, path: Path, workers: int) -> tuple[float, float]:
    """Measure (PSS of all, RSS of the largest) in GB, of processes that have loaded the model."""
    code = load.format(model=model, path=str(path)) + WAIT
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    try:
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        pss = sum(psutil.Process(process.pid).memory_full_info().pss for process in running)
        rss = max(psutil.Process(process.pid).memory_info().rss for process in running)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return pss / 1e9, rss / 1e9


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--model", type=click.Choice(["vit_b", "vit_l", "vit_h", *MODELS]), default="vit_h", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
def main(model: str, workers: int) -> None:
    """Write weights, start workers, and print their memory."""
    with tempfile.TemporaryDirectory() as folder:
        if model in MODELS:
            path, ways = Path(folder), LOAD_HF
            subprocess.run([sys.executable, str(SCRIPT), "write", model, folder], check=True)
        else:
            path, ways = write_random_checkpoint(model, Path(folder)), LOAD_SAM
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"{model}, {size / 1e9:.2f} GB on disk, {workers} workers")
        for way, load in ways.items():
            pss, rss = measure_workers(load, model, path, workers)
            print(f"{way:7s} {pss:5.2f} GB together (PSS), {rss:5.2f} GB each (RSS)")


if __name__ == "__main__":
    main()
