"""Times 100 boxes on one scene whose embedding is there, with one, two, ... threads of one process each.

    python benchmarks/prompt_threads.py --threads 1 2 --rounds 2
    python benchmarks/prompt_threads.py --checkpoint tests/data/scene_sam/scene_sam.pth

Without a checkpoint it takes random weights of ViT-B. The area is that of all masks together.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENE = Path(__file__).parents[1] / "datasets" / "scenes" / "images" / "000.jpg"
BOXES = 100


def measure(checkpoint: str) -> None:
    """Time the boxes in this process and print a line."""
    import numpy as np

    import maskmill

    random = np.random.default_rng(0)
    corners = random.uniform(0, 150, (BOXES, 2))
    boxes = np.hstack([corners, corners + random.uniform(20, 90, (BOXES, 2))])
    with maskmill.Predictor("sam", checkpoint=checkpoint, device="cpu") as predictor, predictor.image(SCENE) as view:
        view.masks(boxes=boxes[:4])
        wall, cpu = time.perf_counter(), time.process_time()
        masks = view.masks(boxes=boxes)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{os.environ['MASKMILL_THREADS']} threads: {wall:.3f} s, CPU {cpu:.3f} s, {sum(mask.area for mask in masks)}"
    )


def make_weights(path: Path) -> None:
    """Random weights of ViT-B."""
    import torch
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)


def main() -> None:
    """Run each number of threads in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.checkpoint)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint
        if not checkpoint:
            checkpoint = str(Path(folder) / "random.pth")
            make_weights(Path(checkpoint))
        for threads in options.threads * options.rounds:
            environment = {**os.environ, "MASKMILL_THREADS": str(threads)}
            command = [sys.executable, __file__, "--here", "--checkpoint", checkpoint]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
