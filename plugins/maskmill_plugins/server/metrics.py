"""The metrics that Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds of the histograms in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the series
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, buckets=BUCKETS, registry=registry)
        self.requests = counter("maskmill_requests", "Requests answered.", ("method", "route", "status"))
        self.request_seconds = histogram("maskmill_request_seconds", "Seconds from request to response.", ("route",))
        self.job_seconds = histogram("maskmill_job_seconds", "Seconds of computation, by part of a job.", ("part",))
        self.prompts = counter("maskmill_prompts", "Prompts answered.")
        text = "Embeddings requested from the backend, which may read them from a cache on disk."
        self.encoder_passes = counter("maskmill_encoder_passes", text)
        self.embedding_hits = counter("maskmill_embedding_hits", "Jobs whose embedding was in memory.")

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed at every scrape."""
        Gauge(f"maskmill_{name}", text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
