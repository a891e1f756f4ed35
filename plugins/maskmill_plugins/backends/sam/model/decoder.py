"""The fast decoder for a model of `segment_anything`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskmill_plugins._shared.sam.decoder import FastDecoder
from maskmill_plugins._shared.sam.decoder_parts import Attention, DecoderParts, ImageFeatures, TwoWayLayer

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel
    from segment_anything.modeling.transformer import Attention as SamAttention, TwoWayAttentionBlock


def make_decoder(sam: SamModel) -> FastDecoder:
    """The fast decoder of a model in evaluation mode; shares its weights, so it must stay on its device."""
    return FastDecoder(_find_parts(sam))


@torch.inference_mode()
def _find_parts(sam: SamModel) -> DecoderParts:
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    transformer = decoder.transformer
    first, norm, _, second, _ = decoder.output_upscaling
    positions: Tensor = encoder.get_dense_pe()

    def compute_with_original(image: ImageFeatures, prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        no_mask = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        logits, scores = decoder(image.embedding, positions, prompts, no_mask, multimask)
        return logits, scores

    return DecoderParts(
        layers=[_find_layer(layer) for layer in transformer.layers],
        final_attention=_find_attention(transformer.final_attn_token_to_image),
        final_norm=transformer.norm_final_attn,
        output_tokens=torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]),
        score_row=0,
        score_head=decoder.iou_prediction_head,
        mask_heads=list(decoder.output_hypernetworks_mlps),
        first=first,
        norm=norm,
        second=second,
        no_mask=encoder.no_mask_embed.weight,
        positions=positions,
        original=compute_with_original,
    )


def _find_layer(layer: TwoWayAttentionBlock) -> TwoWayLayer:
    return TwoWayLayer(
        self_attention=_find_attention(layer.self_attn),
        to_image=_find_attention(layer.cross_attn_token_to_image),
        to_tokens=_find_attention(layer.cross_attn_image_to_token),
        mlp=layer.mlp,
        norms=(layer.norm1, layer.norm2, layer.norm3, layer.norm4),
        is_first=layer.skip_first_layer_pe,
    )


def _find_attention(layer: SamAttention) -> Attention:
    return Attention(layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj, layer.num_heads)
