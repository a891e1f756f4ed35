"""The routes for the labels of the whole prompts file: how often each is used, renaming one, undoing that."""

from __future__ import annotations

from fastapi import FastAPI

from maskmill import ImageError
from maskmill.chain.contract import check_label

from ..server.errors import ApiError, not_saved
from ..server.http.problems import describe_responses
from .prompts_file import Renaming
from .session import AnnotationSession
from .wire import LabelCount, LabelList, RenamedLabel, RenameRequest, UndoneRenaming


def add_label_routes(app: FastAPI, session: AnnotationSession) -> None:
    """Add the routes; the last renaming can be undone until the next one."""
    file = session.prompts_file
    last: list[tuple[Renaming, list[str]]] = []

    @app.get("/v1/annotate/labels", summary="Count labels", responses=describe_responses({}))
    def labels() -> LabelList:
        """Every label, with the number of its objects and of their images."""
        counts = file.count_labels()
        return LabelList(
            labels=[
                LabelCount(label=label, objects=counts.get(label, (0, 0))[0], images=counts.get(label, (0, 0))[1])
                for label in session.labels()
            ]
        )

    @app.post(
        "/v1/annotate/labels/rename",
        summary="Rename a label",
        responses=describe_responses({}, "not-found", "conflict", "not-saved"),
    )
    def rename(body: RenameRequest) -> RenamedLabel:
        """In all images of the prompts file; `conflict` if there is such a label already and `merge` is not set."""
        label, new = body.label, _check_name(body.new)
        known = session.labels()
        if label not in known:
            raise ApiError("not-found", f"no object has the label {label!r}")
        if new in known and new != label and not body.merge:
            raise ApiError("conflict", f"there is a label {new!r} already; set `merge` to give both this name")
        try:
            done = file.rename_label(label, new)
        except OSError as error:
            raise not_saved(file.path, error) from None
        last[:] = [(done, session.offered)]
        session.offered = list(dict.fromkeys(new if each == label else each for each in session.offered))
        return RenamedLabel(objects=done.objects, images=len(done.before))

    @app.post(
        "/v1/annotate/labels/undo",
        summary="Undo the last renaming",
        responses=describe_responses({}, "not-found", "not-saved"),
    )
    def undo() -> UndoneRenaming:
        """Images that have been saved since keep what was saved; they are counted."""
        if not last:
            raise ApiError("not-found", "no label was renamed")
        done, offered = last[0]
        try:
            left = file.undo_renaming(done)
        except OSError as error:
            raise not_saved(file.path, error) from None
        session.offered = offered
        last.clear()
        return UndoneRenaming(images=len(done.before) - len(left), left=len(left))


def _check_name(text: str) -> str:
    """A label without spaces around it.

    Raises:
        ApiError: nothing is left, or it is no label.
    """
    try:
        name = check_label(text.strip())
    except ImageError as error:
        raise ApiError("invalid-request", f"body/new: {error}") from None
    if not name:
        raise ApiError("invalid-request", "body/new: a label has at least one letter")
    return name
