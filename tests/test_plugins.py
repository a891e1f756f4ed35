"""Finding and registering plugins: drop-ins, clashes, mistakes, each with a message that helps."""

import inspect
import re
import subprocess
import sys
from importlib import metadata

import click
import pytest

from maskmill import Backend, Pipeline, PipelineError, PluginError, PromptSource, hookimpl, testing
from maskmill.cli import main
from maskmill.config.load import load_config
from maskmill.plugins.find import blame_plugin, find_drop_ins
from maskmill.plugins.optional import optional_methods
from maskmill.plugins.registry import BUILT_IN, Registry

CENTER = '''
from maskmill import Point, Prompt, PromptSource, hookimpl
from pydantic import Field

class Center(PromptSource):
    """One foreground point in the middle of the image."""

    margin: float = Field(0.0, ge=0, lt=0.5)

    def prompts(self, image):
        return [Prompt(points=(Point(image.width / 2, image.height / 2),))]

@hookimpl
def register_prompt_sources(register):
    register("center", Center)
'''


def load(tmp_path, source, name="mine.py"):
    path = tmp_path / name
    path.write_text(source, encoding="utf-8")
    return Registry.load([path])


def test_the_built_ins_are_found_as_plugins_of_a_package():
    registry = Registry.load()
    names = {(entry.role, entry.name) for entry in registry.entries.values() if entry.origin == BUILT_IN}
    assert {("prompt source", "manual"), ("backend", "grabcut"), ("writer", "coco"), ("engine", "joblib")} <= names
    assert registry.get("backend", "local").cls is registry.get("backend", "sam").cls


def test_a_drop_in_file_is_a_plugin(tmp_path):
    registry = load(tmp_path, CENTER)
    stage = registry.build("prompt source", {"use": "center", "margin": 0.25})
    assert stage.margin == 0.25
    entry = registry.get("prompt source", "center")
    assert entry.origin.endswith("mine.py")
    assert len(entry.code) == 64


UNTYPED = CENTER.replace("margin: float = ", "margin = ")
WRONG = {
    "unknown hook": (
        CENTER.replace("register_prompt_sources", "register_prompt_source"),
        r"no hook 'register_prompt_source'\n  did you mean 'register_prompt_sources'\?",
    ),
    "unmarked hook": (CENTER.replace("@hookimpl\n", ""), r"is not marked as a hook\n  write @hookimpl"),
    "wrong argument": (
        CENTER.replace("(register)", "(add)"),
        r"has the argument 'add', .*\n  its arguments are: register",
    ),
    "wrong role": (
        CENTER.replace("register_prompt_sources", "register_backends"),
        r"Center is a prompt source, .* the backend 'center'\n  .* `register_prompt_sources` instead of `register_back",
    ),
    "wrong base": (CENTER.replace("(PromptSource)", ""), r"must be a subclass of PromptSource: class Center\(Prompt"),
    "an instance": (
        CENTER.replace(", Center)", ", Center())"),
        r"instance of Center\n  .*register\(\"center\", Center\)",
    ),
    "no name": (CENTER.replace('"center", ', "Center, "), r"expected a name and a class"),
    "duplicate": (
        CENTER.replace('"center"', '"manual"'),
        "two plugins register the prompt source 'manual': built-in and .*mine.py",
    ),
    "shadowing": (CENTER.replace("margin:", "check:"), "option 'check', which hides PromptSource.check"),
    "shadowing optional": (CENTER.replace("margin:", "survey:"), "option 'survey', which hides PromptSource.survey"),
    "register raises": (
        CENTER.replace('register("center"', 'register(undefined, "center"'),
        "register_prompt_sources raised NameError",
    ),
    "no type": (UNTYPED, r"mine\.py:\d+: .*the option 'margin' has no type\n  .*`margin: float = ...`"),
    "odd type": (
        CENTER.replace("margin: float", "margin: Mine").replace("class Center", "class Mine: pass\n\n\nclass Center"),
        r"an option has the type .*Mine.*cannot be written in YAML",
    ),
}


@pytest.mark.parametrize(("source", "says"), WRONG.values(), ids=WRONG)
def test_a_plugin_that_is_wrong_is_named_with_the_reason(tmp_path, source, says):
    with pytest.raises(PluginError, match=says) as raised:
        load(tmp_path, source)
    assert "pydantic" not in str(raised.value).lower()


@pytest.mark.parametrize(("source", "says"), WRONG.values(), ids=WRONG)
def test_one_that_registers_wrongly_stops_only_the_pipeline_that_needs_it(tmp_path, source, says):
    taken = "manual" if "'manual'" in says else "center"
    with pytest.raises(PipelineError, match=says):
        load_config(written_pipeline(tmp_path, source.encode(), f"{taken}, boxes: [[5, 5, 50, 30]]"))
    config = load_config(tmp_path / "p.yaml", sets=["prompts=[everything]"])
    assert config.drop_ins == ()
    (warning,) = config.registry.failures
    assert warning.warning
    assert re.search(says, str(warning))


def test_nothing_of_one_that_registers_wrongly_is_left(tmp_path):
    both = CENTER + "\n\n@hookimpl\ndef register_writers(register):\n    register('other', Center)\n"
    (tmp_path / "mine.py").write_text(both, encoding="utf-8")
    registry = Registry.load([tmp_path / "mine.py"], optional=[tmp_path / "mine.py"])
    assert ("prompt source", "center") not in registry.entries
    assert not any("mine.py" in name for name, _ in registry.manager.list_name_plugin())


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("import cv2.nothing_like_it", "pip install opencv-python-headless"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "apt install libgl1"),
    ],
)
def test_a_failed_import_says_what_to_install(tmp_path, line, hint):
    with pytest.raises(PluginError, match=hint):
        load(tmp_path, f"import maskmill\n{line}\n")


def test_an_unknown_name_gets_the_nearest_one():
    registry = Registry.load()
    with pytest.raises(PluginError, match=r"no backend 'grabcat'\n  did you mean 'grabcut'"):
        registry.get("backend", "grabcat")
    with pytest.raises(PluginError, match="'coco' is a writer; the backends are"):
        registry.get("backend", "coco")


def test_drop_ins_lie_beside_the_pipeline_file_or_beside_its_folder(tmp_path):
    for folder in ("pipelines/plugins", "plugins", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mine.py").write_text(CENTER, encoding="utf-8")
    (tmp_path / "plugins" / "_private.py").write_text(CENTER, encoding="utf-8")
    (tmp_path / "plugins" / "unrelated.py").write_text("raise SystemExit('not ours')", encoding="utf-8")
    (tmp_path / "plugins" / "package").mkdir()
    (tmp_path / "plugins" / "package" / "__init__.py").write_text(CENTER, encoding="utf-8")
    file = tmp_path / "pipelines" / "x.yaml"
    found = [str(path.relative_to(tmp_path.resolve())).replace("\\", "/") for path in find_drop_ins(file)]
    assert found == ["pipelines/plugins/mine.py", "plugins/mine.py"]
    assert find_drop_ins(file, search=False) == []
    assert len(find_drop_ins(file, [tmp_path / "elsewhere"], search=False)) == 1


BROKEN_FILES = {
    "syntax": (b"import maskmill\nx = 1\ndef broken(:\n", r"mine\.py:3: .*SyntaxError"),
    "syntax before the import": (
        b"def broken(:\n    pass\nfrom maskmill import Filter\n",
        r"mine\.py:1: .*SyntaxError",
    ),
    "raises": (b"import maskmill\n\n1/0\n", r"mine\.py:3: .*ZeroDivisionError"),
    "exits": (b"import sys, maskmill\nsys.exit(3)\n", r"mine\.py:2: .*ends the program .*SystemExit: 3"),
    "latin-1": ("import maskmill\n# größer\n".encode("latin-1"), r"mine\.py:2: .*the byte 0xf6 is not utf-8"),
    "UTF-16": ("import maskmill\n".encode("utf-16"), r"mine\.py:1: .*UTF-16"),
    "unknown encoding": (b"# coding: klingon\nimport maskmill\n", r"mine\.py:1: .*klingon"),
    "no such package": (
        b"import maskmill\nimport nothing_like_it\n",
        r"mine\.py:2: [\s\S]*pip install nothing_like_it",
    ),
}


def written_pipeline(tmp_path, source, name="center"):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_bytes(source)
    testing.write_picture(tmp_path / "photos" / "a.png", 40, 60)
    text = f"dataset: photos\nprompts: [{{use: {name}}}]\nbackend: grabcut\noutput: out\nrun: {{engine: inline}}\n"
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "p.yaml"


@pytest.mark.parametrize(("source", "says"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_drop_in_that_cannot_be_imported_stops_the_pipeline_that_needs_it(tmp_path, source, says):
    with pytest.raises(PipelineError, match=r"there is no prompt source 'center'[\s\S]*" + says):
        load_config(written_pipeline(tmp_path, source))


@pytest.mark.parametrize(("source", "says"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_pipeline_that_does_not_need_it_goes_on_with_a_warning(tmp_path, source, says):
    file = written_pipeline(tmp_path, source, "manual, boxes: [[5, 5, 50, 30]]")
    config = load_config(file)
    assert config.drop_ins == ()
    (warning,) = Pipeline(config).check()
    assert warning.warning
    assert re.search(says, str(warning))


@pytest.mark.parametrize(("source", "says"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_drop_in_that_is_named_must_be_right(tmp_path, source, says):
    file = written_pipeline(tmp_path, source, "manual, boxes: [[5, 5, 50, 30]]")
    with pytest.raises(PluginError, match=says):
        load_config(file, plugins=[tmp_path / "plugins" / "mine.py"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_drop_in_may_declare_its_encoding(tmp_path, encoding):
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    path = tmp_path / "mine.py"
    path.write_bytes(f"# coding: {name}\n# größer\n{CENTER}".encode(encoding))
    assert Registry.load([path]).get("prompt source", "center")


def test_the_run_itself_warns_and_works(tmp_path):
    file = written_pipeline(tmp_path, b"import sys, maskmill\nsys.exit(3)\n", "manual, boxes: [[5, 5, 50, 30]]")
    done = subprocess.run([sys.executable, "-m", "maskmill", "run", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine.py:2: the plugin cannot be loaded: it ends the program" in done.stdout + done.stderr


INSTALLED = {
    "exits": ("import sys\n\nsys.exit(3)\n", "odd_package", r"odd_package\.py:3: .*SystemExit: 3"),
    "raises": ("1/0\n", "odd_package", r"odd_package\.py:1: .*ZeroDivisionError"),
    "syntax": ("\ndef broken(:\n", "odd_package", r"odd_package\.py:2: .*SyntaxError"),
    "missing name": ("", "odd_package:missing", "has no attribute 'missing'"),
    "missing module": ("", "odd_package_elsewhere", r"No module named[\s\S]*pip install odd_package_elsewhere"),
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with an entry point on the path, as pip does."""

    def put(source, value="odd_package"):
        (tmp_path / "odd_package.py").write_text(source, encoding="utf-8")
        about = tmp_path / "odd_package-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 1.2\n", encoding="utf-8")
        (about / "entry_points.txt").write_text(f"[maskmill]\nodd = {value}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    sys.modules.pop("odd_package", None)


@pytest.mark.parametrize(("source", "value", "says"), INSTALLED.values(), ids=INSTALLED)
def test_an_installed_plugin_that_cannot_be_imported_is_named_and_ends_nothing(install, capsys, source, value, says):
    install(source, value)
    with pytest.raises(SystemExit) as raised:
        main(["plugins", "list"])
    out, err = capsys.readouterr()
    assert not raised.value.code
    assert "grabcut" in out
    assert f"the entry point 'odd = {value}' of package odd-package 1.2 cannot be loaded" in err
    assert re.search(says, err)


def test_an_installed_plugin_that_registers_wrongly_is_named_and_ends_nothing(install):
    install(CENTER.replace("register_prompt_sources", "register_backends"))
    registry = Registry.load()
    (problem,) = registry.failures
    assert "plugin package odd-package 1.2: Center is a prompt source" in problem.message
    assert registry.get("prompt source", "manual")


def test_a_file_of_an_installed_plugin_takes_its_place(install, tmp_path):
    install(CENTER)
    assert Registry.load().get("prompt source", "center").origin == "package odd-package 1.2"
    file = tmp_path.resolve() / "odd_package.py"
    registry = Registry.load([file])
    assert registry.get("prompt source", "center").origin == str(file)
    assert not registry.failures


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A pipeline file with a good drop-in and two broken ones beside it."""
    monkeypatch.chdir(tmp_path)
    file = written_pipeline(tmp_path, CENTER.encode())
    (tmp_path / "plugins" / "raises.py").write_text("import maskmill\n1/0\n", encoding="utf-8")
    (tmp_path / "plugins" / "wrong.py").write_text(WRONG["wrong role"][0], encoding="utf-8")
    return file


@pytest.mark.parametrize("command", ["plugins list", "plugins show center", "schema"])
def test_commands_name_broken_drop_ins_and_go_on(beside, capsys, command):
    with pytest.raises(SystemExit) as raised:
        main([*command.split(), "--for", str(beside)])
    out, err = capsys.readouterr()
    assert not raised.value.code, err
    assert "center" in out
    assert "raises.py:2: the plugin cannot be loaded: ZeroDivisionError" in err
    assert "wrong.py: Center is a prompt source" in err


@pytest.mark.parametrize("command", ["plugins show centre", "plugins list", "export out --to areas"])
def test_commands_without_a_pipeline_say_how_its_plugins_are_found(beside, capsys, command):
    with pytest.raises(SystemExit) as raised:
        main(command.split())
    assert raised.value.code == (None if command == "plugins list" else 2) or raised.value.code == 0
    assert "with --for PIPELINE.yaml" in "".join(capsys.readouterr())


@pytest.mark.parametrize("method", ["check", "digest"])
def test_a_plugin_that_raises_before_the_run_is_named_with_file_and_line(tmp_path, capsys, method):
    source = CENTER.replace(
        "    def prompts", f"    def {method}(self):\n        raise ValueError('boom')\n\n    def prompts"
    )
    file = written_pipeline(tmp_path, source.encode())
    with pytest.raises(SystemExit) as raised:
        main(["run", str(file)])
    assert raised.value.code == 2
    line = source.splitlines().index("        raise ValueError('boom')") + 1
    where = tmp_path.resolve() / "plugins" / "mine.py"
    shown = capsys.readouterr().err
    assert f"{where}:{line}: the plugin failed in Center.{method}: ValueError: boom" in shown
    assert "maskmill/cli" not in shown.replace("\\", "/"), "only the plugin's part of the traceback"


def test_a_mistake_of_our_own_is_not_blamed_on_a_plugin():
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018
    assert blame_plugin(raised.value) is None


def test_a_named_plugin_path_must_exist(tmp_path):
    with pytest.raises(PluginError, match="does not exist"):
        find_drop_ins(None, [tmp_path / "nothing"])


def test_state_that_is_no_option_gets_advice():
    class Mine(Backend):
        size: int = 1

        def open(self):
            self.net = "loaded"

    with pytest.raises(AttributeError, match=r"self\._net = "):
        Mine().open()
    stage = Mine()
    stage._net = "loaded"
    assert stage._net == "loaded"


def test_a_missing_package_names_the_extra():
    class Mine(PromptSource):
        requires = ("surely_not_installed", "numpy")
        extra = "qwen"

    (problem,) = Mine().missing()
    assert "surely_not_installed" in problem.message
    assert problem.hint == 'pip install "maskmill[qwen]"'


def test_an_object_can_be_a_plugin():
    class Plugin:
        @hookimpl
        def run_finished(self, run, report):
            pass

    registry = Registry()
    registry.add(Plugin(), "a test")
    assert registry.manager.hook.run_finished.get_hookimpls()


def test_every_module_of_the_built_ins_is_an_entry_point():
    points = {point.value for point in metadata.entry_points(group="maskmill")}
    for role in ("prompts", "backends", "filters", "writers", "engines"):
        package = __import__(f"maskmill_plugins.{role}", fromlist=["_"])
        import pkgutil

        for module in pkgutil.iter_modules(package.__path__, f"maskmill_plugins.{role}."):
            assert module.name in points, f"{module.name} is not in setup.cfg"


def test_every_name_of_the_built_ins_is_an_entry_point():
    points = {point.name: point.value for point in metadata.entry_points(group="maskmill")}
    for (_, name), entry in Registry.load().entries.items():
        if entry.origin == BUILT_IN:
            assert entry.cls.__module__.startswith(points[name]), f"{name} would be found only after all others"


def test_every_command_of_the_built_ins_is_an_entry_point():
    points = {point.name for point in metadata.entry_points(group="maskmill") if point.dist.name == "maskmill"}
    group = click.Group()
    registry = Registry.load()
    registry.load_all()
    registry.manager.hook.register_commands(cli=group)
    assert set(group.commands) <= points


def test_a_built_in_is_imported_when_it_is_asked_for():
    code = (
        "import sys; from maskmill.plugins.registry import Registry; registry = Registry.load();"
        "loaded = lambda: {m for m in sys.modules if m.startswith('maskmill_plugins.')};"
        "assert not loaded(), loaded();"
        "registry.get('writer', 'png');"
        "assert 'maskmill_plugins.writers.png' in loaded() and 'maskmill_plugins.writers.coco' not in loaded()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_built_in_modules_import_no_heavy_library():
    code = (
        "import sys; from maskmill.plugins.registry import Registry; Registry.load().load_all();"
        "heavy = [m for m in ('torch', 'cv2', 'segment_anything', 'skimage', 'pandas') if m in sys.modules];"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_empty_path_loads_nothing_that_lies_there(tmp_path):
    (tmp_path / "script.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    (tmp_path / "p.yaml").write_text("prompts: [everything]\nplugins: ''\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="plugins: expected a text that is not empty"):
        load_config(tmp_path / "p.yaml", complete=False)


def test_optional_methods_of_the_built_ins_have_the_documented_parameters():
    defined = set()
    for entry in Registry.load().entries.values():
        for name, method in optional_methods(entry.role).items():
            if (own := getattr(entry.cls, name, None)) is not None:
                defined.add(name)
                assert list(inspect.signature(own).parameters) == list(inspect.signature(method).parameters), entry
    assert defined == set().union(*(optional_methods(role) for role in ("prompt source", "backend", "writer")))
