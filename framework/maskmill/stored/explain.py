"""Where the masks of one image come from: all that is recorded, and whether its files are unchanged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..chain.fingerprint import Fingerprint
from ..decoding.decoder import find_orientation
from ..errors import ImageReadError
from ..masks import Mask
from ..output.folder import file_state
from ..output.run import Run
from ..prompts import Prompt
from ..results import Artifact, ImageResult, LedgerRow
from ..wording import count_noun
from .originals import OriginalImages
from .reviews import find_review

_SHA256 = re.compile("[0-9a-f]{64}")  # a checkpoint's


def explain(run: Run, key: str, images: Path | None = None) -> dict[str, Any]:
    """Everything recorded about an image of a run, as JSON data.

    Args:
        run: the run.
        key: the image.
        images: the folder that contains the images now; None to search where the run found them.

    Raises:
        OutputError: there is no such image, or its result is missing or damaged.
    """
    row = run.find(key)
    result = run.result(row)
    part = _find_part(run, row, result)
    numbers = result.prompt_numbers()
    pipeline = part.get("pipeline") or {}
    return {
        "key": result.key,
        "status": result.status,
        "reason": result.reason,
        "review": find_review(pipeline, result),
        "failure": None if result.failure is None else asdict(result.failure),
        "doubts": [asdict(doubt) for doubt in result.doubts],
        "attempts": row.attempts,
        "seconds": row.seconds,
        "image": _describe_image(run, result, images),
        "run": {
            "folder": part.get("folder"),
            "name": part.get("name") or run.name,
            "command": part.get("command"),
            "machine": part.get("machine"),
            "drop_ins": part.get("drop_ins"),
        },
        "made_by": {
            "backend": result.provenance.get("backend"),
            "options": _get_options(pipeline.get("backend")),
            "model": result.provenance.get("model"),
            "maskmill": result.provenance.get("maskmill"),
            "versions": result.provenance.get("versions"),
            "fingerprint": result.provenance.get("fingerprint"),
            "host": run.host_of(result.key) or None,
        },
        "sources": [_describe_source(entry, result) for entry in pipeline.get("prompts") or ()],
        "filters": [
            {"use": entry.get("use"), "options": _get_options(entry)} for entry in pipeline.get("filters") or ()
        ],
        "prompts": [_describe_prompt(prompt) for prompt in result.prompts],
        "masks": [_describe_mask(mask, numbers[mask.index]) for mask in result.masks],
        "files": [_describe_file(run.folder, artifact) for artifact in result.artifacts],
        "notes": dict(result.notes),
    }


def _find_part(run: Run, row: LedgerRow, result: ImageResult) -> Mapping[str, Any]:
    """The run that made it; if that is not recorded, the first merged run with the same backend and model."""
    parts = run.parts()
    for part in parts:
        if part.get("folder") == result.provenance.get("run"):
            return part
    try:
        masks = Fingerprint.parse(row.fingerprint).masks
    except ValueError:
        return parts[0]
    return next((part for part in parts if (part.get("fingerprint") or {}).get("masks") == masks), parts[0])


def _get_options(use: object) -> dict[str, Any] | None:
    if not isinstance(use, Mapping):
        return None
    return {name: value for name, value in use.items() if name != "use"}


def _describe_source(entry: Mapping[str, Any], result: ImageResult) -> dict[str, Any]:
    name = entry.get("use")
    return {"use": name, "options": _get_options(entry), "noted": result.notes.get(str(name), {})}


def _describe_image(run: Run, result: ImageResult, images: Path | None) -> dict[str, Any]:
    about: dict[str, Any] = {
        "size": None if result.size is None else {"height": result.size[0], "width": result.size[1]},
        "sha256": result.sha256,
        "orientation": None,
        "value_range": None if result.value_range is None else asdict(result.value_range),
        "conversion": result.provenance.get("images", {}),
        "uri": None,
        "now": "not found",
    }
    with OriginalImages(run, images) as originals:
        ref = originals.find(result.key)
    if ref is None:
        return about
    try:
        data = ref.read()
    except ImageReadError as error:
        return {**about, "uri": ref.shown, "now": str(error)}
    now = hashlib.sha256(data).hexdigest()
    if now == result.sha256:
        about["orientation"] = find_orientation(data)
    state = "the same" if now == result.sha256 else f"changed, sha256 {now}"
    return {**about, "uri": ref.shown, "now": state if result.sha256 else "there"}


def _describe_prompt(prompt: Prompt) -> dict[str, Any]:
    return {"kind": describe_kind(prompt), **prompt.to_json()}


def describe_kind(prompt: Prompt | None) -> str:
    """The kind of a prompt: box, points, box+points, text, everything."""
    return "+".join(sorted(prompt.needs)) if prompt is not None else "none"


def _describe_mask(mask: Mask, prompt: int | None) -> dict[str, Any]:
    box = mask.box
    return {
        "number": mask.index,
        "label": mask.label,
        "kept": mask.kept,
        "prompt": prompt,
        "score": mask.score,
        "stability": mask.stability,
        "area": mask.area,
        "box": None if box is None else list(box.xyxy),
        "changed_by": list(mask.changed_by),
        "dropped_by": mask.dropped_by,
        "why_dropped": mask.reason,
    }


def _describe_file(folder: Path, artifact: Artifact) -> dict[str, Any]:
    try:
        now: str = file_state(folder / artifact.path, artifact)
    except OSError as error:
        now = f"cannot be read: {error.strerror or error}"
    return {**asdict(artifact), "now": now}


def format_lines(about: Mapping[str, Any]) -> Iterator[str]:
    """The data of `explain` as text, line by line."""
    yield f"{about['key']}: {about['status']}" + (f" ({about['reason']})" if about["reason"] else "")
    if (failure := about["failure"]) is not None:
        where = " ".join(filter(None, [failure["stage"], failure["plugin"]]))
        yield f"  failed at {where}: {failure['type']}: {failure['message']}"
    for doubt in about["doubts"]:
        where = " ".join(filter(None, [doubt["stage"], doubt["plugin"]]))
        yield f"  doubtful ({doubt['code']}, {where}): {doubt['message']}"
    yield from _review_lines(about["review"])
    attempts = count_noun(about["attempts"], "attempt")
    yield f"  {attempts}, the last took {about['seconds']:.1f} s"
    yield from _image_lines(about["image"])
    yield from _made_by_lines(about["run"], about["made_by"])
    yield from _source_lines(about["sources"])
    yield from (f"filter   {_format_plugin(each)}" for each in about["filters"])
    yield from _prompt_lines(about["prompts"])
    yield from _mask_lines(about["masks"], about["prompts"])
    for file in about["files"]:
        yield f"file {file['path']}, {file['bytes']} bytes, sha256 {file['sha256']}: {file['now']}"


def _review_lines(review: Mapping[str, Any] | None) -> Iterator[str]:
    if review is None:
        return
    who = f" by {review['reviewer']}" if "reviewer" in review else " by a reviewer"
    when = f", {review['time']}" if "time" in review else ""
    yield f"  {review.get('verdict', 'reviewed')}{who}{when}: {review['state']}"
    if "comment" in review:
        yield f"    {review['comment']}"
    if review.get("on_older_result"):
        yield "    reviewed on an older result"


def _image_lines(image: Mapping[str, Any]) -> Iterator[str]:
    size = image["size"]
    shown = f"{size['width']}×{size['height']} pixels, " if size else ""
    yield f"image    {image['uri'] or '?'}: {image['now']}"
    if image["sha256"]:
        yield f"         {shown}sha256 {image['sha256']}"
    if (image["orientation"] or 1) != 1:
        yield f"         turned upright by its EXIF orientation {image['orientation']}"
    if (found := image["value_range"]) is not None:
        yield (
            f"         {found['type']} values from {found['lowest']:g} to {found['highest']:g};"
            f" {found['black']:g} to {found['white']:g} became black to white ({found['high_bit_depth']})"
        )
    if "page" in image["conversion"]:
        yield f"         page {image['conversion']['page']} of the file"


def _made_by_lines(run: Mapping[str, Any], made_by: Mapping[str, Any]) -> Iterator[str]:
    yield f"run      {run['name']}, in {run['folder']}"
    if run["command"]:
        yield f"         {run['command']}"
    if made_by["backend"]:
        options = _format_values(made_by["options"] or {})
        yield f"backend  {made_by['backend']}" + (f" ({options})" if options else "")
    if made_by["model"]:
        yield f"model    {'sha256 ' if _SHA256.fullmatch(str(made_by['model'])) else ''}{made_by['model']}"
    if made_by["host"]:
        yield f"host     {made_by['host']}"
    if made_by["versions"]:
        yield f"versions {', '.join(f'{name} {version}' for name, version in made_by['versions'].items())}"


def _source_lines(sources: list[Mapping[str, Any]]) -> Iterator[str]:
    for source in sources:
        yield f"source   {_format_plugin(source)}"
        for name, value in source["noted"].items():
            for item in value if isinstance(value, list) else [value]:
                yield f"         {name}: {_format_values(item) if isinstance(item, Mapping) else item}"


def _format_plugin(plugin: Mapping[str, Any]) -> str:
    """The name and options of a plugin."""
    options = _format_values({name: value for name, value in (plugin["options"] or {}).items() if value is not None})
    return f"{plugin['use']} ({options})" if options else str(plugin["use"])


def _prompt_lines(prompts: list[Mapping[str, Any]]) -> Iterator[str]:
    for number, prompt in enumerate(prompts):
        given = {name: prompt[name] for name in ("box", "points", "text", "score", "pick") if name in prompt}
        origin = f" from {prompt['source']}" if "source" in prompt else ""
        ref = f", ref {prompt['ref']}" if "ref" in prompt else ""
        label = f" {prompt['label']!r}" if "label" in prompt else ""
        yield f"prompt {number}{label}: {prompt['kind']}{origin}{ref}" + (
            f" ({_format_values(given)})" if given else ""
        )


def _mask_lines(masks: list[Mapping[str, Any]], prompts: list[Mapping[str, Any]]) -> Iterator[str]:
    for mask in masks:
        facts = [f"of prompt {mask['prompt']}"] if mask["prompt"] is not None else []
        facts += [f"{name} {mask[name]:.4g}" for name in ("score", "stability") if mask[name] is not None]
        facts.append(f"{mask['area']} pixels")
        facts += [f"box {_format_numbers(mask['box'])}"] if mask["box"] else []
        facts += [f"changed by {', '.join(mask['changed_by'])}"] if mask["changed_by"] else []
        if not mask["kept"]:
            facts.append(
                f"DROPPED by {mask['dropped_by']}" + (f": {mask['why_dropped']}" if mask["why_dropped"] else "")
            )
        label = f" {mask['label']!r}" if mask["label"] else ""
        yield f"mask {mask['number']}{label}: {', '.join(facts)}"


def _format_values(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}: {_format_numbers(value) if isinstance(value, list) else value}" for name, value in values.items()
    )


def _format_numbers(values: list[Any]) -> str:
    inner = (
        _format_numbers(item) if isinstance(item, list) else f"{item:g}" if isinstance(item, float) else str(item)
        for item in values
    )
    return f"[{', '.join(inner)}]"
