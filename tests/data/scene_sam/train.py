"""Train a small SAM, of `segment_anything`'s own classes, on drawn scenes.

    python tests/data/scene_sam/train.py --minutes 96 --threads 2 --output scene_sam.pth

It learns to segment from nothing: first on crops of 128 pixels, twice as many a step, then on whole pictures of 256.
Every step asks twice: with a box or a point, then with points where the first answers were wrong. What is saved is
the exponential average of the weights, after each evaluation.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from scenes import (
    Random,
    Scene,
    Target,
    augment,
    choose_outside,
    choose_pixel,
    contains,
    draw_dataset_scenes,
    draw_scenes,
    find_box,
    find_middle,
    list_targets,
)
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

#: Side of the model's input and of a token in pixels; tokens a side.
SIDE, PATCH = 256, 16
GRID = SIDE // PATCH
#: Mask logits a side of a token; pixels that a logit stands for.
LOGITS = 4
PIXELS = PATCH // LOGITS
CHANNELS = 128
DECODER_HEADS = 4
#: Least area of an object to ask for, in pixels.
LEAST = 144
#: Labels of points, as in SAM: a place holder, outside, inside, first and last corner of a box.
NONE, OUTSIDE, INSIDE, CORNER, OPPOSITE = -1, 0, 1, 2, 3
#: Scenes from this number on are for evaluation.
HELD_OUT = 1_000_000


@dataclass(frozen=True)
class View:
    """The square of the model's input that a step looks at, in tokens.

    A crop keeps the positions it has in the whole picture, and costs attention less than its share.

    Attributes:
        grid: tokens a side.
        top: row of its first token.
        left: column of its first token.
    """

    grid: int = GRID
    top: int = 0
    left: int = 0

    @property
    def rows(self) -> slice:
        """Its rows of tokens."""
        return slice(self.top, self.top + self.grid)

    @property
    def columns(self) -> slice:
        """Its columns of tokens."""
        return slice(self.left, self.left + self.grid)

    def cut(self, scene: Scene) -> Scene:
        """Return what it shows of a scene, which is at the top left of the input."""
        top, left, side = self.top * PATCH, self.left * PATCH, self.grid * PATCH
        return Scene(*(array[top : top + side, left : left + side] for array in scene))


WHOLE = View()


def build_model() -> Sam:
    """Build the model, 1.72 million parameters, with random weights."""
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=128,
        depth=4,
        num_heads=4,
        out_chans=CHANNELS,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=8,
        global_attn_indexes=(1, 3),
    )
    nn.init.normal_(encoder.pos_embed, std=0.02)
    transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, num_heads=DECODER_HEADS, mlp_dim=256)
    decoder = MaskDecoder(transformer_dim=CHANNELS, transformer=transformer, iou_head_hidden_dim=128)
    match_positions(transformer)
    return Sam(encoder, PromptEncoder(CHANNELS, (GRID, GRID), (SIDE, SIDE), mask_in_chans=16), decoder)


def match_positions(transformer: TwoWayTransformer) -> None:
    """Start the cross attentions so that a prompt looks at its own place: queries and keys are projected alike."""
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in attentions:
            nn.init.orthogonal_(attention.q_proj.weight, gain=1.5)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            nn.init.zeros_(attention.q_proj.bias)
            nn.init.zeros_(attention.k_proj.bias)


def encode(encoder: ImageEncoderViT, pictures: Tensor, view: View) -> Tensor:
    """Return the embeddings of normalised pictures, float32 (B, 3, S, S), as float32 (B, CHANNELS, grid, grid).

    In a crop, blocks with global attention need the middle of their tables of relative positions only;
    `segment_anything` would shrink the tables instead.
    """
    tokens = encoder.patch_embed(pictures) + encoder.pos_embed[:, view.rows, view.columns]
    for block in encoder.blocks:
        span = block.window_size or view.grid
        tables = {f"attn.{name}": getattr(block.attn, name) for name in ("rel_pos_h", "rel_pos_w")}
        away = {name: (len(table) - (2 * span - 1)) // 2 for name, table in tables.items()}
        middle = {name: table[away[name] : len(table) - away[name]] for name, table in tables.items()}
        tokens = torch.func.functional_call(block, middle, (tokens,))
    return encoder.neck(tokens.permute(0, 3, 1, 2))


def embed_points(prompt_encoder: PromptEncoder, points: Tensor, labels: Tensor, view: View) -> Tensor:
    """Embed points and corners of boxes as `PromptEncoder` does, but boxes and points in one batch.

    Args:
        prompt_encoder: holds the weights.
        points: float32 (N, T, 2), x and y in pixels of the view.
        labels: int64 (N, T), NONE to OPPOSITE.
        view: where the view lies in the whole picture.

    Returns:
        float32 (N, T, CHANNELS)
    """
    start = PATCH * torch.tensor([view.left, view.top])
    places = prompt_encoder.pe_layer.forward_with_coords(points + start + 0.5, (SIDE, SIDE))
    places = places * (labels != NONE)[..., None]
    kinds = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
    return places + torch.cat([kind.weight for kind in kinds])[labels + 1]


def decode(
    sam: Sam, embeddings: Tensor, tokens: Tensor, view: View, earlier: Tensor | None = None, use: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute masks as `MaskDecoder` does, but for prompts of several pictures at once.

    Args:
        sam: the model.
        embeddings: of each prompt's picture, float32 (N, CHANNELS, grid, grid).
        tokens: the embedded prompts, float32 (N, T, CHANNELS).
        view: what the embeddings show.
        earlier: mask logits of an earlier answer, float32 (N, 1, 4 grid, 4 grid).
        use: which prompts have an earlier answer, bool (N,).

    Returns:
        Mask logits, float32 (N, 4, 4 grid, 4 grid): the single answer, then three candidates; their predicted IoU,
        float32 (N, 4).
    """
    prompts, decoder = sam.prompt_encoder, sam.mask_decoder
    dense = prompts.no_mask_embed.weight[..., None, None]
    if earlier is not None and use is not None:
        dense = torch.where(use[:, None, None, None], prompts.mask_downscaling(earlier), dense)
    places = prompts.get_dense_pe()[:, :, view.rows, view.columns].expand_as(embeddings)
    answers = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(len(tokens), -1, -1)
    found, image = decoder.transformer(embeddings + dense, places, torch.cat([answers, tokens], dim=1))
    fine = decoder.output_upscaling(image.transpose(1, 2).reshape(embeddings.shape))
    heads = [mlp(found[:, index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps, start=1)]
    return torch.einsum("nkc,nchw->nkhw", torch.stack(heads, dim=1), fine), decoder.iou_prediction_head(found[:, 0])


@dataclass(frozen=True)
class Prompts:
    """Prompts of equal length and what they mean.

    Attributes:
        owners: index of each prompt's picture, int64 (N,).
        targets: what each prompt means.
        points: float32 (N, T, 2), x and y in pixels of the view.
        labels: int64 (N, T), NONE to OPPOSITE.
        truth: the fraction of each logit's pixels that belong to the target, float32 (N, 1, 4 grid, 4 grid).
    """

    owners: Tensor
    targets: list[Target]
    points: Tensor
    labels: Tensor
    truth: Tensor

    def select(self, indices: Tensor) -> Prompts:
        """Return some of the prompts."""
        targets = [self.targets[index] for index in indices.tolist()]
        return Prompts(self.owners[indices], targets, self.points[indices], self.labels[indices], self.truth[indices])

    @classmethod
    def collect(cls, rows: list[tuple[int, Target, np.ndarray, list[int]]], view: View) -> Prompts:
        """Collect prompts given as owner, target, points (T, 2) and labels (T,)."""
        owners, targets, points, labels = zip(*rows, strict=True)
        truth = np.stack([shrink(target.mask, view) for target in targets])[:, None]
        points = torch.from_numpy(np.stack(points).astype(np.float32))
        return cls(torch.tensor(owners), list(targets), points, torch.tensor(labels), torch.from_numpy(truth))


@dataclass(frozen=True)
class Batch:
    """Pictures and the first prompts for them.

    Attributes:
        pictures: normalised, float32 (B, 3, S, S); pictures that are smaller are at the top left, as in SAM.
        labels: of the scenes, int64 (B, 4 grid, 4 grid).
        inside: 1 where the picture is, 0 beside it, float32 (B, 1, 4 grid, 4 grid).
        prompts: some for each picture.
    """

    pictures: Tensor
    labels: Tensor
    inside: Tensor
    prompts: Prompts


def shrink(mask: np.ndarray, view: View) -> np.ndarray:
    """Return the fraction of each logit's pixels that are in a mask, (H, W), as float32 (4 grid, 4 grid)."""
    padded = np.zeros((view.grid * PATCH, view.grid * PATCH), np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return cv2.resize(padded, None, fx=1 / PIXELS, fy=1 / PIXELS, interpolation=cv2.INTER_AREA)


def prepare_scene(sam: Sam, scene: Scene, view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Return one scene's part of a `Batch`: the normalised picture, the labels and where the picture is."""
    (height, width), side = scene.labels.shape, view.grid * PATCH
    picture = torch.from_numpy(scene.picture.transpose(2, 0, 1).astype(np.float32))
    labels = np.zeros((side, side), np.int64)
    labels[:height, :width] = scene.labels
    middles = labels[PIXELS // 2 :: PIXELS, PIXELS // 2 :: PIXELS]
    inside = shrink(np.ones((height, width)), view)[None]
    return sam.preprocess(picture)[:, :side, :side], torch.from_numpy(middles), torch.from_numpy(inside)


def make_batch(random: Random, scenes: list[Scene], view: View, count: int, asked: int, sam: Sam) -> Batch:
    """Choose `count` scenes, change them at random and ask for `asked` targets of each."""
    prepared, rows = [], []
    for _ in range(1000 * count):
        scene = view.cut(augment(random, scenes[random.integers(len(scenes))]))
        targets = list_targets(scene.labels, LEAST) if min(scene.labels.shape) >= 24 else []
        if targets:
            rows += [(len(prepared), *make_first_prompt(random, targets, scene.labels)) for _ in range(asked)]
            prepared.append(prepare_scene(sam, scene, view))
        if len(prepared) == count:
            pictures, labels, inside = (torch.stack(tensors) for tensors in zip(*prepared, strict=True))
            return Batch(pictures, labels, inside, Prompts.collect(rows, view))
    raise RuntimeError(f"there are not enough objects in the {len(scenes)} scenes: draw more of them")


def make_first_prompt(
    random: Random, targets: list[Target], labels: np.ndarray
) -> tuple[Target, np.ndarray, list[int]]:
    """Choose a target, seldom the background, and ask for it with an inexact box or with one point."""
    target, background = targets[random.integers(len(targets))], Target(labels == 0)
    if random.random() < 0.06 and background.mask.sum() >= 20:
        return background, np.array([choose_pixel(random, background.mask), (0, 0)]), [INSIDE, NONE]
    if random.random() < 0.45:
        return target, np.array([choose_pixel(random, target.mask), (0, 0)]), [INSIDE, NONE]
    box = find_box(target.mask)
    if random.random() < 0.7:
        box = box + (random.normal(0, 0.04, (2, 2)) * (box[1] - box[0])).clip(-10, 10)
    return target, box.clip(0, labels.shape[::-1]), [CORNER, OPPOSITE]


def make_second_prompts(random: Random, first: Prompts, wrong: np.ndarray, view: View) -> Prompts:
    """Ask for the targets again, with two to five points; a box counts as one.

    Args:
        random: chooses.
        first: the prompts of the first round.
        wrong: where their answers were wrong, bool (N, 4 grid, 4 grid).
        view: what the prompts see.
    """
    count = int(random.integers(2, 6))
    asked = zip(first.owners.tolist(), first.targets, first.points.numpy(), first.labels.tolist(), wrong, strict=True)
    rows = [(owner, *make_second_prompt(random, *rest, count)) for owner, *rest in asked]
    return Prompts.collect(rows, view)


def make_second_prompt(
    random: Random, target: Target, points: np.ndarray, labels: list[int], wrong: np.ndarray, count: int
) -> tuple[Target, np.ndarray, list[int]]:
    """Ask for a target again: the first prompt or a part to leave out, a point where the answer was wrong, others."""
    box = labels[0] == CORNER and random.random() < 0.5
    chosen = []
    if target.part is not None and random.random() < 0.4:
        chosen, box = [choose_pixel(random, target.part)], False
        target = Target(target.mask & ~target.part)
    if not box:
        chosen.append(points[0] if labels[0] == INSIDE and not chosen else choose_pixel(random, target.mask))
    count -= box  # which has two corners, and no place holder
    if len(chosen) < count and wrong.any() and random.random() < 0.8:
        chosen.append(choose_pixel(random, wrong) * PIXELS + random.integers(0, PIXELS, 2))
    while len(chosen) < count:
        choose = choose_pixel if random.random() < 0.55 else choose_outside
        chosen.append(choose(random, target.mask))
    kinds = [INSIDE if contains(target.mask, point) else OUTSIDE for point in chosen]
    more, more_kinds = (points, [CORNER, OPPOSITE]) if box else (np.zeros((1, 2)), [NONE])
    return target, np.concatenate([np.reshape(chosen, (-1, 2)), more]), kinds + more_kinds


def measure_masks(logits: Tensor, truth: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and the IoU of each mask, both float32 (N, K).

    The loss is the dice loss and 2.5 times a focal loss, which is scaled with the square root of the area: between
    a mean of the picture, which forgets small objects, and one of the object, which forgets the rest.

    Args:
        logits: float32 (N, K, h, w).
        truth: float32 (N, 1, h, w), 0..1.
        inside: float32 (N, 1, h, w), 0 beside the picture, where everything is right.
    """
    truth, chance = truth.expand_as(logits), logits.sigmoid()
    unlikely = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (unlikely * (chance - truth).abs().detach() * inside).sum((2, 3))
    focal = focal / truth.sum((2, 3)).clamp_min(40).sqrt() / 64
    chance = chance * inside
    common = (chance * truth).sum((2, 3))
    dice = 1 - (2 * common + 1) / (chance.square().sum((2, 3)) + truth.square().sum((2, 3)) + 1)
    mask, right = (logits > 0) & (inside > 0), truth > 0.5
    iou = (mask & right).sum((2, 3)) / (mask | right).sum((2, 3)).clamp_min(1)
    return 2.5 * focal + dice, iou


def compare_answers(logits: Tensor, predicted: Tensor, truth: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of a round and the mean IoU of its single answers, both float32 ().

    Of the three candidates, (nearly) only the best one is corrected, so that they become different.
    """
    losses, iou = measure_masks(logits, truth, inside)
    single, candidates = losses[:, 0], losses[:, 1:]
    masks = single.mean() + candidates.amin(dim=1).mean() + 0.05 * candidates.mean()
    return masks + functional.mse_loss(predicted, iou), iou[:, 0].mean()


class DenseHead(nn.Module):
    """Learns from all pixels of a picture what belongs together; only used in training, where it saves time.

    It computes, for each mask logit's place, features that are alike within an object, and whether there is an edge.
    """

    FEATURES = 8

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(CHANNELS, (self.FEATURES + 1) * LOGITS**2, 1)

    def forward(self, embeddings: Tensor, labels: Tensor, inside: Tensor) -> Tensor:
        """Return the loss, float32 (), for (B, CHANNELS, grid, grid), (B, h, w) and (B, 1, h, w) as in `Batch`."""
        dense = functional.pixel_shuffle(self.project(embeddings), LOGITS)
        features, edges = dense[:, :-1].flatten(2), find_edges(labels)
        loss = functional.binary_cross_entropy_with_logits(dense[:, -1], edges, reduction="none")
        places = torch.multinomial((inside[:, 0] * (1 + 8 * edges)).flatten(1), 256)
        chosen = features.gather(2, places[:, None].expand(-1, self.FEATURES, -1))
        distances = (chosen[..., :, None] - chosen[..., None, :]).square().mean(dim=1)
        owners = labels.flatten(1).gather(1, places)
        same = (owners[:, :, None] == owners[:, None, :]).float()
        pairs = functional.binary_cross_entropy_with_logits(3 - 2 * distances, same, reduction="none")
        share = same.mean((1, 2), keepdim=True)
        weights = torch.where(same > 0, 0.5 / share, 0.5 / (1 - share).clamp_min(0.02))
        return 3 * (loss * inside[:, 0]).mean() + (weights * pairs).mean()


def find_edges(labels: Tensor) -> Tensor:
    """Return 1 where a neighbour has another label, else 0, float32 (B, h, w)."""
    highest = functional.max_pool2d(labels.float(), 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-labels.float(), 3, stride=1, padding=1)
    return (highest != lowest).float()


def compute_loss(
    random: Random, sam: Sam, head: DenseHead, batch: Batch, view: View
) -> tuple[Tensor, dict[str, float]]:
    """Ask twice, and return the loss, float32 (), with the figures to report."""
    embeddings = encode(sam.image_encoder, batch.pictures, view)
    first = batch.prompts
    tokens = embed_points(sam.prompt_encoder, first.points, first.labels, view)
    logits, predicted = decode(sam, embeddings[first.owners], tokens, view)
    loss, iou = compare_answers(logits, predicted, first.truth, batch.inside[first.owners])

    indices = torch.arange(int(random.integers(2)), len(first.owners), 2)
    again, earlier = first.select(indices), logits[indices, :1].detach()
    inside = batch.inside[again.owners]
    wrong = ((earlier > 0) != (again.truth > 0.5)) & (inside > 0.5)
    second = make_second_prompts(random, again, wrong[:, 0].numpy(), view)
    use = torch.from_numpy(random.random(len(indices)) < 0.35) & (second.truth == again.truth).all(3).all(2)[:, 0]
    tokens = embed_points(sam.prompt_encoder, second.points, second.labels, view)
    logits, predicted = decode(sam, embeddings[again.owners], tokens, view, earlier, use)
    second_loss, second_iou = compare_answers(logits, predicted, second.truth, inside)

    dense_loss = head(embeddings, batch.labels, batch.inside)
    total = loss + 0.7 * second_loss + dense_loss
    figures = {"loss": total, "first": loss, "second": second_loss, "dense": dense_loss, "IoU": iou, "then": second_iou}
    return total, {name: figure.item() for name, figure in figures.items()}


@torch.no_grad()
def evaluate(sam: Sam, scenes: list[Scene]) -> dict[str, float]:
    """Ask `segment_anything`'s own predictor for all targets of some scenes, and return mean IoUs.

    `box`: with an exact box. `point`: with a point in the middle; any target there is right. `best`: the best of the
    three candidates for the point. `again`: with a second point where the first answer was wrong, and that answer.
    """
    predictor, figures = SamPredictor(sam), {"box": [], "point": [], "best": [], "again": []}
    for scene in scenes:
        predictor.set_image(scene.picture)
        targets = list_targets(scene.labels, LEAST)
        for mask, _ in targets:
            point = find_middle(mask)
            meant = [other.mask for other in targets if contains(other.mask, point)]
            given = {"point_coords": point[None].astype(float), "point_labels": np.array([INSIDE])}
            box, _, _ = predictor.predict(box=find_box(mask).ravel(), multimask_output=False)
            single, _, logits = predictor.predict(**given, multimask_output=False)
            three, _, _ = predictor.predict(**given, multimask_output=True)
            wrong = find_middle(single[0] != mask)
            given["point_coords"] = np.stack([point, wrong]).astype(float)
            given["point_labels"] = np.array([INSIDE, INSIDE if contains(mask, wrong) else OUTSIDE])
            again, _, _ = predictor.predict(**given, mask_input=logits, multimask_output=False)
            figures["box"].append(compute_iou(box[0], mask))
            figures["point"].append(max(compute_iou(single[0], other) for other in meant))
            figures["best"].append(max(compute_iou(candidate, mask) for candidate in three))
            figures["again"].append(compute_iou(again[0], mask))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def compute_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return the IoU of two masks, bool (H, W), of which one has pixels."""
    return float((mask & truth).sum() / (mask | truth).sum())


def save(sam: Sam, path: Path) -> None:
    """Write the weights in half precision, and the number of heads, which no tensor tells."""
    weights = {name: tensor.half() for name, tensor in sam.state_dict().items()}
    unfinished = path.with_name(f"{path.name}.part")
    torch.save({"model": weights, "config": {"decoder_heads": DECODER_HEADS}}, unfinished)
    unfinished.replace(path)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
    """Warm up in 60 steps; from the middle of the training on, decay along a cosine to 2 %."""
    decay = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * max(0, 2 * progress - 1)))
    for group in optimizer.param_groups:
        group["lr"] = 1.2e-3 * min(1, (step + 1) / 60) * decay


def make_optimizer(*modules: nn.Module) -> torch.optim.Optimizer:
    """Make AdamW; biases, norms and the like have no weight decay."""
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    matrices = {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": 0.02}
    vectors = {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([matrices, vectors], betas=(0.9, 0.98))


def update_average(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Return the exponential average of a weight; the first ones, which are random, are soon forgotten."""
    return torch.lerp(average, current, 1 - min(0.998, (1 + int(count)) / (10 + int(count))))


def train(given: argparse.Namespace, scenes: list[Scene], held_out: dict[str, list[Scene]]) -> None:
    """Train for the given time or steps, report on the way, and save after each evaluation."""
    random = np.random.default_rng(given.seed)
    torch.manual_seed(given.seed)
    sam, head = build_model(), DenseHead()
    average = AveragedModel(sam, avg_fn=update_average)
    optimizer = make_optimizer(sam, head)
    start, step, progress, evaluated, recent = time.monotonic(), 0, 0.0, 0.0, []
    while progress < 1:
        crop = progress < 0.5
        view = View(GRID // 2, *random.integers(0, GRID // 2 + 1, 2).tolist()) if crop else WHOLE
        count, asked = (2 * given.batch, 7) if crop else (given.batch, 8)
        set_learning_rate(optimizer, step, progress)
        loss, figures = compute_loss(random, sam, head, make_batch(random, scenes, view, count, asked, sam), view)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*sam.parameters(), *head.parameters()], 1.0, error_if_nonfinite=True)
        optimizer.step()
        average.update_parameters(sam)
        step, recent = step + 1, [*recent[-49:], figures]
        minutes = (time.monotonic() - start) / 60
        progress = max(minutes / given.minutes, step / given.steps)
        if step % 50 == 0 or progress >= 1:
            means = {name: np.mean([each[name] for each in recent]) for name in figures}
            print(f"step {step}, minute {minutes:.1f}:", describe(means), flush=True)
        if minutes - evaluated >= given.evaluate_every or progress >= 1:
            for kind, pictures in held_out.items():
                print(f"mean IoU on {kind}:", describe(evaluate(average.module, pictures)), flush=True)
            save(average.module, given.output)
            evaluated = (time.monotonic() - start) / 60


def describe(figures: dict[str, float]) -> str:
    """Return names and values on a line."""
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--minutes", type=float, default=96, help="how long to train, evaluations included")
    parser.add_argument("--steps", type=float, default=float("inf"), help="end after so many steps, if that is earlier")
    parser.add_argument("--threads", type=int, default=2, help="for torch; and processes that draw scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="pictures a step; twice as many crops")
    parser.add_argument("--scenes", type=int, default=14_000, help="scenes drawn here (all together need 4 GB)")
    parser.add_argument("--dataset-scenes", type=int, default=2_400, help="scenes of datasets/make_scenes.py")
    parser.add_argument("--held-out", type=int, default=60, help="scenes of each kind for evaluation")
    parser.add_argument("--evaluate-every", type=float, default=10, help="minutes between evaluations")
    given = parser.parse_args()
    if given.output.exists() or not given.output.absolute().parent.is_dir():
        parser.error(f"--output {given.output}: the file must not exist, its folder must")
    if given.seed < 0:
        parser.error("--seed must not be negative")
    if not given.minutes > 0 or min(given.steps, given.threads, given.batch, given.scenes, given.held_out) < 1:
        parser.error("minutes, steps, threads, batch, scenes and held-out must be positive")
    return given


def main() -> None:
    """Draw the scenes and train."""
    given = parse_arguments()
    cv2.setNumThreads(1)
    torch.set_num_threads(given.threads)
    draw = partial(draw_scenes, given.seed, side=SIDE, workers=given.threads)
    draw_dataset = partial(draw_dataset_scenes, 1000 + given.seed, side=SIDE, workers=given.threads)
    scenes = draw(first=0, count=given.scenes) + draw_dataset(first=0, count=given.dataset_scenes)
    held_out = {
        "scenes drawn here": draw(first=HELD_OUT, count=given.held_out),
        "scenes of make_scenes.py": draw_dataset(first=HELD_OUT, count=given.held_out),
    }
    train(given, scenes, held_out)


if __name__ == "__main__":
    main()
