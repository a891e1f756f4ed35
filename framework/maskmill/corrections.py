"""Corrections: what a person decided about images of a run, one JSON line for each decision.

A pipeline names its file as `corrections:`. The last line of an image counts, and comes before every prompt source,
filter and model: the image's masks are those of the line, whatever else the pipeline would make. Second opinions, which
people give without having seen the first decision, never count: they are there to be compared with it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .errors import PipelineError, Problem, PromptError
from .masks import Mask, count_pixels
from .prompts import GivenMask, Prompt
from .wording import count_noun

if TYPE_CHECKING:
    from .results import ImageResult

#: accepted: the masks were right as they were; fixed: a person changed them; rejected: the image must not be used;
#: question: somebody else has to decide, and until then the pipeline does.
Verdict = Literal["accepted", "fixed", "rejected", "question"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: The prompt source and the filter of what a person decided, in notes, failures and messages.
NAME = "corrections"
#: Problems of a file that are listed one by one.
MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Correction:
    """What a person decided about one image.

    Attributes:
        key: of the image.
        verdict: one of `VERDICTS`.
        prompts: the objects, each with its mask; () for an image without objects.
        size: (height, width) in pixels of the image that was reviewed.
        sha256: of its file.
        reviewer: who decided, "" if not given.
        time: when, as in ISO 8601, "" if not given.
        seconds: how long it took, None if not given.
        comment: of the reviewer; for a rejected image, why.
        result: `digest_masks` of the result that was reviewed, "" if not given.
        second: whether this is a second opinion, which does not count.
    """

    key: str
    verdict: Verdict
    prompts: tuple[Prompt, ...]
    size: tuple[int, int]
    sha256: str
    reviewer: str
    time: str
    seconds: float | None
    comment: str
    result: str
    second: bool = False

    @property
    def decides(self) -> bool:
        """Whether the image's result comes from here."""
        return self.verdict != "question"

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of what decides the result: not who decided it, nor when."""
        about = ["rejected", self.comment] if self.verdict == "rejected" else [one.to_json() for one in self.prompts]
        text = json.dumps([about, self.sha256], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Who decided what and when, for notes and reports; plain data."""
        about = {"verdict": self.verdict, "reviewer": self.reviewer, "time": self.time, "comment": self.comment}
        return {name: value for name, value in about.items() if value}

    def is_in(self, result: ImageResult) -> bool:
        """Whether a stored result is what this line asks for."""
        if self.verdict == "rejected":
            return result.status == "rejected"
        return self.agrees_with(result)

    def agrees_with(self, result: ImageResult) -> bool:
        """Whether a stored result has these masks already, in this order."""
        if self.verdict == "rejected" or result.sha256 != self.sha256:
            return False
        return has_objects(result, self.prompts)


def has_objects(result: ImageResult, prompts: Sequence[Prompt]) -> bool:
    """Whether the kept masks of a result are those of prompts that answer themselves, in this order."""
    return [_content(prompt) for prompt in prompts] == [_content(one) for one in freeze(result)]


def _content(prompt: Prompt) -> dict[str, Any]:
    return {**prompt.to_json(), "mask": prompt.mask and prompt.mask.to_json()}


def freeze(result: ImageResult) -> tuple[Prompt, ...]:
    """The kept masks of a result as prompts that answer themselves, so that no model changes them any more."""
    return tuple(map(freeze_mask, result.kept))


def freeze_mask(mask: Mask) -> Prompt:
    """A mask, kept or dropped, as a prompt that answers itself."""
    given = GivenMask(mask.size, mask.counts, mask.score, mask.stability)
    return replace(mask.prompt or Prompt(mask=given), mask=given, grid=None)


def digest_masks(result: ImageResult) -> str:
    """16 hexadecimal digits for the kept masks of a result: their pixels, labels and order."""
    return _digest_content(result.status, [[mask.counts, mask.label] for mask in result.kept])


def digest_entry(entry: Mapping[str, Any]) -> str:
    """`digest_masks` of the result that the content of a line makes."""
    prompts = entry.get("prompts") or []
    content = [[prompt["mask"]["counts"], prompt.get("label")] for prompt in prompts]
    return _digest_content("done" if content else "empty", content)


def _digest_content(status: str, content: Sequence[Sequence[str | None]]) -> str:
    text = json.dumps([status, content], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_entry(
    result: ImageResult,
    verdict: Verdict,
    prompts: Sequence[Prompt] | None = None,
    *,
    reviewer: str = "",
    time: str = "",
    seconds: float | None = None,
    comment: str = "",
) -> dict[str, Any]:
    """The content of a line about a reviewed result.

    Args:
        result: what was reviewed.
        verdict: what the reviewer decided.
        prompts: the objects as the reviewer left them, each with its mask; None for those of the result.
        reviewer: who decided.
        time: when, as in ISO 8601.
        seconds: how long it took.
        comment: of the reviewer.
    """
    assert result.size is not None, "an image that could not be read cannot be reviewed"
    kept = freeze(result) if prompts is None else prompts
    more = {"reviewer": reviewer, "time": time, "seconds": seconds, "comment": comment}
    return {
        "image": result.key,
        "verdict": verdict,
        "prompts": [prompt.to_json() for prompt in kept],
        "size": list(result.size),
        "sha256": result.sha256,
        "result": digest_masks(result),
        **{name: value for name, value in more.items() if value not in ("", None)},
    }


class Corrections:
    """The corrections of a file that count, read once; a file that does not exist yet holds none.

    Lines are parsed one by one and kept by their place in the file, so that many decisions need little memory.

    Raises:
        PipelineError: a line is wrong; names the file and the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._digests: dict[str, str] = {}
        self._verdicts: dict[str, Verdict] = {}
        problems = []
        for number, offset, raw in self._read_lines():
            try:
                correction = parse(raw.decode("utf-8-sig"))
            except ValueError as error:  # UnicodeDecodeError and PromptError among them
                cut = "" if raw.endswith(b"\n") else " (the file ends within this line; remove or complete it)"
                problems.append(Problem(f"{error}{cut}", str(path), number))
                continue
            if correction.second:
                continue
            self._places[correction.key] = offset, len(raw)
            self._digests[correction.key] = correction.digest if correction.decides else ""
            self._verdicts[correction.key] = correction.verdict
        if len(problems) > MOST_PROBLEMS:
            more = count_noun(len(problems) - MOST_PROBLEMS, "more line")
            problems[MOST_PROBLEMS:] = [Problem(f"and {more}", str(path))]
        if problems:
            raise PipelineError(*problems)

    def __contains__(self, key: object) -> bool:
        """Whether an image has a line that counts."""
        return key in self._places

    def __len__(self) -> int:
        """How many images have a line."""
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The images that have a line."""
        return iter(self._places)

    def digest_of(self, key: str) -> str:
        """The digest of what decides an image's result, "" if the pipeline does."""
        return self._digests.get(key, "")

    def count_verdicts(self, keys: Iterable[str]) -> dict[str, int]:
        """How many of these images have each verdict; images without a line do not count."""
        found = Counter(self._verdicts[key] for key in keys if key in self._verdicts)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def find(self, key: str) -> Correction | None:
        """The line about an image that counts, None if there is none."""
        return parse(self._read_line(key)) if key in self._places else None

    def find_decision(self, key: str) -> str | None:
        """The line that decides an image's result, for `parse`; None if the pipeline does."""
        return self._read_line(key) if self.digest_of(key) else None

    def _read_line(self, key: str) -> str:
        offset, length = self._places[key]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length).decode("utf-8-sig")

    def _read_lines(self) -> Iterator[tuple[int, int, bytes]]:
        """(number, offset, bytes) of each line that is not blank."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            text = f"the corrections cannot be read: {error.strerror or error}"
            raise PipelineError(Problem(text, str(self.path))) from None
        with file:
            offset = 0
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield number, offset, raw
                offset += len(raw)


def format_verdicts(counts: Mapping[str, int]) -> str:
    """The counts of verdicts as a line for people, "" if there are none."""
    if not counts:
        return ""
    decided = {verdict: counts[verdict] for verdict in VERDICTS if verdict != "question" and counts[verdict]}
    parts = []
    if decided:
        how = ", ".join(f"{count:,} {verdict}" for verdict, count in decided.items())
        parts.append(f"{count_noun(sum(decided.values()), 'image')} decided by people: {how}")
    if counts["question"]:
        parts.append(count_noun(counts["question"], "open question"))
    return "; ".join(parts)


def default_path(pipeline: Path) -> Path:
    """Where the corrections of a pipeline file are, unless it names another file."""
    return pipeline.with_name(f"{pipeline.stem}.corrections.jsonl")


@lru_cache(2)
def _load(path: Path, size: int, mtime: int) -> Corrections:
    return Corrections(path)


def load_corrections(path: Path) -> Corrections:
    """The corrections of a file as it is now; read once as long as it does not change.

    Raises:
        PipelineError: as `Corrections`.
    """
    try:
        about = path.stat()
    except OSError:  # `Corrections` says what is wrong, unless it does not exist yet
        return Corrections(path)
    return _load(path, about.st_size, about.st_mtime_ns)


def parse(line: str) -> Correction:
    """The correction in a line.

    Raises:
        ValueError: it is not valid; says why.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("image"), str) or "verdict" not in data:
        raise ValueError('expected {"image": key, "verdict": ..., "prompts": [...]}')
    if data["verdict"] not in VERDICTS:
        raise ValueError(f"the verdict must be one of {', '.join(VERDICTS)}, not {data['verdict']!r}")
    prompts, size = data.get("prompts", []), data.get("size")
    if not isinstance(prompts, list) or not all(isinstance(item, Mapping) for item in prompts):
        raise ValueError('"prompts" must be a list of objects, [] for an image without objects')
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        raise ValueError(f'"size" must be [height, width] in pixels, not {size!r}')
    return Correction(
        key=data["image"],
        verdict=data["verdict"],
        prompts=tuple(_parse_prompt(number, item, size) for number, item in enumerate(prompts, 1)),
        size=(size[0], size[1]),
        sha256=_text(data, "sha256"),
        reviewer=_text(data, "reviewer"),
        time=_text(data, "time"),
        seconds=data.get("seconds") if isinstance(data.get("seconds"), (int, float)) else None,
        comment=_text(data, "comment"),
        result=_text(data, "result"),
        second=bool(data.get("second")),
    )


def _parse_prompt(number: int, item: Mapping[str, Any], size: list[int]) -> Prompt:
    try:
        prompt = Prompt.from_json(item)
        if prompt.mask is None:
            raise PromptError('it has no "mask"; a correction holds the pixels of each object')
        prompt = prompt.fit(size[0], size[1])
        if count_pixels(item["mask"]["counts"]) != size[0] * size[1]:
            raise PromptError("the run lengths of its mask do not add up to its size")
    except (PromptError, TypeError, ValueError) as error:
        raise ValueError(f"prompt {number}: {error}") from None
    return prompt


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name) or ""
    if not isinstance(value, str):
        raise ValueError(f'"{name}" must be a text, not {value!r}')
    return value
