"""A saved quantized model onto a skeleton: the same bits, and strict about everything that does not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from everything import Everything, WithLostBuffer, inputs, same_bits
from safetensors import safe_open
from safetensors.torch import save_file
from small_models import FEATURES, mlp, norm, quantize, quantized_names, rows, run
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer, load_model, save_model
from mono_quant.errors import ArtifactError, UnknownPluginError


@pytest.fixture
def saved(result: QuantizationResult, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    result.save(path)
    return path


def load(path: Path, model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    return Quantizer(kernel="reference").load(path, model)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Everything()


def rewritten(path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The same file with other tensors and the same manifest."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "skeleton", [Everything, Everything(), on_meta, on_meta()], ids=["class", "instance", "meta factory", "meta"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_loaded_model_has_the_same_bits_in_tensors_and_outputs(
    result: QuantizationResult, tmp_path: Path, skeleton: nn.Module | Callable[[], nn.Module], suffix: str
):
    result.save(tmp_path / f"model{suffix}")
    loaded, batch = load(tmp_path / f"model{suffix}", skeleton), inputs()[0]
    before, after = result.model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(same_bits(tensor, after[name]) for name, tensor in before.items())
    assert same_bits(run(result.model, batch), run(loaded, batch))
    assert quantized_names(loaded) == ["conv", "up", "down"]
    assert isinstance(loaded.bn, nn.Identity)


def test_a_loaded_model_is_in_eval_mode_wherever_it_was_saved(saved: Path):
    assert not any(module.training for module in load(saved, Everything).modules())


def test_loading_does_not_change_the_model_given(saved: Path):
    skeleton = Everything()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in skeleton.state_dict(keep_vars=True).items()}
    loaded = load(saved, skeleton)
    loaded.table.weight.data.zero_()
    after = skeleton.state_dict(keep_vars=True)
    assert all(id(after[name]) == key and torch.equal(after[name], tensor) for name, (key, tensor) in before.items())
    assert quantized_names(skeleton) == []


def test_hooks_of_the_model_given_go_on_in_the_loaded_one(saved: Path):
    skeleton, seen = Everything(), []
    skeleton.up.register_forward_hook(lambda *_: seen.append("up"))
    run(load(saved, skeleton), inputs()[0])
    assert seen == ["up"]


def test_a_loaded_model_is_saved_again_with_the_same_bytes(saved: Path):
    again = saved.with_name("again.safetensors")
    save_model(load(saved, Everything), again)
    assert again.read_bytes() == saved.read_bytes()


def test_a_buffer_that_is_not_stored_comes_from_the_model_given(tmp_path: Path):
    model, data = WithLostBuffer(), rows()
    model.lost.mul_(3)
    result = quantize(model, data, kernel="reference")
    result.save(tmp_path / "model.safetensors")
    skeleton = WithLostBuffer()
    skeleton.lost.mul_(3)
    assert same_bits(run(load(tmp_path / "model.safetensors", skeleton), data[0]), run(result.model, data[0]))


def test_a_buffer_that_is_not_stored_and_empty_in_the_model_given_is_an_error_that_names_it(tmp_path: Path):
    quantize(WithLostBuffer(), rows()).save(tmp_path / "model.safetensors")
    with torch.device("meta"):
        skeleton = WithLostBuffer()
    with pytest.raises(ArtifactError, match=r"lost.*not stored in the file.*'meta'"):
        load(tmp_path / "model.safetensors", skeleton)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("halves"), r"missing \['halves'\], unexpected \[\]"),
        (lambda t: t.pop("up.input_scale"), r"missing \['up.input_scale'\]"),
        (lambda t: t.update(more=torch.ones(1)), r"unexpected \['more'\]"),
        (lambda t: t.update(halves=torch.ones(4)), r"halves is torch.float32\[4\] in the file and torch.float16\[3\]"),
        (lambda t: t.update({"conv.weight": t["conv.weight"][:, :, :2].clone()}), r"conv.weight is torch.int8"),
        (lambda t: t.update({"conv.weight": t["conv.weight"].float()}), r"conv.weight is torch.float32"),
        (lambda t: t.update({"conv.weight": t["conv.weight"].short()}), r"conv.weight is torch.int16"),
        (lambda t: t.update(count=t["count"].int()), r"count is torch.int32\[\] in the file and torch.int64\[\]"),
        (lambda t: t.update(flags=t["flags"].to(torch.uint8)), r"flags is torch.uint8"),
        (lambda t: t.update(count=t["count"].double()), r"count is torch.float64"),
    ],
)
def test_a_file_whose_tensors_do_not_fit_is_refused_by_name(
    saved: Path, change: Callable[[dict[str, Tensor]], object], words: str
):
    with pytest.raises(ArtifactError, match=words):
        load(rewritten(saved, change), Everything)


class Other(Everything):
    """Differs in one point from the model that was saved."""

    def __init__(self, **changes: nn.Module | None) -> None:
        super().__init__()
        for name, module in changes.items():
            setattr(self, name, module)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mlp, "no layer 'conv', 'bn'"),
        (lambda: Other(up=None), "no layer 'up'"),
        (lambda: Other(conv=nn.Conv1d(2, 4, 5)), r"'conv' is Conv1d\(4, 2, 5\) in the model and Conv1d\(4, 2, 3\)"),
        (
            lambda: Other(up=nn.Embedding(FEATURES, FEATURES)),
            r"'up' is Embedding\(8, 8\) in the model and Linear\(8, 8\)",
        ),
        (lambda: Other(up=nn.ReLU()), "'up' is ReLU"),
        (lambda: Other(bn=nn.ReLU()), "bn-fold cannot be repeated on 'conv', 'bn'"),
        (lambda: Other(bn=norm(nn.BatchNorm1d(5))), "bn-fold cannot be repeated on 'conv', 'bn'"),
        (lambda: Other(more=nn.Linear(1, 1)), r"missing \['more.bias', 'more.weight'\]"),
        (
            lambda: Other(up=nn.Linear(FEATURES, FEATURES, bias=False)),
            r"missing \[\], unexpected \['up.bias'\]",
        ),
        (lambda: quantize(Everything(), inputs()).model, "'conv' is QuantizedConv1d|cannot be repeated"),
    ],
)
def test_another_model_is_refused_with_the_layer_that_differs(saved: Path, model: Callable[[], nn.Module], words: str):
    with pytest.raises(ArtifactError, match=words):
        load(saved, model)


@pytest.mark.parametrize("name", ["model", "file", "m"])
def test_a_file_whose_name_is_a_word_of_the_message_is_named_before_it(
    name: str, result: QuantizationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result.save(name, format="pytorch")
    with pytest.raises(ArtifactError, match=f"^{name}: "):
        Quantizer().load(name, nn.Sequential(nn.Linear(3, 3)), format="pytorch")


def test_a_file_without_a_manifest_is_no_quantized_model(tmp_path: Path):
    save_file({"0.weight": torch.ones(2, 2)}, tmp_path / "plain.safetensors")
    with pytest.raises(ArtifactError, match="no mono_quant manifest"):
        load(tmp_path / "plain.safetensors", mlp)


def test_a_file_with_the_ties_of_a_float_model_is_no_quantized_model(tmp_path: Path):
    save_model(Everything(), tmp_path / "float.safetensors")
    with pytest.raises(ArtifactError, match="no mono_quant manifest"):
        load(tmp_path / "float.safetensors", Everything)


def test_a_file_that_names_a_scheme_that_is_not_installed_says_so(tmp_path: Path):
    result = quantize(mlp(), rows())
    result.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        metadata = {
            key: value.replace('"scheme": "int8-static"', '"scheme": "nf3"') for key, value in file.metadata().items()
        }
    save_file(dict(load_model(tmp_path / "model.safetensors")), tmp_path / "model.safetensors", metadata=metadata)
    with pytest.raises(UnknownPluginError, match="nf3"):
        load(tmp_path / "model.safetensors", mlp)


def test_a_state_dict_from_a_file_goes_into_the_quantized_model(saved: Path, result: QuantizationResult):
    target = load(saved, Everything)
    for tensor in target.state_dict().values():
        tensor.zero_()
    target.load_state_dict(load_model(saved))
    assert same_bits(run(target, inputs()[0].clone().fill_(0.5)), run(result.model, inputs()[0].clone().fill_(0.5)))
