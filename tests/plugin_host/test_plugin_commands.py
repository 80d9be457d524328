"""``monoquant plugins list``, ``info`` and ``check`` on installed distributions."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from fake_distributions import BROKEN, Site, observer

from mono_quant.cli import main

SLOW = "import time\ntime.sleep(0.2)\n"
UNMADE = observer("unmade").replace("factory=TheObserver", "factory='mono_quant_unmade:Missing'")
OTHER_THING = observer("dict").replace("factory=TheObserver", "factory=dict")
NEEDS = observer("needy").replace("width: float = 1.0", "width: float")


Monoquant = Callable[..., tuple[int, str, str]]


@pytest.fixture
def monoquant(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["plugins", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def importable(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site, for processes of their own too."""
    monkeypatch.setenv("PYTHONPATH", str(site.folder))
    return site


def test_list_names_every_plugin_and_imports_none(site: Site, monoquant: Monoquant):
    site.install("mono-quant-wide", observer("wide"), version="1.5")
    site.install("mono-quant-broken", BROKEN)
    code, out, _ = monoquant("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    wide = {
        "name": "wide",
        "distribution": "mono-quant-wide",
        "version": "1.5",
        "module": "mono_quant_wide",
        "blocked": "",
    }
    assert code == 0
    assert rows["wide"] == {**wide, "blocked": ""}
    assert {"broken", "minmax", "onednn"} <= set(rows)
    assert "mono_quant_wide" not in sys.modules


def test_list_imports_no_plugin_not_even_a_built_in(importable: Site):
    importable.install("mono-quant-wide", observer("wide"))
    code = (
        "import sys; from mono_quant._plugins.discovery import installed;"
        "names = [found.provider.name for found in installed()];"
        "assert 'wide' in names; print('mono_quant_wide' in sys.modules, 'mono_quant.builtin.minmax' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert ran.stdout == "False False\n"


def test_list_says_what_is_blocked(site: Site, monoquant: Monoquant, monkeypatch: pytest.MonkeyPatch):
    site.install("mono-quant-wide", observer("wide"))
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", "wide")
    assert "named in MONO_QUANT_BLOCK_PLUGINS" in next(
        line for line in monoquant("list")[1].splitlines() if line.startswith("wide ")
    )


@pytest.mark.parametrize("name", ["wide", "mono-quant-wide"])
def test_info_tells_who_what_and_with_which_options(site: Site, monoquant: Monoquant, name: str):
    site.install(
        "mono-quant-wide", f"MONO_QUANT_API_VERSION = 1\n{observer('wide', aliases=('broad',))}", version="1.5"
    )
    code, out, _ = monoquant("info", name)
    assert code == 0
    for line in (
        "wide: no summary",
        "  from       mono-quant-wide 1.5, module mono_quant_wide",
        "  status     active",
        "  plugin API 1",
        "  hooks      mono_quant_observers",
        "  observer   wide (also broad): a test's observer",
        "             made by mono_quant_wide:TheObserver",
        "             option width = 1.0",
    ):
        assert line in out.splitlines()
    assert "problem" not in out


def test_info_shows_a_factory_without_a_name_as_python_does(site: Site, monoquant: Monoquant):
    partial = observer("wide").replace("factory=TheObserver", "factory=__import__('functools').partial(TheObserver)")
    site.install("mono-quant-wide", partial)
    code, out, _ = monoquant("info", "wide")
    assert code == 0
    assert "made by functools.partial(<class 'mono_quant_wide.TheObserver'>)" in out


def test_info_on_a_built_in_knows_its_distribution(monoquant: Monoquant):
    _, out, _ = monoquant("info", "minmax", "--json")
    [told] = json.loads(out)
    assert told["provider"]["distribution"] == "mono-quant"
    assert any(need.startswith("torch") for need in told["requires"])


def test_info_on_a_broken_plugin_says_why(site: Site, monoquant: Monoquant):
    site.install("mono-quant-broken", BROKEN)
    code, out, _ = monoquant("info", "broken")
    assert code == 0
    assert "  status     broken: importing 'mono_quant_broken' raised ModuleNotFoundError" in out
    assert "  problem    it is broken: importing" in out


@pytest.mark.parametrize("command", [[], ["list"], ["info", "wide"], ["check", "wide"]], ids=" ".join)
def test_strict_mode_does_not_keep_a_command_from_showing_the_others(
    importable: Site, monoquant: Monoquant, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    importable.install("mono-quant-broken", BROKEN)
    importable.install("mono-quant-wide", observer("wide"))
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    code, out, err = monoquant(*command)
    assert (code, err) == (0, "")
    assert any(line.startswith("wide") for line in out.splitlines())


@pytest.mark.parametrize(("command", "expected"), [([], 0), (["info", "broken"], 0), (["check"], 2)], ids=str)
def test_strict_mode_does_not_keep_a_command_from_saying_what_is_broken(
    importable: Site, monoquant: Monoquant, monkeypatch: pytest.MonkeyPatch, command: list[str], expected: int
):
    importable.install("mono-quant-broken", BROKEN)
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    code, out, _ = monoquant(*command)
    assert code == expected
    assert "importing 'mono_quant_broken' raised ModuleNotFoundError" in out


def test_info_on_nobody_names_those_that_there_are(site: Site, monoquant: Monoquant):
    site.install("mono-quant-wide", observer("wide"))
    code, _, err = monoquant("info", "wyde")
    assert code == 2
    assert "no plugin or distribution 'wyde' is installed; third-party plugins: wide" in err


def test_check_passes_a_good_plugin_with_its_import_time(importable: Site, monoquant: Monoquant):
    importable.install("mono-quant-wide", SLOW + observer("wide"))
    code, out, _ = monoquant("check", "wide", "--json")
    [checked] = json.loads(out)
    assert code == 0
    assert checked["problems"] == []
    assert checked["provider"]["import_ms"] >= 200
    assert "mono_quant_wide" not in sys.modules


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (BROKEN, "it is broken: importing 'mono_quant_wide' raised ModuleNotFoundError"),
        (UNMADE, "'mono_quant_unmade:Missing' cannot be imported"),
        (OTHER_THING, "made a dict, not a mono_quant.plugin_api.Observer"),
        (observer("minmax"), "the name 'minmax' is also claimed by minmax (mono-quant"),
        ("import os\nos._exit(3)\n", "Python ended with code 3"),
        ("raise SystemExit('bye')\n", "it is broken: importing 'mono_quant_wide' raised SystemExit: bye"),
    ],
    ids=["broken", "a factory that is not there", "another thing", "a name that is taken", "a crash", "an exit"],
)
def test_check_fails_with_what_is_wrong(importable: Site, monoquant: Monoquant, code: str, problem: str):
    importable.install("mono-quant-wide", code)
    exit_code, out, err = monoquant("check", "mono-quant-wide")
    assert exit_code == 2
    assert problem in out
    assert "1 of 1 plugins have problems: wide" in err


def test_check_takes_an_option_without_a_default_for_no_problem(importable: Site, monoquant: Monoquant):
    importable.install("mono-quant-needy", NEEDS)
    code, out, _ = monoquant("check", "needy")
    assert (code, out.splitlines()[1:]) == (0, ["  problem: none"])


def test_check_without_a_name_takes_all_third_parties(importable: Site, monoquant: Monoquant):
    importable.install("mono-quant-wide", observer("wide"))
    importable.install("mono-quant-broken", BROKEN)
    code, out, err = monoquant("check")
    assert code == 2
    assert {"wide", "broken"} == {line.partition(" ")[0] for line in out.splitlines() if not line.startswith(" ")}
    assert "1 of 2 plugins have problems: broken" in err


def test_check_with_no_third_party_says_so(monoquant: Monoquant, site: Site):
    del site
    assert monoquant("check")[:2] == (0, "no third-party plugin is installed\n")
