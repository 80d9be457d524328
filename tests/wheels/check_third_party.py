"""A third-party distribution as its users get it: wheel, pip install, list, use, its own tests, uninstall.

    python tests/wheels/check_third_party.py --dist plugins/mono-quant-spread

Run in a virtual environment of its own, where mono-quant, pytest, build, hatchling and what the distribution needs
are installed; ``nox -s plugins`` does so. Nothing is downloaded. Exits with 1 and a reason as soon as something is
not as it should be. ``--quick`` leaves out what would be the same for every distribution: a broken plugin beside it.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

OPTIONS = {
    "observer": "observer",
    "scheme": "scheme",
    "validator": "validators",
    "kernel": "kernel",
    "algorithm": "algorithms",
    "runtime": "runtime",
}
"""The option of a `Quantizer` that asks for a component of each kind; sources and formats are chosen by the data."""

PROBE = """
import json, sys, torch, mono_quant
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
data = [torch.randn(32, 16) ** 3 for _ in range(4)]
quantizer = mono_quant.Quantizer(**json.loads(sys.argv[1]))
result = quantizer.quantize(model, data)
tensors = {name: tensor.tolist() for name, tensor in result.model.state_dict().items()}
found = {"tensors": tensors, "versions": result.info.versions}
if (wanted := quantizer.config.runtime).name != "auto":
    _, runtime = quantizer.components.runtime(wanted)
    found["why_not"] = runtime.supports(result.model).why_not
    if not found["why_not"]:
        compiled = result.compile()
        found["ran"] = compiled.runtime, compiled(data[1]).shape == result.model(data[1]).shape
print(json.dumps(found))
"""

BROKEN = "mono-quant-broken-on-purpose"
BROKEN_PYPROJECT = f"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{BROKEN}"
version = "0.1"
[project.entry-points."mono_quant.plugins"]
broken-on-purpose = "mono_quant_broken_on_purpose"
"""


def main() -> None:
    """Check the distribution that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, required=True, help="folder of the distribution, with its pyproject.toml")
    parser.add_argument("--quick", action="store_true", help="no broken plugin beside it")
    arguments = parser.parse_args()
    folder = arguments.dist.resolve()
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {found.name.lower() for found in distributions()} & {project["name"], BROKEN}
    require(
        not installed, f"{project['name']} and {BROKEN} are not installed yet (else use a fresh virtual environment)"
    )
    with tempfile.TemporaryDirectory(prefix="mono_quant-") as scratch:
        try:
            check(folder, project["name"], Path(scratch), is_quick=arguments.quick)
        finally:
            run("pip", "uninstall", "--yes", "--quiet", project["name"], BROKEN, cwd=Path(scratch))


def check(folder: Path, name: str, scratch: Path, *, is_quick: bool) -> None:
    """All steps, one after another."""
    before = plugins(scratch)
    pip_install(build(folder, scratch / "wheels"), scratch)
    listed = [plugin for plugin in plugins(scratch) if plugin["distribution"] == name]
    require(listed, f"`monoquant plugins` lists {name}")
    require(all(plugin["status"] == "active" for plugin in listed), f"it is active: {listed}")
    asked = [
        (component["kind"], {OPTIONS[component["kind"]]: component["name"]})
        for plugin in monoquant("check", name, scratch=scratch)
        for component in plugin["components"]
        if component["kind"] in OPTIONS and "" not in component["options"].values()
    ]
    results = [quantize(option, scratch) for _, option in asked]
    for (kind, option), result in zip(asked, results, strict=True):
        require(result["versions"].get(name) == listed[0]["version"], f"Quantizer(**{option}) asks {name} for it")
        if kind == "observer":
            differs = result["tensors"] != quantize({}, scratch)["tensors"]
            require(differs, f"Quantizer(**{option}) finds other ranges than the default observer")
        if kind == "runtime" and result["why_not"]:
            sys.stdout.write(f"skipped: {option['runtime']} runs no model here: {result['why_not']}\n")
        elif kind == "runtime":
            require(result["ran"] == [option["runtime"], True], f"result.compile() runs the model by {option}")

    tests = run("pytest", str(folder / "tests"), "-q", "-c", str(folder / "pyproject.toml"), cwd=scratch)
    require(tests.returncode == 0, f"its own tests pass\n{tests.stdout[-2000:]}")

    if not is_quick:
        check_beside_a_broken_one(scratch, before, listed, list(zip(asked, results, strict=True)))

    run("pip", "uninstall", "--yes", "--quiet", name, BROKEN, cwd=scratch)
    require(without_times(plugins(scratch)) == without_times(before), "nothing of them is listed when uninstalled")
    for kind, option in asked:
        probe = run("-c", PROBE, json.dumps(option), cwd=scratch)
        known = ", ".join(sorted(n for plugin in before for n in plugin["components"].get(kind, [])))
        (component,) = option.values()
        message = f"UnknownPluginError: no {kind} is named {component!r}; there are: {known}."
        require(probe.returncode == 1 and message in probe.stderr, f"the error says: {message}\n{probe.stderr[-2000:]}")


def check_beside_a_broken_one(
    scratch: Path,
    before: list[dict[str, Any]],
    listed: list[dict[str, Any]],
    asked: list[tuple[tuple[str, dict[str, str]], dict[str, Any]]],
) -> None:
    """A broken plugin that is installed too changes nothing but one warning."""
    pip_install(build(broken_distribution(scratch / "broken"), scratch / "wheels"), scratch)
    beside = plugins(scratch)
    require([p["status"] for p in beside if p["distribution"] == BROKEN] == ["broken"], "a broken plugin is listed")
    require(without_times(beside, but=BROKEN) == without_times([*before, *listed]), "the others are listed as before")
    for (_, option), result in asked:
        probe = run("-c", PROBE, json.dumps(option), cwd=scratch)
        require(probe.returncode == 0 and json.loads(probe.stdout) == result, f"Quantizer(**{option}) gives the same")
        count = probe.stderr.count("PluginWarning: plugin broken-on-purpose")
        require(count == 1, f"with one warning of the broken plugin\n{probe.stderr}")


def quantize(options: dict[str, str], scratch: Path) -> dict[str, Any]:
    """What a new process gets from quantizing a small model; every warning is an error there."""
    probe = run("-W", "error", "-c", PROBE, json.dumps(options), cwd=scratch)
    require(probe.returncode == 0, f"Quantizer(**{options}) quantizes a model\n{probe.stderr[-2000:]}")
    return json.loads(probe.stdout)  # type: ignore[no-any-return]


def plugins(scratch: Path) -> list[dict[str, Any]]:
    """What ``monoquant plugins --json`` prints."""
    return monoquant(scratch=scratch)


def monoquant(*arguments: str, scratch: Path) -> list[dict[str, Any]]:
    """What ``monoquant plugins ... --json`` prints."""
    command = [str(Path(sysconfig.get_path("scripts")) / "monoquant"), "plugins", *arguments, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=scratch)  # noqa: S603 - our own
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def without_times(listed: list[dict[str, Any]], *, but: str = "") -> list[dict[str, Any]]:
    """A listing as it can be compared: in order, without the measured times and one distribution."""
    rows = [{**plugin, "import_ms": None} for plugin in listed if plugin["distribution"] != but]
    return sorted(rows, key=lambda row: (row["distribution"], row["name"]))


def broken_distribution(folder: Path) -> Path:
    """The source of a plugin whose dependency is missing."""
    package = folder / "mono_quant_broken_on_purpose"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(BROKEN_PYPROJECT, encoding="utf-8")
    (package / "__init__.py").write_text("import a_module_that_nobody_has\n", encoding="utf-8")
    return folder


def build(folder: Path, wheels: Path) -> Path:
    """The wheel of a distribution."""
    wheels.mkdir(exist_ok=True)
    present = set(wheels.iterdir())
    built = run("build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(folder), cwd=wheels)
    require(built.returncode == 0, f"{folder.name} builds as a wheel\n{built.stdout[-2000:]}{built.stderr[-2000:]}")
    (wheel,) = set(wheels.iterdir()) - present
    return wheel


def pip_install(wheel: Path, scratch: Path) -> None:
    """Install a wheel whose dependencies are installed already."""
    ran = run("pip", "install", "--no-index", "--quiet", str(wheel), cwd=scratch)
    require(ran.returncode == 0, f"pip installs {wheel.name}\n{ran.stderr[-2000:]}")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python with options, or a module of it, in a folder where nothing can be imported by accident."""
    module = [] if arguments[0].startswith("-") else ["-m"]
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, *module, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


def require(holds: object, claim: str) -> None:
    """Say what holds; end with 1 when it does not."""
    if not holds:
        sys.exit(f"NOT SO: {claim}")
    sys.stdout.write(f"ok: {claim.splitlines()[0]}\n")


if __name__ == "__main__":
    main()
