"""Models of the transformers library, small enough for tests, with random weights, saved as on the hub."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

SIDE = 128
SIDE_3 = 112
#: What each builder's folder is called; the names are those of the `model_type` in config.json.
KINDS = ("sam", "sam_hq", "sam2_video", "edgetam", "sam3_tracker", "sam3")


def randomise(model, seed: int = 0):
    """Random weights of a sensible size: some classes start with zeros, or with values near zero."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    buffers = [(name, each) for name, each in model.named_buffers() if "positional_embedding" in name]
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *buffers]:
            drawn = torch.randn(value.shape, generator=generator)
            if "norm" in name and name.endswith("weight") and value.ndim == 1:
                value.copy_(1 + 0.1 * drawn)
            elif "positional_embedding" in name and value.shape[0] == 2:
                value.copy_(drawn)
            elif value.ndim >= 2:
                value.copy_(drawn * min(0.5, 1 / math.sqrt(value[0].numel())))
            else:
                value.copy_(drawn * 0.02)
        for name, value in model.named_parameters():
            if "hypernetworks" in name and name.endswith("proj_out.weight"):
                value.mul_(40)  # logits of some size, so that few of them are within rounding of zero
    return model.eval()


DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def build_sam(high_quality: bool = False):
    import transformers as t

    name = "SamHQ" if high_quality else "Sam"
    vision = getattr(t, f"{name}VisionConfig")(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        window_size=3,
        global_attn_indexes=[1],
        output_channels=32,
        num_pos_feats=16,
        initializer_range=0.02,
    )
    prompts = getattr(t, f"{name}PromptEncoderConfig")(hidden_size=32, image_size=SIDE)
    extra = {"vit_dim": 32} if high_quality else {}
    decoder = getattr(t, f"{name}MaskDecoderConfig")(**DECODER, **extra)
    config = getattr(t, f"{name}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    sizes = {"size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}}
    masks = {"mask_size": {"longest_edge": SIDE // 4}, "mask_pad_size": {"height": SIDE // 4, "width": SIDE // 4}}
    processor = getattr(t, f"{name}Processor")(t.SamImageProcessor(**sizes, **masks))
    return getattr(t, f"{name}Model")(config), processor


def build_sam2_video():
    """SAM 2 as it is published: a model for video, which contains the one for images."""
    import transformers as t

    backbone = t.Sam2HieraDetConfig(
        hidden_size=16,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 1, 2, 4],
        global_attention_blocks=[3],
        window_size_per_stage=[8, 4, 7, 4],
        image_size=[SIDE, SIDE],
    )
    vision = t.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        fpn_hidden_size=32,
    )
    config = t.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE},
        mask_decoder_config=DECODER,
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
        image_size=SIDE,
    )
    return t.Sam2VideoModel(config), t.Sam2Processor(_square(t.Sam2ImageProcessor, SIDE))


def _square(cls, side: int):
    return cls(size={"height": side, "width": side}, mask_size={"height": side // 4, "width": side // 4})


def build_edgetam():
    import transformers as t

    backbone = t.TimmWrapperConfig(
        architecture="repvit_m1.dist_in1k",
        do_pooling=False,
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = t.EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        fpn_hidden_size=32,
    )
    config = t.EdgeTamConfig(
        vision_config=vision,
        prompt_encoder_config=t.EdgeTamPromptEncoderConfig(hidden_size=32, image_size=SIDE),
        mask_decoder_config=t.EdgeTamMaskDecoderConfig(**DECODER),
    )
    return t.EdgeTamModel(config), t.Sam2Processor(_square(t.Sam2ImageProcessor, SIDE))


def _sam3_vision():
    import transformers as t

    backbone = t.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE_3,
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=SIDE_3,
    )
    grid = SIDE_3 // 14
    return t.Sam3VisionConfig(
        backbone_config=backbone,
        fpn_hidden_size=32,
        backbone_feature_sizes=[[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
    )


def build_sam3_tracker():
    import transformers as t

    config = t.Sam3TrackerConfig(
        vision_config=_sam3_vision(),
        prompt_encoder_config=t.Sam3TrackerPromptEncoderConfig(hidden_size=32, image_size=SIDE_3),
        mask_decoder_config=t.Sam3TrackerMaskDecoderConfig(**DECODER),
    )
    return t.Sam3TrackerModel(config), t.Sam3TrackerProcessor(_square(t.Sam3ImageProcessor, SIDE_3))


def build_sam3(queries: int = 10):
    import transformers as t
    from tokenizers import pre_tokenizers

    sizes = {"hidden_size": 32, "num_attention_heads": 2}
    layers = {"num_layers": 1, "intermediate_size": 64, **sizes}
    text = t.CLIPTextConfig(
        vocab_size=600,
        hidden_size=32,
        intermediate_size=64,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    config = t.Sam3Config(
        vision_config=_sam3_vision(),
        text_config=text,
        geometry_encoder_config=t.Sam3GeometryEncoderConfig(**layers),
        detr_encoder_config=t.Sam3DETREncoderConfig(**layers),
        detr_decoder_config=t.Sam3DETRDecoderConfig(num_queries=queries, **layers),
        mask_decoder_config=t.Sam3MaskDecoderConfig(**sizes),
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = t.CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=32)
    return t.Sam3Model(config), t.Sam3Processor(_square(t.Sam3ImageProcessor, SIDE_3), tokenizer)


BUILDERS = {
    "sam": build_sam,
    "sam_hq": lambda: build_sam(high_quality=True),
    "sam2_video": build_sam2_video,
    "edgetam": build_edgetam,
    "sam3_tracker": build_sam3_tracker,
    "sam3": build_sam3,
}


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """Build a model and save it with its processor, as `save_pretrained` does."""
    model, processor = BUILDERS[kind]()
    randomise(model, seed).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def lay_hub_cache(home: Path, name: str, folder: Path, commit: str = "a" * 40, revision: str = "main") -> Path:
    """Lay a model into the hub's cache in the folder `home` (HF_HOME), as the hub's client does; returns its folder."""
    place = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    for each in (snapshot, place / "blobs", place / "refs"):
        each.mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    for path in folder.iterdir():
        data = path.read_bytes()
        is_large = path.suffix == ".safetensors"
        digest = hashlib.sha256(data) if is_large else hashlib.sha1(b"blob %d\0" % len(data) + data)
        blob = place / "blobs" / digest.hexdigest()
        blob.write_bytes(data)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot
