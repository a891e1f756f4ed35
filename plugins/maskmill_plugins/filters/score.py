"""score: drops masks by score, stability or size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import Field

from maskmill import Filter, Image, Mask, Problem, hookimpl


class Score(Filter):
    """Keeps masks within all limits given, which are inclusive.

    If the backend gave no score (or no stability), the limit for it is not applied.
    """

    min_score: float | None = Field(None, ge=0, le=1, description="minimum predicted IoU")
    min_stability: float | None = Field(None, ge=0, le=1, description="minimum stability score")
    min_area: int | None = Field(None, ge=0, description="minimum area in pixels")
    max_area: int | None = Field(None, ge=0, description="maximum area in pixels")
    min_fraction: float | None = Field(None, ge=0, le=1, description="minimum area as a fraction of the image")
    max_fraction: float | None = Field(None, ge=0, le=1, description="maximum area as a fraction of the image")

    def check(self) -> list[Problem]:
        """A minimum must not exceed its maximum; warns if there are no limits."""
        problems = []
        for what in ("area", "fraction"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low is not None and high is not None and low > high:
                problems.append(Problem(f"min_{what} {low} is above max_{what} {high}: no mask could be kept"))
        if not self.model_dump(exclude_none=True):
            hint = "give at least one of: " + ", ".join(type(self).model_fields)
            problems.append(Problem("has no limit set and keeps every mask", hint=hint, warning=True))
        return problems

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, those beyond a limit marked as dropped, with the first reason."""
        return [mask.drop(reason) if (reason := self._find_reason(mask)) else mask for mask in masks]

    def _find_reason(self, mask: Mask) -> str | None:
        height, width = mask.size
        area = mask.area
        fraction = area / (height * width)
        minima = (
            ("score", mask.score, self.min_score),
            ("stability", mask.stability, self.min_stability),
            ("area", area, self.min_area),
            ("fraction", fraction, self.min_fraction),
        )
        for name, value, limit in minima:
            if value is not None and limit is not None and value < limit:
                return f"{name} {value:.6g} < {limit:.6g}"
        for name, value, limit in (("area", area, self.max_area), ("fraction", fraction, self.max_fraction)):
            if limit is not None and value > limit:
                return f"{name} {value:.6g} > {limit:.6g}"
        return None


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `score`."""
    register("score", Score)
