"""A project under test: started as users start it, watched, killed, and looked at afterwards."""

import contextlib
import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
import uuid
from pathlib import Path

import psutil
import pytest

import maskmill.chain.plugin_call
from maskmill import Pipeline

DROP_IN = Path(__file__).with_name("trouble.py")


class Mill:
    """A pipeline in a folder, and the processes that this test started.

    Attributes:
        prefix: what is put before the command of a run, to start it elsewhere.
    """

    def __init__(self, project, engine="joblib"):
        self.project = project
        self.engine = engine
        self.folder = project.folder
        self.output = project.output
        self.photos = project.photos
        self.mark = uuid.uuid4().hex
        self.counts = self.folder / "counts"
        self.counts.mkdir()
        (self.folder / "plugins" / "trouble.py").write_bytes(DROP_IN.read_bytes())
        self.started = []
        self.prefix = []
        self.write()

    def write(self, mode="joblib", backend="", source="", writer="", run=""):
        """The pipeline file; each text is put into the options of its plugin.

        `mode` is inline, joblib, or lane: joblib with a source that waits on a network. `--engines` puts others in
        the place of joblib.
        """
        prompts = f"ahead{source and ', '}{source}" if mode == "lane" else "centre"
        if mode == "inline" and self.engine != "joblib":
            pytest.skip("the same with every engine")
        engine = "inline" if mode == "inline" else self.engine
        lines = [
            "dataset: photos",
            f"prompts: [{{use: {prompts}}}]",
            f"backend: {{use: work{backend and ', '}{backend}}}",
            f"writers: [{{use: notes{writer and ', '}{writer}}}]",
            f"output: '{self.output.as_posix()}'",
            f"run: {{engine: {engine}, jobs: 2{run and ', '}{run}}}",
        ]
        self.project.file.write_text("\n".join(lines), encoding="utf-8")

    def many(self, count, folder=""):
        self.photos(*(f"{folder}{number:03}.png" for number in range(count)))

    def start(self, *arguments, **environment):
        """Start `maskmill run` in a session of its own."""
        environ = {**os.environ, "PYTHONUTF8": "1", "MILL": self.mark, "MILL_COUNTS": str(self.counts), **environment}
        # A flag of developers, under which libraries warn on the terminal; users do not have it.
        environ.pop("PYTHONWARNDEFAULTENCODING", None)
        process = psutil.Popen(
            [*self.prefix, sys.executable, "-m", "maskmill", "run", str(self.project.file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=environ,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def start_on_terminal(self, *before):
        """Start `maskmill run` on a terminal of its own: the process, and the file descriptor of the other end."""
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        process = psutil.Popen(
            [*before, sys.executable, "-m", "maskmill", "run", str(self.project.file)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONUTF8": "1", "MILL": self.mark, "MILL_COUNTS": str(self.counts)},
            cwd=self.folder,  # nohup leaves a file there
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.started.append(process)
        return process, master

    def end(self, process, seconds=40):
        """Wait; the exit code and all that it said. No traceback and no orphan are allowed."""
        said, _ = process.communicate(timeout=seconds)
        assert "Traceback" not in said, said
        self.assert_no_orphans()
        return process.returncode, said

    def run(self, *arguments, **environment):
        """Run to the end: the exit code and all that it said."""
        return self.end(self.start(*arguments, **environment))

    def reference(self):
        """The files of an undisturbed run of the same pipeline, made elsewhere, without processes."""
        elsewhere = self.folder / "reference"
        settings = ["run.engine=inline", "backend.seconds=0", "backend.opening=''", "writers.0.finish_seconds=0"]
        if "use: ahead" in self.project.file.read_text(encoding="utf-8"):
            settings += ["prompts.0.seconds=0", "prompts.0.opening=''"]
        self.run_here(output=elsewhere, sets=settings)
        return files(elsewhere)

    def run_here(self, **overrides):
        """Run to the end in this process, where nothing dies; the plugin's doings are not counted."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MILL_COUNTS", "")
            patch.setattr(
                "maskmill.chain.plugin_call.PAUSES", maskmill.chain.plugin_call.PAUSES
            )  # the plugin sets them
            return Pipeline.load(self.project.file, **overrides).run(quiet=True)

    def files(self):
        return files(self.output)

    def statuses(self):
        return self.project.statuses()

    def failures(self):
        return self.project.failures()

    def tries(self, key, role="backend"):
        path = self.counts / f"{role}~{key.replace('/', '_')}"
        return path.stat().st_size if path.exists() else 0

    def finished(self):
        """How many images have a stored result."""
        return sum(1 for path in (self.output / "results").rglob("*.json")) if self.output.exists() else 0

    def about(self):
        return json.loads((self.output / "run.json").read_text(encoding="utf-8"))

    def processes(self):
        """Every process that descends from one that this test started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MILL") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self, process):
        """The processes below a driver."""
        with contextlib.suppress(psutil.Error):
            return process.children(recursive=True)
        return []

    def victims(self, process):
        """Workers and the lane: not the trackers of semaphores, nor a child that has not begun its own program."""
        own = ("popen_loky", "slot_process", "prompt_lane_process")
        return [child for child in self.workers(process) if any(name in command(child) for name in own)]

    def lane(self, process):
        return [child for child in self.workers(process) if "maskmill.run.prompt_lane_process" in command(child)]

    def kill_at(self, done, *arguments):
        """Start, and SIGKILL the driver once so many images have their result."""
        process = self.start("-q", *arguments)
        wait_until(lambda: self.finished() >= done or process.poll() is not None)
        process.kill()
        said, _ = process.communicate(timeout=30)
        assert "Traceback" not in said, said
        self.assert_no_orphans()

    def assert_no_orphans(self, seconds=5.0):
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, [command(process) for process in left]
            time.sleep(0.05)

    def assert_tidy(self):
        """One status an image, no temporary file, nothing that belongs to no image."""
        assert [str(path) for path in self.output.rglob(".mm-*")] == []
        assert not list(self.output.glob("ledger.sqlite-*"))
        keys = sorted(path.relative_to(self.folder / "photos").as_posix() for path in self.pictures())
        assert sorted(self.statuses()) == keys
        results = {path.relative_to(self.output / "results").as_posix()[:-5]: path for path in self.results()}
        # The masks of an image whose writer stopped the run are there for the next one.
        unfinished = {key for key, path in results.items() if b'"type":"Unfinished"' in path.read_bytes()}
        assert results.keys() - unfinished == set(keys)

    def pictures(self):
        return [path for path in (self.folder / "photos").rglob("*") if path.is_file()]

    def results(self):
        return list((self.output / "results").rglob("*.json"))

    def assert_resumes(self, reference=None):
        """A rerun finds nothing to do and changes nothing."""
        before = self.files()
        assert reference is None or differences(before, reference) == []
        report = self.run_here()
        assert report.ran == 0
        assert differences(self.files(), before) == []
        bad = [status for status in self.statuses().values() if status in ("failed", "quarantined")]
        assert report.exit_code == (1 if bad else 0)

    def end_all(self):
        for process in [*self.started, *self.processes()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self.started:
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def _take_terminal():
    """As a shell does for its programs, whatever the program that started the tests ignores."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def files(folder):
    """Every file that must not depend on how the run went."""
    skip = {"ledger.sqlite", "entries.sqlite", "run.json", ".lock"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skip
    }


def differences(one, other):
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def command(process):
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def points(seed, count, total):
    """Seeded numbers of finished images to kill at, rising, with room on both sides."""
    chosen = random.Random(seed).sample(range(int(0.1 * total), int(0.85 * total)), count)
    return sorted(chosen)
