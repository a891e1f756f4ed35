"""What watches over servers asks: is it alive, is it ready, what are the numbers. None of it waits for the model."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from ..compute.host import Host
from .metrics import CONTENT_TYPE
from .problems import responses

TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def install(app: FastAPI, host: Host) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`."""

    @app.get("/healthz", summary="Is the process alive", response_class=Response, responses=responses({200: TEXT}))
    async def healthz() -> Response:
        """Always 200."""
        return Response("ok\n", media_type="text/plain")

    @app.get(
        "/readyz", summary="May requests be sent", response_class=Response, responses=responses({200: TEXT}, "loading")
    )
    async def readyz() -> Response:
        """200 once the model is loaded, 503 before and while the server ends."""
        host.check_open()
        host.check_ready()
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response, responses=responses({200: TEXT}))
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(host.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
