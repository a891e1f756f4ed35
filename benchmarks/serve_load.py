"""A server under overload: its responses, the latency of its health check, its memory.

    maskmill serve --backend grabcut --port 5000 &
    python benchmarks/serve_load.py http://127.0.0.1:5000 --seconds 60

First a single client measures how many requests the server answers per second; then many clients
together send `--times` as many, ignoring `Retry-After`. At the end as many clients that do wait
must get every request answered. With `--images` the memory is measured instead, while so many
different images are uploaded and segmented.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import httpx
import numpy as np
import PIL.Image


def photo(seed: int, side: int) -> bytes:
    """A JPEG file's bytes: noise with an object in it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (side, side, 3), dtype=np.uint8)
    pixels[side // 4 : -side // 4, side // 4 : -side // 4] += np.uint8(150)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def prompt(side: int) -> dict[str, object]:
    """A request for the mask of one box, slightly different each time."""
    left = random.uniform(0.1, 0.2) * side
    return {"prompts": [{"box": [left, left, 0.8 * side, 0.8 * side]}]}


class Load:
    """Sends requests and counts the responses.

    Args:
        url: of the server.
        side: of the images, in pixels.
        count: of different images.
    """

    def __init__(self, url: str, side: int, count: int) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.http = httpx.AsyncClient(base_url=url, timeout=330, limits=limits, trust_env=False)
        self.watcher = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        self.side = side
        self.count = count
        self.ids: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def upload(self) -> None:
        """Send the images."""
        for seed in range(self.count):
            answer = await self.http.post("/v1/images", content=photo(seed, self.side))
            self.ids.append(answer.json()["id"])

    async def ask(self) -> httpx.Response:
        """One request for a mask."""
        started = time.perf_counter()
        answer = await self.http.post(f"/v1/images/{random.choice(self.ids)}/masks", json=prompt(self.side))
        without = "" if answer.status_code == 200 or "retry-after" in answer.headers else " without Retry-After"
        self.statuses[f"{answer.status_code}{without}"] += 1
        if answer.status_code == 200:
            self.seconds.append(time.perf_counter() - started)
        return answer

    async def capacity(self, seconds: float = 5.0) -> float:
        """Requests per second that the server answers one after another."""
        await self.ask()
        end, done = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            await self.ask()
            done += 1
        return done / seconds

    async def client(self, rate: float, end: float) -> None:
        """Send requests at this rate, or as fast as they are answered."""
        await asyncio.sleep(random.uniform(0, 1 / rate))
        while (now := time.monotonic()) < end:
            await self.ask()
            await asyncio.sleep(max(0.0, now + 1 / rate - time.monotonic()))

    async def patient(self, jobs: int) -> int:
        """Get so many requests answered, obeying `Retry-After`; returns how often it waited."""
        waits = 0
        while jobs:
            answer = await self.ask()
            if answer.status_code == 200:
                jobs -= 1
                continue
            waits += 1
            await asyncio.sleep(float(answer.headers["retry-after"]) * random.uniform(1, 1.5))
        return waits

    async def rss(self) -> float:
        """The server's memory in MB, from its metrics."""
        text = (await self.watcher.get("/metrics")).text
        found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
        return float(found[1]) / 1e6 if found else float("nan")


def watch(url: str, seconds: float) -> list[float]:
    """Time the health check, ten times a second; in a process of its own, which is less busy than the clients."""
    found, end = [], time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < end:
            started = time.perf_counter()
            assert http.get("/healthz").status_code == 200
            found.append(time.perf_counter() - started)
            time.sleep(0.1)
    return found


def percentiles(values: list[float]) -> str:
    """p50, p95, p99 and maximum in milliseconds."""
    if not values:
        return "none"
    cuts = np.percentile(values, [50, 95, 99, 100]) * 1000
    return "p50 {:.1f}  p95 {:.1f}  p99 {:.1f}  max {:.1f} ms".format(*cuts)


async def overload(load: Load, clients: int, times: float, seconds: float) -> None:
    """Overload the server; then get everything answered with clients that wait."""
    await load.upload()
    capacity = await load.capacity()
    print(f"one client: {capacity:.1f} requests/s, {percentiles(load.seconds)}", flush=True)
    load.statuses.clear(), load.seconds.clear()
    rate = times * capacity / clients
    with ProcessPoolExecutor(1) as other:
        watching = asyncio.get_running_loop().run_in_executor(other, watch, str(load.http.base_url), seconds)
        end = time.monotonic() + seconds
        health, *_ = await asyncio.gather(watching, *(load.client(rate, end) for _ in range(clients)))
    print(f"{clients} clients, {times:g} times that, {seconds:g} s: {dict(load.statuses)}")
    print(f"  answered: {load.statuses['200'] / seconds:.1f}/s, {percentiles(load.seconds)}")
    print(f"  /healthz: {percentiles(health)} ({len(health)} times)")
    print(f"  memory: {await load.rss():.0f} MB", flush=True)
    load.statuses.clear()
    waits = sum(await asyncio.gather(*(load.patient(5) for _ in range(clients))))
    print(f"{clients} clients that wait as told, 5 requests each: {dict(load.statuses)}, {waits} waits")


async def memory(load: Load, images: int) -> None:
    """Upload and segment so many different images, printing the server's memory."""
    for number in range(1, images + 1):
        answer = await load.http.post("/v1/images", content=photo(number, load.side))
        load.ids = [answer.json()["id"]]
        await load.ask()
        if number in (100, 500) or number % 500 == 0:
            print(f"{number} images: {await load.rss():.1f} MB, {dict(load.statuses)}", flush=True)


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=4.0, help="of what the server answers to one client")
    parser.add_argument("--side", type=int, default=640, help="of the images, in pixels")
    parser.add_argument("--different", type=int, default=8, help="images under load")
    parser.add_argument("--images", type=int, help="measure memory over so many images instead")
    chosen = parser.parse_args()
    load = Load(chosen.url, chosen.side, chosen.different)
    if chosen.images:
        asyncio.run(memory(load, chosen.images))
    else:
        asyncio.run(overload(load, chosen.clients, chosen.times, chosen.seconds))


if __name__ == "__main__":
    main()
