"""``info.versions``: who took part in a run, so that it can be repeated with the same distributions."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from fake_distributions import Site, observer
from torch import nn

from mono_quant import Quantizer, __version__
from mono_quant.io.manifest import read_manifest
from mono_quant.io.safetensors_format import SafetensorsFormat

OWN = {"mono-quant": __version__, "torch": torch.__version__}

PLUGIN = """
from mono_quant import Batch, hookimpl
from mono_quant.builtin import {module} as built_in
from mono_quant.plugin_api import {record}

@hookimpl
def mono_quant_{hook}():
    [spec] = built_in.mono_quant_{hook}()
    return [{record}(name="mine", summary="", factory=spec.factory, aliases=("own",){more})]
"""
SOURCE = """
from mono_quant import Batch, hookimpl
from mono_quant.plugin_api import Source, SourceSpec

class Numbers(Source):
    def accepts(self, data):
        return isinstance(data, int)
    def batches(self, data):
        import torch
        return (Batch((torch.randn(4, 6),)) for _ in range(data))

@hookimpl
def mono_quant_sources():
    return [SourceSpec(name="mine", summary="", factory=Numbers)]
"""


def again(hook: str, module: str, record: str, more: str = "") -> str:
    """The code of a plugin that provides a built-in component once more, as ``mine``."""
    return PLUGIN.format(hook=hook, module=module, record=record, more=more)


@pytest.fixture
def versions(model: nn.Module, batches: list[torch.Tensor]) -> Callable[..., Mapping[str, str]]:
    return lambda scheme="int8-static", data=batches, **options: (
        Quantizer(scheme, **options).quantize(model, data).info.versions
    )


def test_a_run_with_built_ins_names_mono_quant_and_torch(versions: Callable[..., object]):
    assert versions() == OWN


@pytest.mark.parametrize("name", ["mine", "own"])
@pytest.mark.parametrize(
    ("code", "options"),
    [
        (again("schemes", "int8_static", "SchemeSpec"), lambda name: {"scheme": name}),
        (again("schemes", "int8_static", "SchemeSpec"), lambda name: {"overrides": {"2": {"scheme": name}}}),
        (again("observers", "minmax", "ObserverSpec"), lambda name: {"observer": name}),
        (again("observers", "minmax", "ObserverSpec"), lambda name: {"overrides": {"2": {"observer": name}}}),
        (again("sources", "dataloader", "SourceSpec"), lambda name: {"source": name}),
        (again("validators", "size", "ValidatorSpec"), lambda name: {"validators": [name]}),
        (again("algorithms", "bn_fold", "AlgorithmSpec"), lambda name: {"algorithms": [name]}),
        (again("kernels", "reference", "KernelSpec"), lambda name: {"kernel": name}),
        (again("runtimes", "torch_eager", "RuntimeSpec"), lambda name: {"runtime": name}),
    ],
    ids=[
        "scheme",
        "scheme of a layer",
        "observer",
        "observer of a layer",
        "source",
        "validator",
        "algorithm",
        "kernel",
        "runtime",
    ],
)
def test_a_component_that_is_named_counts_its_distribution_in(
    site: Site,
    versions: Callable[..., object],
    code: str,
    options: Callable[[str], Mapping[str, object]],
    name: str,
):
    site.install("mono-quant-mine", code, version="3.2")
    assert versions(**options(name)) == {**OWN, "mono-quant-mine": "3.2"}


def test_an_installed_plugin_that_takes_no_part_is_not_named(site: Site, versions: Callable[..., object]):
    site.install("mono-quant-wide", observer("wide"))
    site.install("mono-quant-mine", again("formats", "safetensors", "FormatSpec", ", suffixes=('.mine',)"))
    site.install("mono-quant-numbers", SOURCE)
    assert versions() == OWN


def test_a_source_that_is_found_by_the_data_is_named(site: Site, versions: Callable[..., object]):
    site.install("mono-quant-mine", SOURCE)
    assert versions(data=2) == {**OWN, "mono-quant-mine": "1.0"}


def test_a_source_is_named_for_the_runs_that_read_with_it_only(
    site: Site, model: nn.Module, batches: list[torch.Tensor]
):
    site.install("mono-quant-mine", SOURCE)
    quantizer = Quantizer("int8-dynamic")
    runs = [quantizer.quantize(model, data).info.versions for data in (2, None, 3, batches)]
    assert ["mono-quant-mine" in versions for versions in runs] == [True, False, True, False]


def test_a_kernel_on_offer_is_named_though_nobody_asked_for_it(site: Site, versions: Callable[..., object]):
    site.install("mono-quant-mine", again("kernels", "reference", "KernelSpec"))
    assert versions() == {**OWN, "mono-quant-mine": "1.0"}


def test_of_two_distributions_each_is_named_once_with_its_version(site: Site, versions: Callable[..., object]):
    site.install("mono-quant-wide", observer("wide"), version="1.5")
    site.install("mono-quant-mine", again("kernels", "reference", "KernelSpec"), version="2.0")
    assert versions(observer="wide") == {**OWN, "mono-quant-wide": "1.5", "mono-quant-mine": "2.0"}


def test_a_plugin_of_no_distribution_has_no_version_to_name(site: Site, versions: Callable[..., object]):
    assert versions(observer="wide", plugins=[site.module("my_plugin", observer("wide"))]) == OWN


def test_the_file_names_the_same_versions(site: Site, tmp_path: Path, model: nn.Module):
    site.install("mono-quant-mine", SOURCE)
    path = tmp_path / "model.safetensors"
    result = Quantizer().quantize(model, 2)
    result.save(path)
    assert read_manifest(SafetensorsFormat().load(path).manifest).versions == dict(result.info.versions)
