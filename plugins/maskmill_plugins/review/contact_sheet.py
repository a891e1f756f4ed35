"""The contact sheet: many objects of one label at a time, of images that nobody has decided about.

A sheet shows objects, not images: what it cannot show is an object that is missing. So an image is accepted only once
each of its kept objects was on a sheet of this reviewer and none was wrong, and its line says "contact sheet".
"""

from __future__ import annotations

from collections.abc import Sequence

from maskmill import ImageResult, Mask
from maskmill.corrections import digest_masks

from ..annotate.locked_lines import NO_REVISION
from ..server.errors import ApiError
from .mask_wire import EditedObject
from .ratings import RatedObject, Rating
from .session import ReviewSession
from .wire import DecisionRequest, SheetCrop, SheetObject, SheetPage, SheetReply

#: Objects on one sheet.
SHEET = 24
#: The comment of decisions that were made here.
COMMENT = "contact sheet"
Seen = tuple[str, str, str]


class ContactSheet:
    """Shows objects, and remembers which of an image were looked at; use it from one thread.

    Args:
        session: the run.
    """

    def __init__(self, session: ReviewSession) -> None:
        self._session = session
        self._seen: dict[Seen, set[int]] = {}  # (reviewer, image, digest of its result) -> indices of its masks

    def show(self, label: str | None, reviewer: str) -> SheetPage:
        """The next objects of a label: the lowest scores first, without one the most doubtful images first."""
        decisions = self._session.file.lines()
        found: list[tuple[float, str, int, RatedObject, Rating]] = []
        for row, state in self._session.queue.select(decisions):
            if state != "unseen" or row.rating is None:
                continue
            seen = self._seen.get((reviewer, row.key, row.rating.digest), ())
            for one in row.rating.objects:
                if one.label == label and one.mask not in seen:
                    rank = one.score if one.score is not None else 1 - row.rating.doubt
                    found.append((rank, row.key, one.mask, one, row.rating))
        found.sort(key=lambda each: each[:3])
        items = [
            SheetCrop(key=key, index=index, score=one.score, result=rating.digest)
            for _, key, index, one, rating in found[:SHEET]
        ]
        return SheetPage(left=len(found), items=items)

    def find(self, key: str, index: int) -> tuple[ImageResult, Mask]:
        """The result of an image, and one of its masks.

        Raises:
            ApiError: there is none.
        """
        result = self._session.load(key)
        mask = next((mask for mask in result.masks if mask.index == index), None)
        if mask is None:
            raise ApiError("not-found", f"{key} has no object {index}")
        return result, mask

    def apply(self, objects: Sequence[SheetObject], reviewer: str) -> SheetReply:
        """Note what was looked at: images with a wrong object get a question, those that were seen whole are accepted.

        Raises:
            ApiError: a decision could not be written.
        """
        who = reviewer or self._session.reviewer
        counts = {"accepted": 0, "question": 0, "": 0}
        not_saved = []
        for key in dict.fromkeys(each.key for each in objects):
            try:
                counts[self._apply(key, [each for each in objects if each.key == key], who)] += 1
            except ApiError as error:
                if error.kind == "not-saved":
                    raise
                not_saved.append(key)
        return SheetReply(
            accepted=counts["accepted"], questions=counts["question"], waiting=counts[""], not_saved=not_saved
        )

    def _apply(self, key: str, objects: Sequence[SheetObject], reviewer: str) -> str:
        """The verdict about one image, "" if other objects of it have to be seen first."""
        result = self._session.load(key)
        digest = digest_masks(result)
        if any(each.result != digest for each in objects):
            raise ApiError("conflict", f"the result of {key} has changed in the meantime")
        seen = self._seen.setdefault((reviewer, key, digest), set())
        seen.update(each.index for each in objects)
        wrong = {each.index for each in objects if each.wrong}
        if not wrong and not seen.issuperset(mask.index for mask in result.kept):
            return ""
        names = [
            f"{number} ({mask.label or 'no label'})"
            for number, mask in enumerate(result.kept, 1)
            if mask.index in wrong
        ]
        request = DecisionRequest(
            revision=NO_REVISION,  # an image that somebody has decided about is left alone
            result=digest,
            verdict="question" if wrong else "accepted",
            objects=[EditedObject(id=f"m{mask.index}", label=mask.label) for mask in result.kept],
            comment=f"{COMMENT}: wrong object {', '.join(names)}" if wrong else COMMENT,
            reviewer=reviewer,
        )
        return self._session.decide(key, request).verdict
