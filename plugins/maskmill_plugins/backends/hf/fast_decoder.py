"""The fast decoder for SAM, SAM 2, SAM 2.1, EdgeTAM and SAM 3's tracker in transformers, whose decoders are alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskmill_plugins._shared.sam.decoder import FastDecoder
from maskmill_plugins._shared.sam.decoder_parts import Attention, DecoderParts, ImageFeatures, TwoWayLayer


def make_decoder(model: Any) -> FastDecoder:
    """The fast decoder of a model in evaluation mode; shares its weights, so it must stay on its device.

    Args:
        model: a `SamModel`, `Sam2Model`, `EdgeTamModel` or `Sam3TrackerModel`.
    """
    return FastDecoder(_find_parts(model))


@torch.inference_mode()
def _find_parts(model: Any) -> DecoderParts:
    decoder, no_mask = model.mask_decoder, model.prompt_encoder.no_mask_embed.weight
    transformer = decoder.transformer
    positions: Tensor = model.get_image_wide_positional_embeddings()

    def compute_with_original(image: ImageFeatures, prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        logits, scores, *_ = decoder(
            image_embeddings=image.embedding,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=prompts[None],
            dense_prompt_embeddings=no_mask.view(1, -1, 1, 1).expand_as(positions),
            multimask_output=multimask,
            **({"high_resolution_features": list(image.fine)} if image.fine else {}),
        )
        return logits[0], scores[0]

    tokens, stability = [decoder.iou_token, decoder.mask_tokens], None
    if is_sam2 := hasattr(decoder, "obj_score_token"):  # of SAM 2 and later: whether there is an object at all
        tokens.insert(0, decoder.obj_score_token)
        if decoder.dynamic_multimask_via_stability:
            stability = (decoder.dynamic_multimask_stability_delta, decoder.dynamic_multimask_stability_thresh)
    return DecoderParts(
        layers=[_find_layer(layer) for layer in transformer.layers],
        final_attention=_find_attention(transformer.final_attn_token_to_image),
        final_norm=transformer.layer_norm_final_attn,
        output_tokens=torch.cat([token.weight for token in tokens]),
        score_row=int(is_sam2),
        score_head=decoder.iou_prediction_head,
        mask_heads=list(decoder.output_hypernetworks_mlps),
        first=decoder.upscale_conv1,
        norm=decoder.upscale_layer_norm,
        second=decoder.upscale_conv2,
        no_mask=no_mask,
        positions=positions,
        original=compute_with_original,
        stability=stability,
    )


def _find_layer(layer: Any) -> TwoWayLayer:
    return TwoWayLayer(
        self_attention=_find_attention(layer.self_attn),
        to_image=_find_attention(layer.cross_attn_token_to_image),
        to_tokens=_find_attention(layer.cross_attn_image_to_token),
        mlp=layer.mlp,
        norms=(layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4),
        is_first=layer.skip_first_layer_pe,
    )


def _find_attention(layer: Any) -> Attention:
    output = layer.o_proj if hasattr(layer, "o_proj") else layer.out_proj
    return Attention(layer.q_proj, layer.k_proj, layer.v_proj, output, layer.num_attention_heads)
