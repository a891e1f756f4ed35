"""What several `sam` workers hold in memory together, after loading and before the first image.

    python benchmarks/sam_memory.py --model vit_h --workers 2

Compares workers that map the weights from the file, as the backend does, with workers that load
their own copy, as `segment_anything` does. Random weights are written to a temporary file of the
size of the published one. PSS counts memory that n processes share as one nth for each; Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import psutil

LOAD = {
    "mapped": """
from maskmill_plugins.backends.sam import Sam
stage = Sam(model={model!r}, checkpoint={path!r}, device="cpu")
stage.open()
""",
    "stock": """
from segment_anything import sam_model_registry
sam = sam_model_registry[{model!r}]({path!r})
""",
}
WAIT = "print('ready', flush=True); input()"


def write_weights(model: str, path: Path) -> None:
    """Random weights, in a process of its own: what it took does not count."""
    code = (
        "import torch; from segment_anything import sam_model_registry;"
        f"torch.save(sam_model_registry[{model!r}]().state_dict(), {str(path)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def together(way: str, model: str, path: Path, workers: int) -> tuple[float, float]:
    """(PSS, peak RSS of the largest) in GB, of that many processes that loaded the model."""
    code = LOAD[way].format(model=model, path=str(path)) + WAIT
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
@click.option("--model", type=click.Choice(["vit_b", "vit_l", "vit_h"]), default="vit_h", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
def main(model: str, workers: int) -> None:
    """Write weights, start workers, print what they hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        write_weights(model, path)
        print(f"{model}, {path.stat().st_size / 1e9:.2f} GB on disk, {workers} workers")
        for way in LOAD:
            pss, rss = together(way, model, path, workers)
            print(f"{way:7s} {pss:5.2f} GB together (PSS), {rss:5.2f} GB each (RSS)")


if __name__ == "__main__":
    main()
