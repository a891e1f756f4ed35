"""What several test modules need: a pipeline in a folder, with plugins that misbehave on demand."""

import functools
import json
import textwrap
import urllib.request
from pathlib import Path

import hf_models
import pytest

from maskmill import testing

#: A drop-in with a source, a backend, a filter that does what an image's name says, and a writer.
PLUGINS = '''
import os, signal, time
from pydantic import Field
from maskmill import NO_EFFECT, Backend, Box, Filter, PluginError, Problem, Prompt, PromptSource, StopRun
from maskmill import Transient, Writer, hookimpl, save
from maskmill.testing import FillPrompt


class Middle(PromptSource):
    """One box in the middle."""

    def prompts(self, image):
        x, y = image.width / 4, image.height / 4
        return [Prompt(box=Box(x, y, 3 * x, 3 * y), label="thing")]


class Slow(FillPrompt):
    """Takes its time; cannot be opened if told so."""

    seconds: float = 0.0
    model: str = "a"
    refuse: str = ""
    memory: int = 0

    def open(self):
        if self.refuse == "raise":
            raise ValueError("no such weights")
        if self.refuse == "hint":
            raise PluginError(Problem("the weights are damaged", "w.pth", hint="download them again"))
        if self.refuse == "die":
            os._exit(3)

    def model_id(self):
        return "slow-" + self.model

    def masks(self, image, prompts, embedding=None):
        time.sleep(self.seconds)
        return super().masks(image, prompts, embedding)


class Chaos(Filter):
    """Does what the name of the image says, on as many tries as a file beside it counts."""

    counter: str = ""
    until: int = 3

    def apply(self, image, masks):
        name = image.ref.key
        if self.counter:
            with open(os.path.join(self.counter, name.replace("/", "_")), "a", encoding="utf-8") as file:
                file.write("x")
                file.flush()
                tries = file.tell()
        if "poison" in name or ("flaky" in name and tries < self.until):
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        if "hang" in name:
            while True:
                time.sleep(60)
        if "raise" in name:
            raise RuntimeError("as told")
        if "stop" in name:
            raise StopRun("budget spent")
        return [] if "empty" in name else list(masks)


class Areas(Writer):
    """The areas of the masks in a text file; at the end, all keys in one."""

    suffix: str = ".txt"
    finish_seconds: float = Field(0.0, json_schema_extra=NO_EFFECT)
    finishing: str = Field("", json_schema_extra=NO_EFFECT)

    def write(self, image, result, folder):
        return [save(folder, result.key, repr([mask.area for mask in result.kept]).encode(), self.suffix)]

    def finish(self, results, folder):
        lines = []
        if self.finishing:
            open(self.finishing, "x", encoding="utf-8").close()
        for result in results:
            time.sleep(self.finish_seconds)
            lines.append(f"{result.key} {result.status}")
        return [save(folder, "all", "\\n".join(lines).encode(), ".list")]


@hookimpl
def register_prompt_sources(register):
    register("middle", Middle)


@hookimpl
def register_backends(register):
    register("slow", Slow)


@hookimpl
def register_filters(register):
    register("chaos", Chaos)


@hookimpl
def register_writers(register):
    register("areas", Areas)
'''


class Project:
    """A pipeline file with photos and plugins beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        (folder / "plugins").mkdir(parents=True)
        (folder / "plugins" / "fakes.py").write_text(PLUGINS, encoding="utf-8")
        (folder / "count").mkdir()
        self.file = folder / "p.yaml"
        self.write()

    def write(self, backend: str = "{use: slow}", run: str = "{engine: inline}", extra: str = "") -> Path:
        text = f"""
        dataset: photos
        prompts: [{{use: middle}}]
        backend: {backend}
        filters: [{{use: chaos, counter: '{(self.folder / "count").as_posix()}'}}]
        writers: [{{use: areas}}]
        output: out
        run: {run}
        {extra}
        """
        self.file.write_text(textwrap.dedent(text), encoding="utf-8")
        return self.file

    def photos(self, *names: str) -> None:
        for number, name in enumerate(names):
            testing.write_picture(self.folder / "photos" / name, seed=number)

    def many(self, count: int) -> list[str]:
        names = [f"{number:03}.png" for number in range(count)]
        self.photos(*names)
        return names

    def tries(self, name: str) -> int:
        path = self.folder / "count" / name.replace("/", "_")
        return path.stat().st_size if path.exists() else 0

    def statuses(self) -> dict[str, str]:
        from maskmill.output.ledger import Ledger

        with Ledger.open_existing(self.output) as ledger:
            return {row.key: row.status for row in ledger.rows()}

    def failures(self) -> dict[str, dict]:
        lines = (self.output / "failures.jsonl").read_text(encoding="utf-8").splitlines()
        return {line["key"]: line for line in map(json.loads, lines)}

    def files(self) -> dict[str, bytes]:
        """Every output that must not depend on how the run went."""
        skip = {"ledger.sqlite", "entries.sqlite", "run.json", ".lock"}
        return {
            path.relative_to(self.output).as_posix(): path.read_bytes()
            for path in sorted(self.output.rglob("*"))
            if path.is_file() and path.name not in skip
        }


def pytest_addoption(parser):
    """`--engines dask,ray` has the tests of `tests/faults` run with these."""
    parser.addoption(
        "--engines", default="joblib", help="run the tests about faults with these engines: joblib,dask,ray"
    )


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "项目 one")


@pytest.fixture(scope="module")
def one_torch_thread():
    """On a busy machine, several threads would mostly wait for each other."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKMILL_THREADS", "1")
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def hf_folders(tmp_path_factory):
    """Makes the folder of a model, once for each kind."""
    root = tmp_path_factory.mktemp("models")
    return functools.cache(lambda kind: hf_models.save(kind, root / kind))


@pytest.fixture(scope="session")
def opened_hf(hf_folders):
    """Opens the backend with a model, once for each kind and set of options."""
    from maskmill_plugins.backends.hf import Hf

    made = []

    @functools.cache
    def make(kind, **options):
        backend = Hf(model=str(hf_folders(kind)), device="cpu", **options)
        assert backend.check() == []
        backend.open()
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(scope="module")
def s3_server():
    """The address of a server with the S3 protocol: moto's."""
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def endpoint(s3_server, monkeypatch):
    """The address of an S3 server that has one empty bucket, `inbox`; this process has keys and options for it."""
    from maskmill import storage

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-never-shown")
    storage.configure(storage.StorageOptions(s3_server))
    for path, method in (("moto-api/reset", "POST"), ("inbox", "PUT")):
        urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{path}", method=method)).close()
    yield s3_server
    storage.configure(None)
