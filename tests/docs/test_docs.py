"""The documentation names everything, and its code runs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
import doc_pages
import pytest
from doc_pages import DOCS, PAGES, REPOSITORY

import mono_quant
from mono_quant import Quantizer, calibration, core, errors, io, modules, plugin_api, testing
from mono_quant.cli import main
from mono_quant.demo import calibration_data, demo_model
from mono_quant.io.manifest import Manifest
from mono_quant.plugin_api import hookspecs
from mono_quant.scaffold import KINDS

SPREAD = REPOSITORY / "plugins" / "mono-quant-spread" / "src" / "mono_quant_spread" / "__init__.py"


def named_in(page: str) -> set[str]:
    """The words in code spans of a reference page."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", (DOCS / "reference" / page).read_text()))))


def parts(cls: type) -> set[str]:
    """The public fields, methods and properties that a class adds."""
    fields = {field.name for field in attrs.fields(cls)} if attrs.has(cls) else set()
    return fields | {name for name in vars(cls) if not name.startswith("_")}


def test_the_plugin_reference_names_every_hook():
    assert set(hookspecs.HOOKS) - named_in("plugins.md") == set()


def test_the_plugin_reference_names_every_record_and_interface():
    assert set(plugin_api.__all__) - named_in("plugins.md") == set()


@pytest.mark.parametrize("name", [name for name in plugin_api.__all__ if isinstance(getattr(plugin_api, name), type)])
def test_the_plugin_reference_names_every_part_of_a_class(name: str):
    assert parts(getattr(plugin_api, name)) - named_in("plugins.md") == set()


def test_the_plugin_reference_names_every_environment_switch():
    sources = [path.read_text() for path in (REPOSITORY / "mono_quant").rglob("*.py")]
    switches = set(re.findall(r"\bMONO_QUANT_[A-Z_]*[A-Z]", " ".join(sources)))
    assert switches
    assert switches - named_in("plugins.md") == set()


def test_the_plugin_reference_names_every_built_in_component():
    text = (DOCS / "reference" / "plugins.md").read_text()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    built_in = project["entry-points"]["mono_quant.plugins"]
    modules = {path.stem for path in (REPOSITORY / "mono_quant" / "builtin").glob("[!_]*.py")}
    assert {module.rpartition(".")[2] for module in built_in.values()} == modules
    assert set(built_in) - set(re.findall(r"`([a-z0-9-]+)`", text)) == set()


@pytest.mark.parametrize("package", [mono_quant, io, calibration, core, errors], ids=lambda package: package.__name__)
def test_the_api_reference_names_every_public_name(package: object):
    assert set(package.__all__) - named_in("api.md") == set()


def test_the_api_reference_names_every_quantized_layer():
    assert {name for name in modules.__all__ if name.startswith("Quantized")} - named_in("api.md") == set()


@pytest.mark.parametrize(
    "cls",
    [
        mono_quant.Quantizer,
        mono_quant.QuantizationConfig,
        mono_quant.QuantizationInfo,
        mono_quant.QuantizationResult,
        mono_quant.QuantizedCheckpoint,
        mono_quant.ValidationResult,
    ],
)
def test_the_api_reference_names_every_part_of_a_class(cls: type):
    assert parts(cls) - {"of"} - named_in("api.md") == set()


@pytest.mark.parametrize(
    "command",
    [
        "",
        "quantize",
        "plan",
        "inspect",
        "validate",
        "compare",
        "convert",
        "dequantize",
        "recipe",
        "bench",
        "plugins",
        "plugins list",
        "plugins info",
        "plugins check",
        "plugin new",
        "demo",
    ],
)
def test_the_command_reference_names_every_option(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    shown = set(re.findall(r"--[a-z-]+", (DOCS / "reference" / "command.md").read_text()))
    assert options - shown == set()


def test_the_file_reference_names_every_field_of_the_manifest():
    assert {field.name for field in attrs.fields(Manifest)} - named_in("file-format.md") == set()


def test_the_how_to_shows_the_distribution_itself():
    shown = dict(doc_pages.files(DOCS / "how-to" / "write-an-observer.md"))
    assert shown["mono-quant-spread/src/mono_quant_spread/__init__.py"] == SPREAD.read_text()


def test_an_observer_takes_at_most_thirty_lines_of_its_authors_code():
    tree = ast.parse(SPREAD.read_text())
    told: set[int] = set()  # lines of docstrings and imports
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            told |= set(range(node.lineno, node.end_lineno + 1))
    written = [line for number, line in enumerate(SPREAD.read_text().splitlines(), 1) if number not in told]
    assert 20 < len([line for line in written if line.strip()]) <= 30


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_how_to_for_every_kind_that_shows_its_template(kind: str):
    article = "an" if kind[0] in "aeiou" else "a"
    page = DOCS / "how-to" / f"write-{article}-{kind}.md"
    assert f"({page.name})" in (DOCS / "how-to" / "write-a-plugin.md").read_text()
    if kind != "observer":  # which shows a real one
        shown, templates = dict(doc_pages.files(page)), REPOSITORY / "mono_quant" / "scaffold" / "templates"
        assert shown["src/mono_quant_example_thing/__init__.py"] == (templates / f"{kind}.py.txt").read_text()
        assert shown["tests/test_mono_quant_example_thing.py"] == (templates / f"test_{kind}.py.txt").read_text()


@pytest.mark.parametrize("suite", testing.__all__)
def test_the_testing_reference_names_every_part_of_a_suite(suite: str):
    own = {name for name in vars(getattr(testing, suite)) if not name.startswith(("_", "test_"))}
    assert own | {suite} <= named_in("testing.md")


@pytest.mark.parametrize("test", ["test_my_kernel.py", "test_my_fused_kernel.py"])
@pytest.mark.usefixtures("folder")
def test_a_kernel_of_the_how_to_passes_its_test(test: str):
    doc_pages.run(DOCS / "how-to" / "write-a-kernel.md")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", test]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout


def test_the_tutorial_shows_the_report_and_the_plan_of_its_model_as_they_are():
    shown = [block.body for block in doc_pages.blocks(DOCS / "tutorial" / "first-model.md") if block.info == "text"]
    result = Quantizer().quantize(demo_model(), calibration_data())
    assert shown == [
        "".join(f"{line}\n" for line in str(Quantizer().plan(demo_model())).splitlines()[:4]),
        _without_times(f"{result}\n", like=shown[1]),
    ]


def _without_times(report: str, like: str) -> str:
    """The report with another's line of the speed, and without the warning that may come of it."""
    (speed,) = re.findall("^speed .*\n", like, re.MULTILINE)
    report = re.sub("^warning    the quantized model is slower .*\n", "", report, flags=re.MULTILINE)
    return re.sub(r"^speed      [\d.]+ ms -> [\d.]+ ms a batch, .*\n", speed, report, flags=re.MULTILINE)


def test_at_most_three_blocks_do_not_run_and_each_says_why():
    left_out = [block.info for page in PAGES for block in doc_pages.blocks(page) if "notest" in block.info]
    assert len(left_out) <= 3
    assert all(re.fullmatch(r"python notest: .+", info) for info in left_out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("folder")
def test_the_code_of_a_page_runs(page: Path):
    doc_pages.run(page)
