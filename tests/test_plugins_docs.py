"""docs/plugins.md is true: its code works, its commands print what it shows, its signatures are those of the code."""

import http.server
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import jsonschema
import pytest

from maskmill import Pipeline, read_run, testing
from maskmill.cli import main
from maskmill.cli.run import main as run_pipeline
from maskmill.config.json_schema import build_schema
from maskmill.config.yaml_reader import load_yaml
from maskmill.plugins import hooks as hookspecs, optional, roles as stages
from maskmill.plugins.find import find_drop_ins
from maskmill.plugins.registry import Registry

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: file -> text of each block of code that is a file
FILES = {text.splitlines()[0].removeprefix("# "): text for kind, text in BLOCKS if kind in {"python", "yaml", "toml"}}
DROP_INS = [name for name in FILES if name.startswith("plugins/") and not name.startswith("plugins/_")]
SESSIONS = [text for kind, text in BLOCKS if kind == "console"]
ROLES = (stages.Stage, stages.PromptSource, stages.Backend, stages.Filter, stages.Writer)


class Answers(http.server.BaseHTTPRequestHandler):
    """The service of an example: one box in every picture."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers["Authorization"] == "Bearer open"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(
            json.dumps([{"box": [0, 0, 1, 1], "label": "thing", "score": 0.9}] if allowed else []).encode()
        )

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def service():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with every file of the page."""
    folder = tmp_path_factory.mktemp("user 用户")
    testing.write_pictures(folder / "photos")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def there(home, service, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("SERVICE_URL", service)
    monkeypatch.setenv("SERVICE_KEY", "open")
    return home


def python(*arguments, **environ):
    paths = [str(ROOT / "framework"), str(ROOT / "plugins"), environ.pop("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8", **environ}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def said(command, capsys):
    """Run a command line of the page; gives what it prints."""
    words = shlex.split(command)
    if words[0] == "pytest":
        return python(*words, "-p", "no:cacheprovider")
    mains = {"maskmill": main, "run-pipeline": run_pipeline}
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        mains[words[0]](words[1:])
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    return printed.out


def test_every_block_is_a_file_or_a_session():
    kinds = {kind for kind, _ in BLOCKS}
    assert kinds == {"python", "yaml", "toml", "console", "json", "text"}
    assert len(FILES) == sum(kind in {"python", "yaml", "toml"} for kind, _ in BLOCKS)
    assert all(re.fullmatch(r"[\w/]+\.(py|yaml|toml)", name) for name in FILES)


def test_the_first_plugin_has_thirty_lines_at_most():
    assert len(FILES["plugins/big.py"].splitlines()) <= 30


@pytest.mark.parametrize("name", DROP_INS)
def test_the_plugins_keep_their_contract(there, service, name):
    options = {"url": service, "key": "open"} if name == "plugins/service.py" else {}
    assert testing.problems(there / name, options) == []


def test_there_is_a_plugin_of_each_role():
    texts = "".join(FILES[name] for name in DROP_INS)
    for base in ROLES[1:]:
        assert re.search(rf"\({base.__name__}\):", texts)
    assert "def image_finished(" in texts


@pytest.mark.parametrize("session", SESSIONS, ids=lambda text: text.splitlines()[0][2:])
def test_the_commands_print_what_is_shown(there, session, capsys):
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        printed = said(command, capsys)
        for line in shown:
            assert line.strip() in printed, f"{command}\nprinted:\n{printed}"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".yaml")])
def test_the_pipeline_files_are_right(there, name):
    schema = build_schema(Registry.load(find_drop_ins(there / name)))
    tree = load_yaml(FILES[name].replace("${", "$${").encode(), name).tree
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(tree)] == []
    problems = Pipeline.load(name).check()
    assert [str(problem) for problem in problems if not problem.warning] == []


def test_all_plugins_work_together(there, capsys):
    Pipeline.load("all.yaml", sets=["run.engine=inline"]).run(quiet=True)
    results = {result.key: result for result in read_run("outputs/all")}
    assert set(results) == set(testing.PICTURES)
    assert all(result.notes["service"] == {"found": 1} for result in results.values())
    sums = (there / "outputs/all/areas/sums.csv").read_text(encoding="utf-8")
    assert sums.startswith("label,area\n")
    empty = sorted(key for key, result in results.items() if result.status == "empty")
    told = re.findall(r"^nothing in (.+?): ", capsys.readouterr().err, re.MULTILINE)
    assert empty
    assert sorted(told) == empty


def test_the_source_that_asks_stops_the_run_for_a_wrong_key(there, monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "wrong")
    report = Pipeline.load("all.yaml", output=there / "refused", sets=["run.engine=inline"]).run(quiet=True)
    assert (report.outcome, report.ran) == ("stopped", 0)
    assert "the service refuses the key; set SERVICE_KEY" in report.message
    everything = "".join(path.read_text("utf-8", "replace") for path in (there / "refused").glob("*.json*"))
    assert "wrong" not in everything


def test_the_package_is_found_with_its_command(there, tmp_path):
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    about = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["maskmill"].items())
    (about / "entry_points.txt").write_text(f"[maskmill]\n{points}", encoding="utf-8")
    (tmp_path / "maskmill_shapes.py").write_text(FILES["maskmill_shapes.py"], encoding="utf-8")
    listed = python("maskmill", "plugins", "list", PYTHONPATH=str(tmp_path))
    assert re.search(r"^wide +filter +package maskmill-shapes 1.0 +Keeps masks", listed, re.MULTILINE)
    Pipeline.load("first.yaml", output=tmp_path / "out", sets=["run.engine=inline"]).run(quiet=True)
    counted = python("maskmill", "shapes", str(tmp_path / "out"), PYTHONPATH=str(tmp_path))
    assert re.fullmatch(r"\d+ wide, \d+ high\n", counted)


def test_the_editor_setting_is_json():
    (setting,) = (text for kind, text in BLOCKS if kind == "json")
    assert json.loads(setting) == {"yaml.schemas": {"./pipeline.schema.json": "pipelines/*.yaml"}}


def signature(name, function):
    return f"{name}{inspect.signature(function)}".replace("'", "")


def documented(first):
    """The signatures in the page whose first argument is one of these."""
    found = re.findall(r"^- `(\w+\(([\w]*).*?\) -> .+?)`", PAGE, re.MULTILINE)
    return [text for text, argument in found if argument in first]


def test_every_hook_is_there_with_its_signature():
    hooks = [signature(name, hook) for name, hook in vars(hookspecs).items() if inspect.isfunction(hook)]
    assert len(hooks) == 9
    assert sorted(documented({"register", "cli", "run"})) == sorted(hooks)


def test_every_method_of_the_roles_is_there_with_its_signature():
    methods = []
    for role in (
        *ROLES,
        *optional.STAGE_PROTOCOLS,
        *(each for of_role in optional.BY_ROLE.values() for each in of_role),
    ):
        for name, method in vars(role).items():
            function = method.__func__ if isinstance(method, classmethod) else method
            if inspect.isfunction(function) and not name.startswith("_"):
                methods.append(signature(name, function))
    assert len(methods) > 20
    assert sorted(documented({"self", "cls"})) == sorted(methods)


def test_every_attribute_of_the_roles_is_there_with_its_default():
    for role in ROLES:
        for name in role.__annotations__:
            if not name.startswith("_") and name != "model_config":
                default = json.dumps(value) if isinstance(value := getattr(role, name), str) else str(value)
                patterns = (rf"\| `{name}` \| `{re.escape(default)}` \|", rf"`{name}` \(`{re.escape(default)}`\)")
                assert any(re.search(pattern, PAGE) for pattern in patterns), f"{role.__name__}.{name} = {default}"


def test_the_helpers_for_tests_are_those_of_the_code():
    rows = re.findall(r"^\| (`.+?) \|", PAGE.split("## Tests")[1].split("\n## ")[0], re.MULTILINE)
    names = set()
    for call in re.findall(r"`(.+?)`", " ".join(rows)):
        name, _, arguments = call.rstrip(")").partition("(")
        names.add(name)
        if arguments:
            parameters = [str(p).split(":")[0] for p in inspect.signature(getattr(testing, name)).parameters.values()]
            assert arguments.split(", ") == parameters
    things = [thing for thing in vars(testing).values() if inspect.isclass(thing) or inspect.isfunction(thing)]
    own = {thing.__name__ for thing in things if thing.__module__.startswith(f"{testing.__name__}.")}
    public = {name for name in own if not name.startswith(("_", "register_"))}
    assert names == public


def test_the_sections_that_it_links_to_exist():
    headings = {re.sub(r"[^\w -]", "", text).replace(" ", "-").lower() for text in re.findall(r"^#+ (.+)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
