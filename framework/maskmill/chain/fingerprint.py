"""Fingerprints: what a result depends on, stage by stage, so that a rerun redoes only what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..decoding.bit_depth import DEFAULT, Conversion
from ..images import ImageRef
from ..plugins.optional import prompts_fingerprint
from ..plugins.roles import PromptSource
from ..plugins.stage import Stage, digest
from ..results import ImageResult


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
    ) -> None:
        self._combine = combine
        self._conversion = conversion.to_json()
        self._prompts = [(code, prompts_fingerprint(source)) for code, source in sources]
        self.masks = digest([backend[0], backend[1].digest(), model_id])
        self._filters = digest([[code, stage.digest()] for code, stage in filters])
        self.writers = tuple(digest([code, folder, stage.digest()]) for code, folder, stage in writers)
        self._known: dict[tuple[str, ...], Fingerprint] = {}

    def of(self, ref: ImageRef) -> Fingerprint:
        """The fingerprint that a result of this image has to have."""
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


def plan_reuse(before: ImageResult | None, sha256: str, wanted: Fingerprint) -> Reuse:
    """Decide what of a stored result can be reused.

    Args:
        before: the stored result, None if there is none.
        sha256: of the image file's bytes now.
        wanted: what the result has to be made with.
    """
    if before is None or before.status not in ("done", "empty") or before.sha256 != sha256:
        return Reuse()
    try:
        have = Fingerprint.parse(before.provenance["fingerprint"])
    except (KeyError, ValueError):
        return Reuse()
    if have.masks != wanted.masks:
        return Reuse()
    if have.prompts != wanted.prompts:
        return Reuse(candidate=before)
    filters = have.filters == wanted.filters
    writers = frozenset(have.writers) if filters else frozenset[str]()
    return Reuse(before, True, filters, writers, have == wanted)
