"""Fingerprints: what a result depends on, stage by stage, so that a rerun redoes only what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..corrections import Correction, Corrections
from ..decoding.bit_depth import DEFAULT, Conversion
from ..images import ImageRef
from ..plugins.optional import prompts_fingerprint
from ..plugins.roles import PromptSource
from ..plugins.stage import Stage, digest
from ..results import FINISHED, UNFINISHED, Failure, ImageResult
from ..work import FirstStep

#: In the provenance of an image that failed after its masks were made: the fingerprint of what is there all the same.
PARTIAL = "partial"
#: The fingerprint of masks and filters where a person decided: no model and no filter has a say in them.
DECIDED = "decided"
#: Of an image whose filters and writers have not ended yet. It stays if the process is killed.
NOT_WRITTEN = Failure("worker", "", UNFINISHED, "the run ended before its filters and writers had ended")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One digest a stage; the image's own bytes (size, time, sha256) are compared beside it.

    Attributes:
        prompts: of the sources, for one image.
        masks: of the backend and its model.
        filters: of all filters in their order.
        writers: of each writer.
    """

    prompts: str
    masks: str
    filters: str
    writers: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join([self.prompts, self.masks, self.filters, "+".join(self.writers)])

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The inverse of `str`.

        Raises:
            ValueError: the text is none.
        """
        prompts, masks, filters, writers = text.split("/")
        return cls(prompts, masks, filters, tuple(writers.split("+")) if writers else ())


class Fingerprints:
    """The fingerprints of a pipeline: constant but for the prompts of each image.

    Args:
        sources: (code, source) of each prompt source; `code` is the sha256 of a drop-in's file or "", followed by
            what identifies the source's model, if it has one.
        combine: how the sources are combined.
        backend: (code, backend) and `model_id` what computes.
        filters: (code, filter) of each.
        writers: (code, folder name, writer) of each.
        conversion: how image files become images; only what is not the default counts.
        corrections: what people decided, None if the pipeline names no file of them.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, PromptSource]],
        combine: str,
        backend: tuple[str, Stage],
        model_id: str,
        filters: Sequence[tuple[str, Stage]],
        writers: Sequence[tuple[str, str, Stage]],
        conversion: Conversion = DEFAULT,
        corrections: Corrections | None = None,
    ) -> None:
        self.corrections = corrections
        self._combine = combine
        self._conversion = conversion.to_json()
        self._prompts = [(code, prompts_fingerprint(source)) for code, source in sources]
        self.masks = digest([backend[0], backend[1].digest(), model_id])
        self._filters = digest([[code, stage.digest()] for code, stage in filters])
        self.writers = tuple(digest([code, folder, stage.digest()]) for code, folder, stage in writers)
        self._known: dict[tuple[str, ...], Fingerprint] = {}

    def of(self, ref: ImageRef) -> Fingerprint:
        """The fingerprint that a result of this image has to have."""
        if self.corrections is not None and (decided := self.corrections.digest_of(ref.key)):
            return Fingerprint(decided, DECIDED, DECIDED, self.writers)
        parts = tuple(code + fingerprint(ref) for code, fingerprint in self._prompts)
        known = self._known.get(parts)
        if known is None:
            of_images = [self._conversion] if self._conversion else []
            known = Fingerprint(digest([self._combine, parts, *of_images]), self.masks, self._filters, self.writers)
            if len(self._known) < 10_000:  # most images share one; a file of prompts has one each
                self._known[parts] = known
        return known


@dataclass(frozen=True, slots=True)
class Reuse:
    """What of a stored result still holds; each part includes those before it. `plan_reuse` decides.

    Attributes:
        before: the stored result, None if nothing of it can be used.
        masks: prompts and masks.
        filters: what the filters did.
        writers: fingerprints of the writers whose files are of these masks.
        everything: all that is wanted, in this order; files may be missing all the same.
        candidate: a stored result of this backend whose sources have changed: its masks hold if the sources
            turn out to give the same prompts.
    """

    before: ImageResult | None = None
    masks: bool = False
    filters: bool = False
    writers: frozenset[str] = frozenset()
    everything: bool = False
    candidate: ImageResult | None = None

    def is_of(self, wanted: Fingerprint) -> bool:
        """Whether the stored result was made with these prompts and this model."""
        have = "" if self.before is None else str(self.before.provenance.get("fingerprint", ""))
        return have.startswith(f"{wanted.prompts}/{wanted.masks}/")

    @property
    def first(self) -> FirstStep:
        """The first step that is done again, as far as it is known before the sources were queried."""
        if self.before is None:
            return "segment" if self.candidate is None else "prompts"
        if self.everything:
            return "nothing"
        return "writers" if self.filters else "filters"


def make_partial(result: ImageResult, made: Fingerprint, failure: Failure) -> ImageResult:
    """A failed result that keeps its masks and files, for `plan_reuse` at the next try.

    Args:
        result: with all that is there, after the filters or with all its masks in `raw`.
        made: the fingerprint of what is there: without the filters if they have not ended, and with those writers
            only whose files are there.
        failure: why it is not finished.
    """
    provenance = {**result.provenance, PARTIAL: str(made)}
    return replace(result, status="failed", failure=failure, provenance=provenance)


def plan_reuse(
    before: ImageResult | None,
    sha256: str,
    wanted: Fingerprint,
    images: Mapping[str, Any] | None = None,
    correction: Correction | None = None,
) -> Reuse:
    """Decide what of a stored result can be reused.

    Args:
        before: the stored result, None if there is none.
        sha256: of the image file's bytes now.
        wanted: what the result has to be made with.
        images: how image files become images, as in the provenance of a result.
        correction: what a person decided about the image; a result that has these masks already is left as it is.
    """
    if before is None or before.sha256 != sha256:
        return Reuse()
    is_finished = before.status in FINISHED
    try:
        have = Fingerprint.parse(before.provenance["fingerprint" if is_finished else PARTIAL])
    except (KeyError, ValueError):
        return Reuse()
    if have.masks != wanted.masks:
        agrees = correction is not None and is_finished and correction.agrees_with(before)
        if not agrees or have.writers != wanted.writers:
            return Reuse()
        return Reuse(before, True, True, frozenset(have.writers), True)
    if have.prompts != wanted.prompts:
        same_pixels = before.provenance.get("images") == (images or None)
        return Reuse(candidate=before if same_pixels else None)
    filters = have.filters == wanted.filters
    writers = frozenset(have.writers) if filters else frozenset[str]()
    return Reuse(before, True, filters, writers, is_finished and have == wanted)
