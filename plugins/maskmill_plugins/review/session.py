"""What the routes of the review work with: a run, its queue, its pictures, and the file of decisions."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskmill import ImageResult
from maskmill.corrections import digest_masks, has_objects, make_entry
from maskmill.output.store import load_result
from maskmill.results import FINISHED

from ..annotate.locked_lines import ChangedError
from ..annotate.session import USUAL, shrink
from ..server.errors import ApiError, not_saved
from ..server.metrics import Metrics
from ..server.settings import Settings
from .corrections_file import CorrectionsFile, Decision
from .edits import Candidate, apply_edits, list_candidates, read_prompts
from .leases import Leases
from .pictures import Pictures
from .proposals import Loader, ProposalModel
from .ratings import Rating
from .review_queue import QueueRow, ReviewQueue
from .second_opinions import describe_change, describe_second, keep_reviewed, restore_reviewed, wants_second
from .wire import DecisionReply, DecisionRequest, QueueItem, ReviewImage, ReviewVersion

#: Members of a line that say who decided and when.
_ABOUT = ("reviewer", "time", "seconds")


@dataclass(frozen=True)
class ImageView:
    """An image as a reviewer looks at it.

    Attributes:
        row: of the queue.
        result: what is looked at.
        line: what was decided about it, as far as the reviewer sees it.
        revision: of the line that counts.
        decision: the summary of `line`.
        first: the line that counts, if the reviewer gives a second opinion on it.
        versions: if two people disagree, what they decided.
    """

    row: QueueRow
    result: ImageResult
    line: Mapping[str, Any] | None
    revision: str
    decision: Decision | None
    first: Mapping[str, Any] | None = None
    versions: Sequence[Decision] = ()


class ReviewSession:
    """A run under review.

    Attributes:
        name: of the run.
        settings: limits and access of the server.
        metrics: of the server.
        draining: True once the server is shutting down.
        queue: its images.
        file: where decisions are saved.
        pictures: of its images.
        model: makes masks for clicks.
        leases: which images are open.
        reviewer: who reviews, unless the page sends another name.
        notice: what the user has to do so that runs respect the decisions, or "".
        ask: whether the page asks for the name.
        overlap: the images that are given to two people.

    Args:
        output: the output folder of the run.
        load_model: gives the backend for clicks, not yet open.
    """

    def __init__(
        self,
        name: str,
        output: Path,
        queue: ReviewQueue,
        file: CorrectionsFile,
        pictures: Pictures,
        settings: Settings,
        load_model: Loader,
        reviewer: str = "",
        notice: str = "",
        ask: bool = False,
        overlap: Collection[str] = (),
        leases: Leases | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.queue = queue
        self.file = file
        self.pictures = pictures
        self.model = ProposalModel(load_model, settings, pictures)
        self.leases = leases or Leases()
        self.reviewer = reviewer
        self.notice = notice
        self.ask = ask
        self.overlap = overlap
        self._output = output

    def admit(self, method: str) -> None:
        """Check a request before its body is read.

        Raises:
            ApiError: the server is shutting down; decisions are accepted until the end.
        """
        if self.draining and method == "POST":
            raise ApiError("draining", "the server is shutting down", retry_after=5)

    def load(self, key: str) -> ImageResult:
        """The stored result of an image; of one that a person rejected, with the size that the correction has.

        Raises:
            ApiError: the run has no such image, or its result cannot be read.
        """
        if key not in self.queue:
            raise ApiError("not-found", f"the run has no image with the key {key!r}")
        result = load_result(self._output, key)
        if result is None:
            text = f"the stored result of {key} is missing or damaged; run the pipeline again to make it anew"
            raise ApiError("image-failed", text)
        if result.size is None or not result.sha256:
            line, _ = self.file.read(key)
            if line is None or not line.get("sha256"):
                raise ApiError("image-failed", f"{key} has no result; see `maskmill status`")
            result = replace(result, size=tuple(line["size"]), sha256=line["sha256"])
        return result

    def decisions_for(self, reviewer: str) -> dict[str, Decision]:
        """What people decided, by image; who may give a second opinion about one does not see the first."""
        decisions, who = self.file.lines(), reviewer or self.reviewer
        for key in self.overlap:
            row, decision = self.queue.row(key), decisions.get(key)
            if row is not None and decision is not None and wants_second(row, decision, who):
                if decision.second is None:
                    del decisions[key]
                else:
                    decisions[key] = decision.second
        return decisions

    def open_image(self, key: str, holder: str = "", reviewer: str = "") -> ReviewImage:
        """An image as the page shows it to a reviewer.

        Raises:
            ApiError: as `load`.
        """
        view = self._view(key, reviewer or self.reviewer)
        row, result, line = view.row, view.result, view.line or {}
        assert result.size is not None, "load sees to it"
        failure = f"{result.failure.type}: {result.failure.message}" if result.failure else ""
        return ReviewImage(
            item=self.describe(row, view.decision, holder),
            size=result.size,
            preview=shrink(result.size, USUAL),
            result=digest_masks(result),
            revision=view.revision,
            objects=[each.describe() for each in list_candidates(result, view.line)],
            reason=failure or result.reason or "",
            doubts=[f"{doubt.code}: {doubt.message}" for doubt in result.doubts],
            comment=str(line.get("comment") or ""),
            time=str(line.get("time") or ""),
            versions=[self._describe_version(one) for one in view.versions],
        )

    def _view(self, key: str, reviewer: str) -> ImageView:
        """An image as a reviewer looks at it: with the last decision, unless they give a second opinion."""
        row = self.queue.refresh(key)
        result = self.load(key)
        assert row is not None, "the image is in the queue"
        first, revision = self.file.read(key)
        decision = self.file.find(key)
        if key not in self.overlap or first is None or decision is None or not wants_second(row, decision, reviewer):
            versions = [decision, decision.second] if decision is not None and decision.is_disputed else []
            return ImageView(row, result, first, revision, decision, versions=[one for one in versions if one])
        result = restore_reviewed(result, first)
        row = replace(row, status=result.status, rating=Rating.of(result))
        second = decision.second
        line = None if second is None else self.file.read_at(second.offset)[0]
        return ImageView(row, result, line, revision, second, first)

    def _describe_version(self, decision: Decision) -> ReviewVersion:
        line, revision = self.file.read_at(decision.offset)
        prompts = read_prompts(line.get("prompts"))
        return ReviewVersion(
            revision=revision,
            reviewer=decision.reviewer,
            verdict=decision.verdict,
            comment=str(line.get("comment") or ""),
            objects=[Candidate(f"c{number}", prompt, True, "").describe() for number, prompt in enumerate(prompts)],
        )

    def describe(self, row: QueueRow, decision: Decision | None, holder: str = "") -> QueueItem:
        """A row of the queue as the page shows it."""
        rating = row.rating
        return QueueItem(
            key=row.key,
            state=row.state(decision),
            status=row.status,
            doubt=None if rating is None else round(rating.doubt, 4),
            why="" if rating is None else rating.why,
            figure=None if rating is None or rating.figure is None else round(rating.figure, 4),
            objects=0 if rating is None else len(rating.objects),
            dropped=0 if rating is None else rating.dropped,
            reviewer="" if decision is None else decision.reviewer,
            open_by=self.leases.find_other(row.key, holder),
        )

    def decide(self, key: str, request: DecisionRequest) -> DecisionReply:
        """Save a decision; it is on disk when this returns.

        Raises:
            ApiError: "conflict" if somebody else has decided or the result has changed since: the document has the
                image as it is now; "not-saved" if the file could not be written; as `load`.
        """
        who = request.reviewer or self.reviewer
        view = self._view(key, who)
        result = view.result
        # who gives a second opinion does not see the first, so that it may change meanwhile
        is_decided = request.revision != view.revision and view.first is None
        if is_decided or request.result != digest_masks(result):
            raise self._conflict(key, is_decided, who)
        entry = self._take(view, request.take) if request.take else self._make_entry(view, request)
        if entry is None:
            raise self._conflict(key, True, who)
        seconds = None if request.seconds is None else round(request.seconds, 1)
        about = {"reviewer": who, "time": _now(), "seconds": seconds}
        entry |= {name: value for name, value in about.items() if value not in ("", None)}
        try:
            made = self.file.save(key, view.revision, entry)
        except ChangedError:
            raise self._conflict(key, True, who) from None
        except OSError as error:
            raise not_saved(self.file.path, error) from None
        row = self.queue.refresh(key)
        assert row is not None, "the image is in the queue"
        item = self.describe(row, self.decisions_for(who).get(key))
        return DecisionReply(verdict=entry["verdict"], revision=made, item=item)

    def _make_entry(self, view: ImageView, request: DecisionRequest) -> dict[str, Any]:
        """The content of a line, without who decided and when."""
        result = view.result
        assert result.size is not None, "load sees to it"
        prompts = apply_edits(list_candidates(result, view.line), request.objects, result.size)
        verdict: Any = request.verdict
        if verdict == "accepted" and not (result.status in FINISHED and has_objects(result, prompts)):
            verdict = "fixed"
        entry = make_entry(result, verdict, prompts, comment=request.comment)
        if view.row.rating is not None:
            entry["doubt"] = round(view.row.rating.doubt, 4)
        entry |= describe_change(result, entry)
        if view.first is not None:
            return entry | describe_second(view.first, entry)
        return entry | (keep_reviewed(result, entry) if result.key in self.overlap else {})

    def _take(self, view: ImageView, revision: str) -> dict[str, Any] | None:
        """The content of one of the versions of two people who disagree; None if it is none of them any more."""
        for version in view.versions:
            line, found = self.file.read_at(version.offset)
            if found == revision:
                kept = {name: part for name, part in line.items() if name not in ("image", "second", *_ABOUT)}
                return {**kept, "result": digest_masks(view.result)}  # that of the version may be gone
        return None

    def _conflict(self, key: str, decided: bool, reviewer: str) -> ApiError:
        text = "somebody else has decided about this image" if decided else "the result of this image has changed"
        members = {"image": self.open_image(key, "", reviewer).model_dump(mode="json"), "decided": decided}
        return ApiError("conflict", f"{text} in the meantime", members=members)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
