"""What a run does when machines of its cluster are lost: Dask and Ray on several hosts made of Linux namespaces.

    python benchmarks/cluster_faults.py --engine dask --only cut

Needs root, and the packages that the tests need. Each host has a network, processes, temporary files and a name of its
own; the folder of the project is the drive that they share. Prints a line for each fault: what held, or what did not.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from conftest import Project  # noqa: E402
from hosts import KINDS, Network  # noqa: E402
from mill import Mill, differences, wait_until  # noqa: E402

IMAGES = 40
#: Seconds that a cut lasts.
CUT = 60
VARIABLES = "environment: [MILL, MILL_COUNTS]"


class Trial:
    """A cluster of one head and two hosts, and a pipeline."""

    def __init__(self, kind: str, folder: Path, network: Network) -> None:
        self.kind, self.network = kind, network
        self.mill = Mill(Project(folder), kind)
        self.mill.many(IMAGES)
        self.cluster = KINDS[kind](network, self.mill.folder)
        self.mill.prefix = [*self.cluster.driver.prefix(), "sh", "-c", 'hostname driver; exec "$@"', "sh"]
        self.write()
        self.reference = self.mill.reference()
        time.sleep(0 if kind == "dask" else 6)

    def write(self, patience: int = 300, seconds: float = 0.5) -> None:
        """The pipeline file."""
        about = f"address: '{self.cluster.address}', patience: {patience}, {VARIABLES}"
        self.mill.engine = f"{{use: {self.kind}, {about}}}"
        self.mill.write(backend=f"seconds: {seconds}")

    def finish(self, process: Any, seconds: float = 150) -> str:
        """Wait for the end of a run that has to succeed; returns what it said."""
        code, said = self.mill.end(process, seconds)
        assert code == 0, said
        assert differences(self.mill.files(), self.reference) == [], said
        assert set(self.mill.statuses().values()) == {"done"}, said
        return str(said)

    def extra(self) -> str:
        """How many images were begun more than once."""
        more = sum(self.mill.tries(f"{number:03}.png") - 1 for number in range(IMAGES))
        return f"{more} of {IMAGES} images begun again"

    def start_until(self, done: int) -> Any:
        """Start a run and wait for some images."""
        process = self.mill.start()
        wait_until(lambda: self.mill.finished() >= done or process.poll() is not None, 60)
        assert process.poll() is None, process.communicate()
        return process


def lose_host(trial: Trial) -> str:
    """A host is killed; another one comes."""
    first, _ = trial.cluster.add_worker("host1"), trial.cluster.add_worker("host2")
    process = trial.start_until(6)
    first.kill()
    trial.cluster.add_worker("host3")
    said = trial.finish(process)
    assert "went away" in said, said
    return trial.extra()


def lose_driver(trial: Trial) -> str:
    """The driver is killed, and started again."""
    trial.cluster.add_worker("host1")
    trial.cluster.add_worker("host2")
    process = trial.start_until(6)
    process.kill()
    process.communicate(timeout=30)
    trial.mill.assert_no_orphans(30)
    trial.finish(trial.mill.start())
    return trial.extra()


def lose_head(trial: Trial) -> str:
    """The host of the scheduler, or of Ray's head, is killed, and does not come back."""
    trial.cluster.add_worker("host1")
    trial.cluster.add_worker("host2")
    trial.write(patience=20, seconds=3.0)
    process = trial.start_until(6)
    before = time.monotonic()
    trial.cluster.head.kill()
    code, said = trial.mill.end(process, 240)
    assert code == 1, (code, said)
    assert "continue with:" in said, said
    assert set(trial.mill.statuses().values()) == {"done"}, said
    return f"stopped after {time.monotonic() - before:.0f} s: {_find(said, 'Stopped')}"


def replace_head(trial: Trial) -> str:
    """The host of the scheduler is killed, and comes back with its workers."""
    hosts = [trial.cluster.add_worker("host1"), trial.cluster.add_worker("host2")]
    process = trial.start_until(6)
    trial.cluster.head.kill()
    for host in hosts:
        host.kill()
    time.sleep(10)
    trial.cluster.start_head()
    for host in hosts:
        trial.cluster.add_worker(host=host)
    trial.finish(process)
    return trial.extra()


def cut_host(trial: Trial) -> str:
    """A host cannot be reached for a minute, and then again."""
    first, _ = trial.cluster.add_worker("host1"), trial.cluster.add_worker("host2")
    trial.write(seconds=3.0)
    process = trial.start_until(6)
    first.plug(connected=False)
    time.sleep(CUT)
    done = trial.mill.finished()
    first.plug(connected=True)
    trial.finish(process)
    return f"{done} done when it was back, {trial.extra()}"


def cut_all(trial: Trial) -> str:
    """No host can be reached for a minute."""
    hosts = [trial.cluster.add_worker("host1"), trial.cluster.add_worker("host2")]
    process = trial.start_until(6)
    for host in hosts:
        host.plug(connected=False)
    time.sleep(CUT)
    for host in hosts:
        host.plug(connected=True)
    trial.finish(process)
    return trial.extra()


def cut_driver(trial: Trial) -> str:
    """The driver cannot reach the scheduler for a minute."""
    trial.cluster.add_worker("host1")
    trial.cluster.add_worker("host2")
    process = trial.start_until(6)
    trial.cluster.driver.plug(connected=False)
    time.sleep(CUT)
    trial.cluster.driver.plug(connected=True)
    said = trial.finish(process)
    return f"{_find(said, 'warning')}; {trial.extra()}"


def hide_dataset(trial: Trial) -> str:
    """A host does not have the dataset."""
    trial.cluster.add_worker("host1", hidden=[trial.mill.folder / "photos"])
    return refuse(trial, "the worker on host1 does not see the dataset")


def hide_output(trial: Trial) -> str:
    """A host has the output of another run at the same path."""
    old = trial.mill.folder / "old"
    shutil.copytree(trial.mill.folder / "reference", old)
    mount = f"mkdir -p '{trial.mill.output}'; mount --bind '{old}' '{trial.mill.output}'"
    before = differences({}, {path.name: b"" for path in old.rglob("*")})
    trial.cluster.add_worker("host1", setup=mount)
    said = refuse(trial, "the worker on host1 does not see the run's folder at the output's path")
    assert before == differences({}, {path.name: b"" for path in old.rglob("*")}), "the old files were touched"
    return said


def change_version(trial: Trial) -> str:
    """A host has another version of maskmill."""
    trial.cluster.add_worker("host1", setup=pretend(trial, "maskmill"))
    return refuse(trial, "host1 has maskmill 9.9.9, this machine")


def change_library(trial: Trial) -> str:
    """A host has another version of PyTorch."""
    trial.cluster.add_worker("host1", setup=pretend(trial, "torch"))
    code, said = trial.mill.end(trial.mill.start(), 150)  # the results name the version, so their bytes differ
    assert code == 0, said
    return _find(said, "host1 has torch 9.9.9 instead of")


def pretend(trial: Trial, package: str) -> str:
    """Have a host find another version of a package installed."""
    folder = trial.mill.folder / "elsewhere" / f"{package}-9.9.9.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9.9\n", encoding="utf-8")
    return f"export PYTHONPATH='{folder.parent}':$PYTHONPATH"


def refuse(trial: Trial, text: str) -> str:
    """A run that must not begin."""
    code, said = trial.mill.end(trial.mill.start(), 90)
    assert code == 2, (code, said)
    assert text in said, said
    assert trial.mill.statuses() == {}, said
    return _find(said, text)


def _find(said: str, text: str) -> str:
    return next((line.strip() for line in said.splitlines() if text in line), f"no line with {text!r}:\n{said}")


@contextmanager
def trying(kind: str) -> Iterator[Trial]:
    """A cluster for one fault."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Network() as network:
        trial = Trial(kind, Path(folder) / "project one", network)
        try:
            yield trial
        finally:
            trial.mill.end_all()
            trial.cluster.end()


FAULTS: list[Callable[[Trial], str]] = [
    lose_host,
    lose_driver,
    lose_head,
    replace_head,
    cut_host,
    cut_all,
    cut_driver,
    hide_dataset,
    hide_output,
    change_version,
    change_library,
]


@click.command()
@click.option("--engine", "kinds", multiple=True, default=["dask", "ray"], type=click.Choice(list(KINDS)))
@click.option("--only", default="", help="only the faults with this in their name")
def main(kinds: tuple[str, ...], only: str) -> None:
    """Try each fault with each engine."""
    failed = 0
    for kind in kinds:
        for fault in FAULTS:
            if only not in fault.__name__ or (kind == "ray" and fault in (cut_driver, replace_head)):
                continue  # Ray's driver is on a machine of the cluster, and the head is more than a scheduler
            began = time.monotonic()
            try:
                with trying(kind) as trial:
                    verdict = f"held: {fault(trial)}"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failed += 1
                verdict = f"BROKE: {''.join(traceback.format_exception_only(error))[-3000:]}"
            click.echo(f"{kind} {fault.__name__} ({fault.__doc__}) {time.monotonic() - began:.0f} s: {verdict}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
