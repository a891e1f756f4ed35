"""score: drops masks that score low, change much with the threshold, or have the wrong size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import Field

from maskmill import Filter, Image, Mask, Problem, hookimpl


class Score(Filter):
    """Keeps masks that reach every minimum and exceed no maximum given; a limit itself is allowed.

    A mask whose backend gave no score (or no stability) is not judged by it: it is kept.
    """

    min_score: float | None = Field(None, ge=0, le=1, description="least predicted IoU")
    min_stability: float | None = Field(None, ge=0, le=1, description="least stability score")
    min_area: int | None = Field(None, ge=0, description="least area in pixels")
    max_area: int | None = Field(None, ge=0, description="largest area in pixels")
    min_fraction: float | None = Field(None, ge=0, le=1, description="least area as a part of the image's")
    max_fraction: float | None = Field(None, ge=0, le=1, description="largest area as a part of the image's")

    def check(self) -> list[Problem]:
        """A minimum above its maximum is an error, a filter without limits worth a warning."""
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
        """The masks, those beyond a limit marked with the first reason."""
        return [mask.drop(reason) if (reason := self._fault(mask)) else mask for mask in masks]

    def _fault(self, mask: Mask) -> str | None:
        height, width = mask.size
        area = mask.area
        fraction = area / (height * width)
        lows = (
            ("score", mask.score, self.min_score),
            ("stability", mask.stability, self.min_stability),
            ("area", area, self.min_area),
            ("fraction", fraction, self.min_fraction),
        )
        for name, value, limit in lows:
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
