"""One contender of `model_cpu.py`, in a process of its own; the protocol is that of `sam_contenders.py`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sam_contenders import StockKeepingMemory, make_boxes, make_photo, measure

#: Backbones as published in facebook/sam2.1-hiera-*: blocks, channels and heads of each stage.
HIERA: dict[str, dict[str, Any]] = {
    "sam2.1-tiny": {
        "hidden_size": 96,
        "blocks_per_stage": [1, 2, 7, 2],
        "embed_dim_per_stage": [96, 192, 384, 768],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "global_attention_blocks": [5, 7, 9],
        "window_size_per_stage": [8, 4, 14, 7],
    },
    "sam2.1-small": {
        "hidden_size": 96,
        "blocks_per_stage": [1, 2, 11, 2],
        "embed_dim_per_stage": [96, 192, 384, 768],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "global_attention_blocks": [7, 10, 13],
        "window_size_per_stage": [8, 4, 14, 7],
    },
    "sam2.1-base-plus": {
        "hidden_size": 112,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "global_attention_blocks": [12, 16, 20],
        "window_size_per_stage": [8, 4, 14, 7],
        "window_positional_embedding_background_size": [14, 14],
    },
    "sam2.1-large": {
        "hidden_size": 144,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
MODELS = (*HIERA, "edgetam", "sam3-tracker")


def write_random_model(name: str, folder: Path) -> None:
    """Write a model of the published size with random weights, as on the hub."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    if name == "edgetam":
        backbone = t.TimmWrapperConfig(
            architecture="repvit_m1.dist_in1k",
            do_pooling=False,
            model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
        )
        model = t.EdgeTamModel(t.EdgeTamConfig(vision_config=t.EdgeTamVisionConfig(backbone_config=backbone)))
    elif name == "sam3-tracker":
        model = t.Sam3TrackerModel(t.Sam3TrackerConfig())
    else:
        hiera = HIERA[name]
        vision = t.Sam2VisionConfig(
            backbone_config=t.Sam2HieraDetConfig(**hiera), backbone_channel_list=hiera["embed_dim_per_stage"][::-1]
        )
        model = t.Sam2Model(t.Sam2Config(vision_config=vision))
    with torch.no_grad():  # some layers start at zero, or so near to it that numbers become denormal
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=min(0.5, parameter[0].numel() ** -0.5))
    model.save_pretrained(folder)
    if name == "sam3-tracker":
        t.Sam3TrackerProcessor(t.Sam3ImageProcessor()).save_pretrained(folder)
    else:
        t.Sam2Processor(t.Sam2ImageProcessor()).save_pretrained(folder)


class Ours:
    """The backend `hf`, configured as a worker is."""

    environment: ClassVar[dict[str, str]] = {"OMP_WAIT_POLICY": "PASSIVE"}
    fast: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        from maskmill import Image
        from maskmill.run.memory import keep_freed_memory
        from maskmill_plugins.backends.hf import Hf

        keep_freed_memory()
        self.backend = Hf(model=str(folder), device="cpu", fast=self.fast)
        self.backend.open()
        self.image = Image.from_array(make_photo())
        self.embedding = self.backend.embed(self.image)

    def encode(self) -> None:
        """From pixels to the encoder's output."""
        self.embedding = self.backend.embed(self.image)

    def boxes(self, count: int) -> None:
        """From the encoder's output to run-length encoded masks of boxes."""
        from maskmill import Box, Prompt

        self.backend.masks(self.image, [Prompt(box=Box(*box)) for box in make_boxes(count).tolist()], self.embedding)


class OursWithTheirDecoder(Ours):
    """The same with `fast: false`."""

    fast: ClassVar[bool] = False


class Transformers:
    """The calls that its documentation shows: all boxes of an image in one call."""

    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers as t

        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        model, processor = {
            "edgetam": (t.EdgeTamModel, t.Sam2Processor),
            "sam2": (t.Sam2Model, t.Sam2Processor),
            "sam3_tracker": (t.Sam3TrackerModel, t.Sam3TrackerProcessor),
        }[kind]
        self.model = model.from_pretrained(folder).eval()
        self.processor = processor.from_pretrained(folder)
        self.pixels = make_photo()
        self.torch = torch
        self.encode()

    def encode(self) -> None:
        """See `Ours.encode`."""
        prepared = self.processor(images=self.pixels, return_tensors="pt")
        with self.torch.inference_mode():
            self.embedding = self.model.get_image_embeddings(prepared["pixel_values"])

    def boxes(self, count: int) -> None:
        """See `Ours.boxes`."""
        from pycocotools import mask as coco_mask

        size = [self.pixels.shape[:2]]
        given = self.processor(input_boxes=[make_boxes(count).tolist()], original_sizes=size, return_tensors="pt")
        with self.torch.inference_mode():
            boxes = given["input_boxes"].float()
            answer = self.model(image_embeddings=self.embedding, input_boxes=boxes, multimask_output=False)
            masks = self.processor.post_process_masks(answer.pred_masks, size)[0]
        for mask in masks[:, 0].numpy():
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


class TransformersKeepingMemory(Transformers):
    """The same, with glibc configured to keep freed memory."""

    environment: ClassVar[dict[str, str]] = StockKeepingMemory.environment


class OpenVino(Transformers):
    """The encoder compiled by OpenVINO, in fp32; the encoder only, without resizing the photo."""

    compiled: Any = None

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import openvino

        model, example = self.model, self.processor(images=self.pixels, return_tensors="pt")["pixel_values"]

        class Encoder(self.torch.nn.Module):
            """Gives the tensors alone."""

            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, pixels: Any) -> tuple[Any, ...]:
                """See `Transformers.encode`."""
                return tuple(self.model.get_image_embeddings(pixels))

        with self.torch.inference_mode():
            graph = openvino.convert_model(Encoder(), example_input=example, input=[example.shape])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": self.torch.get_num_threads()}
        self.compiled = openvino.Core().compile_model(graph, "CPU", options)
        self.input = example.numpy()
        found, wanted = self.compiled(self.input), self.embedding
        pairs = [(found[number], each.numpy()) for number, each in enumerate(wanted)]
        apart = max(np.abs(theirs - ours).max() / np.abs(ours).max() for theirs, ours in pairs)
        assert apart < 1e-2, f"OpenVINO's encoder differs by {apart:.1e} of the largest value"

    def encode(self) -> None:
        """See `Ours.encode`."""
        if self.compiled is None:
            super().encode()
        else:
            self.compiled(self.input)

    def boxes(self, count: int) -> None:
        """It has no decoder."""


CONTENDERS: dict[str, type[Ours | Transformers]] = {
    "ours": Ours,
    "fast: false": OursWithTheirDecoder,
    "transformers": Transformers,
    "transformers-malloc": TransformersKeepingMemory,
    "openvino": OpenVino,
}


def main() -> None:
    """Write a model (`write NAME FOLDER`), or run the jobs from standard input with one contender."""
    name, model, folder = sys.argv[1:4]
    import torch

    if name == "write":
        write_random_model(model, Path(folder))
        return
    torch.set_num_threads(int(os.environ["MASKMILL_THREADS"]))
    contender = CONTENDERS[name](Path(folder))
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        job = getattr(contender, task.pop("job"))
        print(json.dumps(measure(lambda job=job, task=task: job(**task))), flush=True)


if __name__ == "__main__":
    main()
