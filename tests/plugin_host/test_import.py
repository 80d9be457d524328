"""``import mono_quant`` costs nothing: it finds no plugin and imports none. Each test asks a new process."""

import json
import os
import subprocess
import sys

import pytest
from fake_distributions import Site, observer


def modules_after(code: str, *, path: str = "") -> set[str]:
    """What a new process has imported after running ``code``."""
    report = "import json, sys; print(json.dumps([name for name in sys.modules]))"
    ran = subprocess.run(  # noqa: S603 - the code stands in this file
        [sys.executable, "-c", f"{code}\n{report}"],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(ran.stdout))


@pytest.fixture(scope="module")
def plain() -> set[str]:
    return modules_after("import mono_quant")


@pytest.mark.parametrize("module", ["pluggy", "attr", "attrs", "cattrs", "safetensors"])
def test_importing_mono_quant_imports_no(plain: set[str], module: str):
    assert module not in plain


def test_importing_mono_quant_imports_little_of_itself(plain: set[str]):
    assert {name for name in plain if name.startswith("mono_quant.")} == {"mono_quant._lazy", "mono_quant.version"}


@pytest.mark.parametrize("package", ["mono_quant", "mono_quant.core"])
def test_completion_shows_every_public_name_and_imports_nothing(package: str):
    listed = f"import {package} as it; assert not set(it.__all__) - set(dir(it)); assert '__doc__' in dir(it)"
    assert modules_after(listed) == modules_after(f"import {package}")


def test_completion_shows_what_was_imported_meanwhile():
    modules_after("import mono_quant, mono_quant.info; assert {'info', 'Quantizer'} <= set(dir(mono_quant))")


def test_importing_every_public_name_imports_no_built_in():
    imported = modules_after("from mono_quant import *")
    assert "mono_quant.quantizer" in imported
    assert not {name for name in imported if name.startswith("mono_quant.builtin")}


def test_planning_imports_no_compiler():
    imported = modules_after(
        "from mono_quant import Quantizer\nfrom torch import nn\nQuantizer().plan(nn.Sequential(nn.Linear(4, 4)))"
    )
    assert "mono_quant.builtin.torch_compile" in imported
    assert not imported & {"torch._dynamo", "torch._inductor", "torch.onnx", "onnx", "onnxruntime", "openvino"}


def test_an_installed_plugin_is_imported_by_the_first_quantizer_only(site: Site):
    site.install("mono-quant-wide", observer("wide"))
    names = modules_after("from mono_quant import *", path=str(site.folder))
    used = modules_after("from mono_quant import *\nQuantizer()", path=str(site.folder))
    assert ("mono_quant_wide" in names, "mono_quant_wide" in used) == (False, True)


def test_no_module_of_the_package_imports_a_built_in():
    walk = (
        "import importlib, pkgutil, mono_quant\n"
        "for module in pkgutil.walk_packages(mono_quant.__path__, 'mono_quant.'):\n"
        "    if not module.name.startswith(('mono_quant.builtin', 'mono_quant.__main__', 'mono_quant.demo.train')):\n"
        "        importlib.import_module(module.name)\n"
    )
    imported = modules_after(walk)
    assert "mono_quant.cli.plugins" in imported
    assert not {name for name in imported if name.startswith("mono_quant.builtin.")}
