"""One contender of `sam_cpu.py`, in a process of its own.

Reads one job per line from standard input and writes one line for each, both JSON. Jobs are
`{"job": "encode"}`, `{"job": "boxes", "count": 10}`, `{"job": "everything", "side": 16}` and
`{"job": "sgemm"}`; the output has "seconds", "cpu" (seconds of processor time) and "peak"
(MB since the process started).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil

SIZE = (1200, 1800)
#: Shape of the matrix products in the two-layer networks of ViT-B, and how many to time.
ROWS, INNER, OUTER, TIMES = 4096, 768, 3072, 6


def make_photo() -> np.ndarray:
    """An image of SIZE, uint8; its content does not affect the time."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    waves = np.stack([np.sin(x / rng.uniform(20, 90) + y / rng.uniform(20, 90)) for _ in range(3)], -1)
    return (127 + 100 * waves).astype(np.uint8)


def make_boxes(count: int) -> np.ndarray:
    """Random boxes xyxy in pixels, float64 (count, 4)."""
    rng = np.random.default_rng(count)
    height, width = SIZE
    corner = rng.uniform((0, 0), (width - 400, height - 400), (count, 2))
    return np.concatenate([corner, corner + rng.uniform(40, 400, (count, 2))], 1)


#: Random weights predict IoUs around 0. With these thresholds about half of the candidates are computed, as
#: with trained weights, photos and the usual thresholds.
LOOSE = {"pred_iou_thresh": 0.01, "stability_score_thresh": 0.0}


class Contender:
    """An implementation to measure: its encoder, and from pixels and boxes to run-length encoded masks.

    Class attributes:
        requires: packages; if one is missing, the contender is skipped.
        environment: variables set before its process starts.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, model: str, checkpoint: Path) -> None:
        self.model, self.checkpoint = model, checkpoint
        self.pixels = make_photo()

    def encode(self) -> None:
        """The image encoder alone, from pixels."""
        raise NotImplementedError

    def boxes(self, count: int) -> None:
        """From pixels to the masks of `count` boxes."""
        raise NotImplementedError

    def everything(self, side: int) -> None:
        """From pixels to all masks, with side·side points."""
        raise NotImplementedError


class Ours(Contender):
    """The `sam` backend with its default options, configured as a worker is."""

    environment: ClassVar[dict[str, str]] = {"OMP_WAIT_POLICY": "PASSIVE"}
    fast: ClassVar[bool] = True

    def __init__(self, model: str, checkpoint: Path) -> None:
        super().__init__(model, checkpoint)
        from maskmill import Image
        from maskmill.run.memory import keep_freed_memory
        from maskmill_plugins.backends.sam import Sam

        keep_freed_memory()
        self.stage = Sam(model=model, checkpoint=checkpoint, device="cpu", fast=self.fast)
        self.stage.open()
        self.image = Image.from_array(self.pixels)

    def encode(self) -> None:
        """See `Contender.encode`."""
        self.stage.embed(self.image)

    def boxes(self, count: int) -> None:
        """See `Contender.boxes`."""
        from maskmill import Box, Prompt

        self.stage.masks(self.image, [Prompt(box=Box(*box)) for box in make_boxes(count).tolist()])

    def everything(self, side: int) -> None:
        """See `Contender.everything`."""
        from maskmill import Grid, Prompt

        self.stage.masks(self.image, [Prompt(grid=Grid(points_per_side=side, **LOOSE))])


class OursSpinning(Ours):
    """The same with OpenMP's default, by which idle threads spin."""

    environment: ClassVar[dict[str, str]] = {}


class Stock(Contender):
    """`segment_anything` as in its own notebooks: one `predict` per box."""

    requires: ClassVar[tuple[str, ...]] = ("segment_anything",)

    def __init__(self, model: str, checkpoint: Path) -> None:
        super().__init__(model, checkpoint)
        from segment_anything import SamPredictor, sam_model_registry

        self.sam = sam_model_registry[model](checkpoint)
        self.predictor = SamPredictor(self.sam)

    def encode(self) -> None:
        """See `Contender.encode`."""
        self.predictor.set_image(self.pixels)

    def boxes(self, count: int) -> None:
        """See `Contender.boxes`."""
        from pycocotools import mask as coco_mask

        self.predictor.set_image(self.pixels)
        for box in make_boxes(count):
            masks, _, _ = self.predictor.predict(box=box, multimask_output=False)
            coco_mask.encode(np.asfortranarray(masks[0], dtype=np.uint8))

    def everything(self, side: int) -> None:
        """See `Contender.everything`."""
        from segment_anything import SamAutomaticMaskGenerator

        options = {"points_per_side": side, "output_mode": "coco_rle", **LOOSE}
        SamAutomaticMaskGenerator(self.sam, **options).generate(self.pixels)


class StockKeepingMemory(Stock):
    """The same, with glibc set to keep memory instead of returning it after every layer."""

    environment: ClassVar[dict[str, str]] = {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        "MALLOC_TOP_PAD_": "268435456",
    }


class Transformers(Contender):
    """`SamVisionEncoder` of transformers with fused attention and random weights; the encoder only."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    environment: ClassVar[dict[str, str]] = StockKeepingMemory.environment
    sizes: ClassVar[dict[str, tuple[int, int, int]]] = {"vit_b": (768, 12, 12), "vit_l": (1024, 24, 16)}

    def __init__(self, model: str, checkpoint: Path) -> None:
        super().__init__(model, checkpoint)
        import torch
        from transformers import SamConfig, SamModel, SamVisionConfig

        width, depth, heads = self.sizes.get(model, (1280, 32, 16))
        marks = [depth // 4 * n + depth // 4 - 1 for n in range(4)]
        vision = SamVisionConfig(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, global_attn_indexes=marks
        )
        config = SamConfig(vision_config=vision, attn_implementation="sdpa")
        self.encoder = SamModel(config).eval().vision_encoder
        self.input = torch.randn(1, 3, 1024, 1024)

    def encode(self) -> None:
        """See `Contender.encode`; without resizing the photo."""
        import torch

        with torch.inference_mode():
            self.encoder(self.input)


class OpenVino(Contender):
    """`segment_anything`'s encoder compiled by OpenVINO, in fp32; the encoder only."""

    requires: ClassVar[tuple[str, ...]] = ("openvino", "segment_anything")

    def __init__(self, model: str, checkpoint: Path) -> None:
        super().__init__(model, checkpoint)
        import openvino
        import torch
        from segment_anything import sam_model_registry

        example = torch.randn(1, 3, 1024, 1024)
        with torch.inference_mode():
            graph = openvino.convert_model(
                sam_model_registry[model](checkpoint).image_encoder, example_input=example, input=[example.shape]
            )
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self.compiled = openvino.Core().compile_model(graph, "CPU", options)
        self.input = example.numpy()

    def encode(self) -> None:
        """See `Contender.encode`; without resizing the photo."""
        self.compiled(self.input)


class OnnxRuntime(Contender):
    """`segment_anything`'s encoder exported to ONNX, run by ONNX Runtime in fp32; the encoder only."""

    requires: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxscript", "segment_anything")
    environment: ClassVar[dict[str, str]] = StockKeepingMemory.environment

    def __init__(self, model: str, checkpoint: Path) -> None:
        super().__init__(model, checkpoint)
        import onnxruntime
        import torch
        from segment_anything import sam_model_registry

        example = torch.randn(1, 3, 1024, 1024)
        graph = checkpoint.with_name(f"{model}.onnx")
        if not graph.exists():
            encoder = sam_model_registry[model](checkpoint).image_encoder.eval()
            torch.onnx.export(encoder, (example,), graph, input_names=["pixels"], dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        self.input = {"pixels": example.numpy()}

    def encode(self) -> None:
        """See `Contender.encode`; without resizing the photo."""
        self.session.run(None, self.input)


CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ours-spinning": OursSpinning,
    "stock": Stock,
    "stock+malloc": StockKeepingMemory,
    "transformers": Transformers,
    "openvino": OpenVino,
    "onnxruntime": OnnxRuntime,
}


def make_sgemm() -> Callable[[], None]:
    """Make a function that multiplies single-precision matrices, as a reference for the processor's speed."""
    import torch

    left, right, out = torch.randn(ROWS, INNER), torch.randn(INNER, OUTER), torch.empty(ROWS, OUTER)

    def run() -> None:
        for _ in range(TIMES):
            torch.mm(left, right, out=out)

    run()
    return run


def measure(job: Callable[[], Any]) -> dict[str, float]:
    """Measure wall-clock seconds, seconds of processor time, and the peak memory of the process in MB."""
    process = psutil.Process()
    before, start = process.cpu_times(), time.perf_counter()
    job()
    seconds, after = time.perf_counter() - start, process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return {"seconds": seconds, "cpu": cpu, "peak": get_peak_megabytes()}


def get_peak_megabytes() -> float:
    """The peak memory of this process, including memory-mapped files."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Build the contender named on the command line and run the jobs from standard input."""
    name, model, checkpoint = sys.argv[1:4]
    import torch

    torch.set_num_threads(int(os.environ["MASKMILL_THREADS"]))
    contender = CONTENDERS[name](model, Path(checkpoint))
    jobs: dict[str, Callable[..., Any]] = {
        "encode": contender.encode,
        "boxes": contender.boxes,
        "everything": contender.everything,
        "sgemm": make_sgemm(),
    }
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        job = jobs[task.pop("job")]
        print(json.dumps(measure(lambda job=job, task=task: job(**task))), flush=True)


if __name__ == "__main__":
    main()
