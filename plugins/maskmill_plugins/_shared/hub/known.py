"""Models of the Hugging Face hub that the built-in plugins were written for."""

from __future__ import annotations

from typing import NamedTuple

APACHE = "Apache-2.0"
SAM_LICENCE = "SAM License, gated"


class KnownModel(NamedTuple):
    """A published model.

    Attributes:
        name: `owner/name` on the hub.
        kind: the `model_type` of its config.json.
        use: the plugin that computes it.
        megabytes: size of its weights, rounded.
        licence: of the weights.
    """

    name: str
    kind: str
    use: str
    megabytes: int
    licence: str = APACHE


KNOWN = (
    KnownModel("yonigozlan/EdgeTAM-hf", "edgetam_video", "hf", 56),
    KnownModel("facebook/sam2.1-hiera-tiny", "sam2_video", "hf", 156),
    KnownModel("facebook/sam2.1-hiera-small", "sam2_video", "hf", 184),
    KnownModel("facebook/sam2.1-hiera-base-plus", "sam2_video", "hf", 324),
    KnownModel("facebook/sam2.1-hiera-large", "sam2_video", "hf", 898),
    KnownModel("facebook/sam-vit-base", "sam", "hf", 375),
    KnownModel("facebook/sam-vit-large", "sam", "hf", 1250),
    KnownModel("facebook/sam-vit-huge", "sam", "hf", 2564),
    KnownModel("syscv-community/sam-hq-vit-base", "sam_hq", "hf", 380),
    KnownModel("syscv-community/sam-hq-vit-large", "sam_hq", "hf", 1250),
    KnownModel("syscv-community/sam-hq-vit-huge", "sam_hq", "hf", 2570),
    KnownModel("facebook/sam3", "sam3_video", "hf", 3440, SAM_LICENCE),
    KnownModel("omlab/omdet-turbo-swin-tiny-hf", "omdet-turbo", "detect", 460),
    KnownModel("IDEA-Research/grounding-dino-tiny", "grounding-dino", "detect", 690),
    KnownModel("IDEA-Research/grounding-dino-base", "grounding-dino", "detect", 933),
    KnownModel("openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det", "mm-grounding-dino", "detect", 690),
    KnownModel("iSEE-Laboratory/llmdet_tiny", "mm-grounding-dino", "detect", 690),
    KnownModel("google/owlv2-base-patch16-ensemble", "owlv2", "detect", 620),
    KnownModel("google/owlv2-large-patch14-ensemble", "owlv2", "detect", 1750),
)
