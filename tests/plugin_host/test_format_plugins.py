"""A format of a third party is chosen by the suffix of the file."""

import pytest
import torch
from fake_distributions import Site
from torch import nn

from mono_quant import Quantizer, load_model, save_model
from mono_quant.errors import ArtifactError, PluginConflictError, PluginError
from mono_quant.io import load_pytorch

FORMAT = """
from mono_quant import hookimpl
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.plugin_api import FormatSpec

class TheFormat(PytorchFormat):
    def can_store(self, artifact):
        return [f"{name} is a float" for name, t in artifact.tensors.items() if {picky} and t.is_floating_point()]

@hookimpl
def mono_quant_formats():
    return [FormatSpec(name="NAME", summary="a test's format", factory=TheFormat, suffixes=SUFFIXES)]
"""


def file_format(name: str, *suffixes: str, picky: bool = False) -> str:
    code = FORMAT.replace("NAME", name).replace("SUFFIXES", repr(suffixes))
    return code.replace("{picky}", repr(picky))


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def quantized(model: nn.Module, batches: list[torch.Tensor]) -> nn.Module:
    return Quantizer().quantize(model, batches).model


def test_save_model_and_load_model_use_the_format_of_the_suffix(site: Site, quantized: nn.Module):
    site.install("mono-quant-tape", file_format("tape", ".tape"))
    path = site.folder / "model.tape"
    save_model(quantized, path)
    assert_same(load_model(path), quantized.state_dict())
    assert_same(load_pytorch(path), quantized.state_dict())


def test_a_result_is_saved_and_a_model_loaded_in_it(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    site.install("mono-quant-tape", file_format("tape", ".tape"))
    path = site.folder / "model.tape"
    quantizer = Quantizer()
    result = quantizer.quantize(model, batches)
    result.save(path)
    assert_same(quantizer.load(path, model).state_dict(), result.model.state_dict())


def test_each_of_several_suffixes_chooses_the_format(site: Site, quantized: nn.Module):
    site.install("mono-quant-tape", file_format("tape", ".tape", ".reel"))
    for suffix in (".tape", ".reel"):
        save_model(quantized, site.folder / f"model{suffix}")
        assert_same(load_pytorch(site.folder / f"model{suffix}"), quantized.state_dict())


def test_a_suffix_of_two_parts_chooses_the_format(site: Site, quantized: nn.Module):
    site.install("mono-quant-tape", file_format("tape", ".tape.old"))
    save_model(quantized, site.folder / "model.v2.tape.old")
    assert_same(load_pytorch(site.folder / "model.v2.tape.old"), quantized.state_dict())


def test_the_longest_suffix_that_fits_chooses_the_format(site: Site, quantized: nn.Module):
    site.install("mono-quant-short", file_format("short", ".old", picky=True))
    site.install("mono-quant-long", file_format("long", ".tape.old"))
    save_model(quantized, site.folder / "model.tape.old")
    with pytest.raises(ArtifactError, match="is a float"):
        save_model(quantized, site.folder / "model.old")


def test_what_a_format_cannot_store_is_refused_with_its_reasons_and_no_file_appears(site: Site, quantized: nn.Module):
    site.install("mono-quant-tape", file_format("tape", ".tape", picky=True))
    with pytest.raises(ArtifactError, match=r"model\.tape cannot be written: .*weight_scale is a float"):
        save_model(quantized, site.folder / "model.tape")
    assert not (site.folder / "model.tape").exists()


@pytest.mark.parametrize("name", ["model.tap", "model.tapes", "tape", ".tape", "model"])
def test_another_suffix_is_an_error_that_lists_the_known(site: Site, quantized: nn.Module, name: str):
    site.install("mono-quant-tape", file_format("tape", ".tape"))
    with pytest.raises(
        ArtifactError, match=r"no format has the suffix .*\.pt, \.pt2, \.pth, \.safetensors, .*\.tape\n  chosen by name"
    ):
        save_model(quantized, site.folder / name)


def test_two_distributions_with_one_suffix_are_an_error_that_names_both(site: Site, quantized: nn.Module):
    for name in ("one", "two"):
        site.install(f"mono-quant-{name}", file_format(name, ".tape"))
    with pytest.raises(PluginConflictError, match=r"'\.tape' is claimed by one \(.* 1\.0\) and two \(.* 1\.0\)"):
        save_model(quantized, site.folder / "model.tape")


def test_other_suffixes_are_not_touched_by_that(site: Site, quantized: nn.Module):
    for name in ("one", "two"):
        site.install(f"mono-quant-{name}", file_format(name, ".tape"))
    save_model(quantized, site.folder / "model.safetensors")
    assert_same(load_model(site.folder / "model.safetensors"), quantized.state_dict())


def test_a_format_that_is_passed_wins_a_suffix(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    module = site.module("my_format", file_format("tape", ".pt", picky=True))
    result = Quantizer(plugins=[module]).quantize(model, batches)
    with pytest.raises(ArtifactError, match="is a float"):
        result.save(site.folder / "model.pt")


def test_the_last_format_that_is_passed_wins_a_suffix(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    picky = site.module("my_format", file_format("first", ".tape", picky=True))
    other = site.module("my_other_format", file_format("last", ".tape"))
    result = Quantizer(plugins=[picky, other]).quantize(model, batches)
    result.save(site.folder / "model.tape")
    assert_same(load_pytorch(site.folder / "model.tape"), result.model.state_dict())


FOLDER = """
from mono_quant import hookimpl
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.plugin_api import FolderFormat, FormatSpec

class Shelf(FolderFormat):
    def can_store(self, artifact):
        return []
    def save(self, artifact, path):
        path.mkdir()
        PytorchFormat().save(artifact, path / "all.pt")
    def load(self, path):
        return PytorchFormat().load(path / "all.pt")
    def recognizes(self, path):
        return (path / "all.pt").exists()
    layout = encode = config = None

@hookimpl
def mono_quant_formats():
    return [FormatSpec(name="shelf", summary="a folder", factory=Shelf)]
"""


@pytest.mark.parametrize("name", ["model", "model.pt"])
def test_a_folder_is_read_by_the_format_that_knows_it_whatever_its_name(site: Site, quantized: nn.Module, name: str):
    site.install("mono-quant-shelf", FOLDER)
    save_model(quantized, site.folder / name, "shelf")
    assert_same(load_model(site.folder / name), quantized.state_dict())


def test_another_plugin_that_is_broken_does_not_keep_a_folder_from_being_read(site: Site, quantized: nn.Module):
    site.install("mono-quant-shelf", FOLDER)
    site.install(
        "mono-quant-broken", FOLDER.replace('"shelf"', '"broken"').replace("factory=Shelf", 'factory="no:Where"')
    )
    save_model(quantized, site.folder / "model", "shelf")
    assert_same(load_model(site.folder / "model"), quantized.state_dict())
    with pytest.raises(PluginError, match="no:Where"):
        load_model(site.folder / "model", "broken")
