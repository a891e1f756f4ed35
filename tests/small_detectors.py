"""Detectors of transformers' own classes, small enough for tests, with random weights and their own tokenizers."""

from __future__ import annotations

import math
from pathlib import Path

#: A BERT vocabulary in its order; the first special ones have the numbers that Grounding DINO's code expects.
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? , a the red cat dog traffic light person with without hat tri ##cycle van"
#: Numbers of [CLS], [SEP], "." and "?" in BERT's vocabulary, fixed in Grounding DINO's code.
FIXED = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
COCO = {0: "person", 1: "bicycle", 2: "traffic light", 3: "dog", 4: "N/A"}


def build(kind: str, folder: Path) -> Path:
    """Save a small model of a kind, as `save_pretrained` does; returns its folder."""
    model, processor = BUILDERS[kind]()
    randomise(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def randomise(model) -> None:
    """Weights that make the output depend on the input, which those of a new model hardly do."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
                parameter.copy_(1 + 0.1 * values)
            elif parameter.ndim >= 2:
                parameter.copy_(values * min(0.5, 1 / math.sqrt(parameter[0].numel())))
            else:
                parameter.copy_(values * 0.02)
    model.eval()


def bert():
    from transformers import BertTokenizer

    vocabulary = {f"[unused{number}]": number for number in range(1030)}
    words = [word for word in WORDS.split() if word not in FIXED]
    numbers = {**FIXED, **{word: number for number, word in enumerate(words)}}
    vocabulary = {word: number for word, number in vocabulary.items() if number not in numbers.values()} | numbers
    return BertTokenizer(vocab=dict(sorted(vocabulary.items(), key=lambda item: item[1])))


def clip(room: int = 16):
    """Letters only: a word has as many tokens as letters."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    signs = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={sign: number for number, sign in enumerate(signs)}, merges=[], model_max_length=room)


def swin(side: int = 64):
    from transformers import SwinConfig

    return SwinConfig(
        image_size=side, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 2], window_size=4, out_indices=[2, 3, 4]
    )


def grounding_dino(prefix: str = "GroundingDino"):
    import transformers

    text = transformers.BertConfig(
        vocab_size=1030, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    config = getattr(transformers, f"{prefix}Config")(
        backbone_config=swin(),
        text_config=text,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=30,
        num_feature_levels=4,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    pictures = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 160, "longest_edge": 260})
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
    return model, transformers.GroundingDinoProcessor(pictures, bert())


def mm_grounding_dino():
    return grounding_dino("MMGroundingDino")


def owl(prefix: str = "Owlv2"):
    import transformers

    tokenizer = clip()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = getattr(transformers, f"{prefix}Config")(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 16, **size},
        vision_config={"image_size": 96, "patch_size": 16, **size},
        projection_dim=32,
    )
    pictures = getattr(transformers, f"{prefix}ImageProcessor")(size={"height": 96, "width": 96})
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
    return model, getattr(transformers, f"{prefix}Processor")(pictures, tokenizer)


def owlvit():
    return owl("OwlViT")


def omdet_turbo():
    import transformers

    tokenizer = clip(77)
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=32,
        bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1,
    )
    config = transformers.OmDetTurboConfig(
        text_config=text,
        backbone_config=swin(128),
        image_size=128,
        apply_layernorm_after_vision_backbone=False,  # it expects the layout of timm's backbones
        text_projection_in_dim=64,
        text_projection_out_dim=64,
        class_embed_dim=64,
        task_encoder_hidden_dim=64,
        encoder_hidden_dim=32,
        decoder_hidden_dim=32,
        vision_features_channels=[32, 32, 32],
        encoder_in_channels=[32, 64, 128],
        encoder_dim_feedforward=64,
        decoder_dim_feedforward=64,
        encoder_attention_heads=2,
        decoder_num_heads=2,
        decoder_num_layers=2,
        num_queries=40,
    )
    pictures = transformers.DetrImageProcessor(size={"height": 128, "width": 128}, do_pad=False)
    model = transformers.OmDetTurboForObjectDetection(config)
    return model, transformers.OmDetTurboProcessor(pictures, tokenizer)


def resnet(prefix: str = "ResNet"):
    import transformers

    options = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return getattr(transformers, f"{prefix}Config")(**options, out_features=["stage2", "stage3", "stage4"])


def names() -> dict:
    return {"id2label": COCO, "label2id": {name: number for number, name in COCO.items()}}


def detr():
    import transformers

    backbone = resnet()
    backbone.out_features = ["stage4"]
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=20,
        **names(),
    )
    pictures = transformers.DetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    return transformers.DetrForObjectDetection(config), pictures


def rt_detr():
    import transformers

    config = transformers.RTDetrConfig(
        backbone_config=resnet("RTDetrResNet"),
        encoder_hidden_dim=32,
        encoder_in_channels=[24, 32, 48],
        encoder_ffn_dim=64,
        encoder_attention_heads=2,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=2,
        num_queries=30,
        num_denoising=0,
        **names(),
    )
    pictures = transformers.RTDetrImageProcessor(size={"height": 128, "width": 128})
    return transformers.RTDetrForObjectDetection(config), pictures


BUILDERS = {
    "grounding-dino": grounding_dino,
    "mm-grounding-dino": mm_grounding_dino,
    "owlv2": owl,
    "owlvit": owlvit,
    "omdet-turbo": omdet_turbo,
    "detr": detr,
    "rt_detr": rt_detr,
}
