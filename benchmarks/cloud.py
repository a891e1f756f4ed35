"""What a dataset in object storage costs: listing many objects, and requests and processor time an image.

    python benchmarks/cloud.py --objects 1000000
    python benchmarks/cloud.py --images 1000 --also s3fs        # needs `pip install s3fs`

The bucket is a stand-in on this machine that lists lazily and keeps no objects. With `--objects`, the first pictures
are segmented by a backend that does nothing, and their results are copied for all others; then come a run that finds
everything done, and one after one picture in a hundred was changed. Prints seconds, the peak memory of the driver, the
requests that the server counted, and what the run found. With `--images`, so many pictures of 48 kB are read one after
the other: processor time of the client and requests for each.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil
from overhead import PLUGIN

from maskmill.dataset.dataset import Dataset
from maskmill.output.ledger import Ledger
from maskmill.output.store import result_path, stat_result
from maskmill.storage import StorageOptions, configure
from maskmill.testing import write_picture

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from s3_stand_in import S3StandIn

FIRST = 64
SIZE = 48_000
ACCESS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
PIPELINE = """
dataset: s3://bucket/photos
storage: {{endpoint: "{endpoint}"}}
prompts: [{{use: manual, box: [1, 1, 7, 7]}}]
backend: {{use: nothing}}
writers: [{{use: silent}}]
output: out
run: {{jobs: 2, threads: 1}}
"""
CLIENTS = {
    "obstore": """
from maskmill.storage import StorageOptions, configure, read
configure(StorageOptions(endpoint))
def get(key): return read("s3://bucket/" + key)
""",
    "s3fs": """
import s3fs
files = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
def get(key): return files.cat_file("bucket/" + key)
""",
}
LOOP = """
import sys, time
endpoint, count = sys.argv[1], int(sys.argv[2])
{client}
get("photos/warm.png")
cpu, wall = time.process_time(), time.perf_counter()
for number in range(count):
    assert len(get(f"photos/{{number:07}}.png")) == 48_000
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def name(number: int) -> str:
    """The object with a number."""
    return f"photos/{number:07}.png"


def measure(label: str, server: S3StandIn, folder: Path, *arguments: object) -> None:
    """Run the pipeline and print what it cost."""
    server.requests.clear()
    log, peak, started = folder / "log.txt", 0, time.perf_counter()
    with log.open("wb") as out:
        command = [sys.executable, "-m", "maskmill", "run", str(folder / "p.yaml"), *map(str, arguments)]
        process = psutil.Popen(command, stdout=out, stderr=out, env={**os.environ, **ACCESS})
        while process.poll() is None:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.05)
    seconds = time.perf_counter() - started
    text = log.read_text("utf-8")
    found = next((line for line in text.splitlines() if line.startswith(f"{server.count} images")), text[-500:])
    click.echo(f"{label:24} {seconds:8.1f} s {peak / 2**20:6.0f} MiB  {dict(server.requests)}  {found}")


def copy_results(folder: Path, endpoint: str) -> None:
    """Results of all objects, those of the first ones under the names of the others."""
    configure(StorageOptions(endpoint, anonymous=True))
    out = folder / "out"
    with Ledger.create(out) as ledger:
        first = name(0).partition("/")[2]
        text, row = result_path(out, first).read_text(encoding="utf-8"), ledger.find_rows([first])[first]
        for number, ref in enumerate(Dataset(("s3://bucket/photos",), folder)):
            if number < FIRST:
                continue
            target = result_path(out, ref.key)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace(f'"{first}"', f'"{ref.key}"', 1), encoding="utf-8")
            ledger.record(row._replace(key=ref.key, mtime=ref.stat()[1]), stored=stat_result(out, ref.key))
        ledger.set_meta("finished", None)


def measure_listing(objects: int, folder: Path) -> None:
    """Many objects: listed, resumed, one in a hundred changed."""
    content, other = (write_picture(folder / f"{seed}.png", 8, 8, seed).path.read_bytes() for seed in (1, 2))
    (folder / "plugins").mkdir()
    (folder / "plugins" / "nothing.py").write_text(PLUGIN, encoding="utf-8")
    changed = False

    def body(key: str) -> bytes:
        return other if changed and key.endswith("00.png") else content

    with S3StandIn(objects, name, body, lambda key: "2" if body(key) is other else "1") as server:
        (folder / "p.yaml").write_text(PIPELINE.format(endpoint=server.address), encoding="utf-8")
        measure("the first images", server, folder, "--limit", FIRST)
        copy_results(folder, server.address)
        measure("run again", server, folder)
        changed = True
        measure("1 in 100 changed", server, folder)
        measure("run again", server, folder)


def measure_reading(images: int, clients: tuple[str, ...]) -> None:
    """Requests and processor time an image, by each client."""
    with S3StandIn(0, name, lambda key: b"\x89" * SIZE) as server:
        for client in clients:
            server.requests.clear()
            code = LOOP.format(client=CLIENTS[client])
            command = [sys.executable, "-c", code, server.address, str(images)]
            said = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **ACCESS}).stdout
            cpu, wall = (float(number) / images * 1000 for number in said.split())
            requests = sum(server.requests.values()) / (images + 1)
            click.echo(f"{client:10} {cpu:6.2f} ms CPU {wall:6.2f} ms an image, {requests:.2f} requests")


@click.command()
@click.option("--objects", type=click.IntRange(min=FIRST), help="List so many objects.")
@click.option("--images", type=click.IntRange(min=1), help="Read so many pictures.")
@click.option("--also", "others", multiple=True, type=click.Choice(["s3fs"]), help="Read them by this package, too.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work, instead of the temporary folder.")
def main(objects: int | None, images: int | None, others: tuple[str, ...], folder: Path | None) -> None:
    """Measure what was asked for."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    click.echo(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}")
    if images is not None:
        measure_reading(images, ("obstore", *others))
    if objects is not None:
        with tempfile.TemporaryDirectory(prefix="cloud-", dir=folder) as made:
            measure_listing(objects, Path(made))


if __name__ == "__main__":
    main()
