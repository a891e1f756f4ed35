"""What the routes of the review work with: a run, its queue, its pictures, and the file of decisions."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskmill import ImageResult
from maskmill.corrections import digest_masks, has_objects, make_entry
from maskmill.output.store import load_result
from maskmill.results import FINISHED

from ..annotate.locked_lines import ChangedError
from ..annotate.session import USUAL, shrink
from ..server.errors import ApiError
from ..server.metrics import Metrics
from ..server.settings import Settings
from .corrections_file import CorrectionsFile, Decision
from .edits import Candidate, apply_edits, list_candidates
from .leases import Leases
from .pictures import Pictures
from .proposals import Loader, ProposalModel
from .review_queue import QueueRow, ReviewQueue
from .wire import DecisionReply, DecisionRequest, QueueItem, ReviewImage


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
    ) -> None:
        self.name = name
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.queue = queue
        self.file = file
        self.pictures = pictures
        self.model = ProposalModel(load_model, settings, pictures)
        self.leases = Leases()
        self.reviewer = reviewer
        self.notice = notice
        self.ask = ask
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

    def open_image(self, key: str, holder: str = "") -> ReviewImage:
        """An image as the page shows it.

        Raises:
            ApiError: as `load`.
        """
        row = self.queue.refresh(key)
        result = self.load(key)
        assert row is not None, "the image is in the queue"
        assert result.size is not None, "load sees to it"
        line, revision = self.file.read(key)
        line = line or {}
        failure = f"{result.failure.type}: {result.failure.message}" if result.failure else ""
        return ReviewImage(
            item=self.describe(row, self.file.lines().get(key), holder),
            size=result.size,
            preview=shrink(result.size, USUAL),
            result=digest_masks(result),
            revision=revision,
            objects=[each.describe() for each in self.list_candidates(result)],
            reason=failure or result.reason or "",
            doubts=[f"{doubt.code}: {doubt.message}" for doubt in result.doubts],
            comment=str(line.get("comment") or ""),
            time=str(line.get("time") or ""),
        )

    def list_candidates(self, result: ImageResult) -> list[Candidate]:
        """The objects that an image has or could have."""
        line, _ = self.file.read(result.key)
        return list_candidates(result, line)

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
        result = self.load(key)
        line, revision = self.file.read(key)
        if request.revision != revision or request.result != digest_masks(result):
            raise self._conflict(key, request.revision != revision)
        assert result.size is not None, "load sees to it"
        prompts = apply_edits(list_candidates(result, line), request.objects, result.size)
        verdict: Any = request.verdict
        if verdict == "accepted" and not (result.status in FINISHED and has_objects(result, prompts)):
            verdict = "fixed"
        entry = make_entry(
            result,
            verdict,
            prompts,
            reviewer=request.reviewer or self.reviewer,
            time=_now(),
            seconds=None if request.seconds is None else round(request.seconds, 1),
            comment=request.comment,
        )
        try:
            made = self.file.save(key, request.revision, entry)
        except ChangedError:
            raise self._conflict(key, True) from None
        except OSError as error:
            text = f"{self.file.path.name}: {error.strerror or error}"
            raise ApiError("not-saved", text, retry_after=5) from None
        row = self.queue.refresh(key)
        assert row is not None, "the image is in the queue"
        return DecisionReply(verdict=verdict, revision=made, item=self.describe(row, self.file.lines().get(key)))

    def _conflict(self, key: str, decided: bool) -> ApiError:
        text = "somebody else has decided about this image" if decided else "the result of this image has changed"
        members = {"image": self.open_image(key).model_dump(mode="json"), "decided": decided}
        return ApiError("conflict", f"{text} in the meantime", members=members)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
