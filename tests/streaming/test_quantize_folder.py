"""A folder is quantized as its checkpoint is, whatever the workers, the files and the interruptions."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from folders import contents, llama, write_folder
from plain_format import PlainPlugin
from safetensors.torch import load_file, save_file

from mono_quant import Quantizer, load_model
from mono_quant.errors import ArtifactError, ConfigurationError, UnsupportedLayerError
from mono_quant.streaming import folder as folder_module
from mono_quant.streaming.journal import JOURNAL
from mono_quant.streaming.piece import Unit
from mono_quant.streaming.pool import do_units

INT4 = {"name": "int4-weight-only", "group_size": 32}
SCHEMES = [
    "int8-weight-only",
    INT4,
    {"name": "int3-weight-only", "group_size": 24, "misfit": "pad"},
    "float8-weight-only",
    "bfloat16",
    {"name": "int8-weight-only", "granularity": "per-tensor"},
]


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors in the files of a folder."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def interrupted_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run is stopped when so many units are done."""

    def some(units: Sequence[Unit], *others: Any) -> Generator[Unit]:  # noqa: ANN401
        for number, unit in enumerate(do_units(units, *others)):
            if number == count:
                raise KeyboardInterrupt
            yield unit

    monkeypatch.setattr(folder_module, "do_units", some)


DTYPES = [torch.bfloat16, torch.float32, torch.float16, torch.float64]
CHANGES = [(scheme, dtype) for scheme in SCHEMES for dtype in DTYPES if str(dtype) != f"torch.{scheme}"]
"""What is bfloat16 already is left as it is by that scheme."""


@pytest.mark.parametrize(("scheme", "dtype"), CHANGES, ids=str)
@pytest.mark.usefixtures("small_units")
def test_the_tensors_are_those_of_the_checkpoint_saved_at_once(
    tmp_path: Path, scheme: str | Mapping[str, object], dtype: torch.dtype
):
    quantizer = Quantizer(scheme, exclude=["lm_head"], show_progress=False)
    write_folder(tmp_path / "in", llama(dtype=dtype))
    found = quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    checkpoint = quantizer.quantize_checkpoint(tmp_path / "in")
    expected = checkpoint.state_dict()
    tensors = load_model(tmp_path / "out" / "model.safetensors.index.json")
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor.contiguous().view(-1).view(torch.uint8), tensors[name].view(-1).view(torch.uint8))
    assert found.plan == checkpoint.plan
    assert found.quantized_size_mb == checkpoint.quantized_size_mb


@pytest.mark.usefixtures("small_units")
def test_one_file_becomes_the_file_that_save_writes(tmp_path: Path):
    quantizer = Quantizer(INT4, show_progress=False)
    write_folder(tmp_path / "in", llama(), shards=1)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    quantizer.quantize_checkpoint(tmp_path / "in").save(tmp_path / "saved.safetensors")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "saved.safetensors").read_bytes()
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()


@pytest.mark.usefixtures("small_units")
def test_two_workers_write_the_bytes_of_one(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    for workers in (1, 2):
        Quantizer(INT4, show_progress=False).quantize_folder(
            tmp_path / "in", tmp_path / f"out{workers}", workers=workers
        )
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_a_config_with_numbers_that_json_has_not_is_kept(tmp_path: Path):
    source = write_folder(tmp_path / "in", llama())
    (source / "config.json").write_text('{"limits": [0.0, Infinity], "hidden_size": 64}')
    Quantizer(INT4, show_progress=False).quantize_folder(source, tmp_path / "out", workers=1)
    assert json.loads((tmp_path / "out" / "config.json").read_bytes()) == {
        "limits": [0.0, math.inf], "hidden_size": 64,
    }  # fmt: skip


def test_other_files_are_copied_and_other_weights_are_named(tmp_path: Path):
    source = write_folder(tmp_path / "in", llama())
    (source / "pytorch_model.bin").write_bytes(b"x")
    (source / ".gitattributes").write_bytes(b"x")
    found = Quantizer(INT4, show_progress=False).quantize_folder(source, tmp_path / "out", workers=1)
    assert found.copied == ("extra/template.txt", "tokenizer.json")
    assert found.left_out == ("pytorch_model.bin",)
    assert "pytorch_model.bin" in str(found)
    written = contents(tmp_path / "out")
    assert {name for name in written if not name.startswith("model")} == {*found.copied, "config.json"}
    assert all(written[name] == (source / name).read_bytes() for name in found.copied)
    assert json.loads(written["config.json"]) == json.loads((source / "config.json").read_bytes())
    index = json.loads(written["model.safetensors.index.json"])
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in loaded(tmp_path / "out").values())
    assert index["weight_map"].keys() == loaded(tmp_path / "out").keys()


def test_a_layer_of_two_files_comes_into_one(tmp_path: Path):
    state = llama()
    names = ["model.layers.0.self_attn.q_proj.weight", *(name for name in state if "layers.0.self_attn.q" not in name)]
    apart = {name: state[name] for name in [*names, "model.layers.0.self_attn.q_proj.bias"]}
    write_folder(tmp_path / "in", apart, shards=2)
    Quantizer(INT4, show_progress=False).quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    weight_map = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_bytes())["weight_map"]
    assert len({file for name, file in weight_map.items() if "layers.0.self_attn.q_proj" in name}) == 1
    assert torch.equal(loaded(tmp_path / "out")[names[0][:-6] + "bias"], state[names[0][:-6] + "bias"])


def test_files_can_be_of_another_size(tmp_path: Path):
    write_folder(tmp_path / "in", llama(), shards=1)
    found = Quantizer(INT4, show_progress=False).quantize_folder(
        tmp_path / "in", tmp_path / "out", workers=1, max_shard_bytes="20KB"
    )
    assert len(found.files) > 3
    assert loaded(tmp_path / "out").keys() == Quantizer(INT4).quantize_checkpoint(tmp_path / "in").state_dict().keys()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_format_of_folders_gets_whole_weights_and_says_its_part_of_the_config(tmp_path: Path, workers: int):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, exclude=["lm_head"], plugins=[PlainPlugin()], show_progress=False)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", format="plain-folder", workers=workers)
    expected = quantizer.quantize_checkpoint(tmp_path / "in")
    tensors, state = loaded(tmp_path / "out"), expected.state_dict()
    for layer in expected.plan.layers:
        assert torch.equal(tensors[f"{layer}.weight_codes"], state[f"{layer}.weight"])
        assert torch.equal(tensors[f"{layer}.weight_scale"], state[f"{layer}.weight_scale"])
        assert tensors[f"{layer}.weight_shape"].tolist() == list(expected.plan.layers[layer].weights["weight"].shape)
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert config["hidden_size"] == 64
    assert config["quantization_config"]["layers"] == sorted(expected.plan.layers)
    assert "lm_head.weight" in config["quantization_config"]["kept"]


def test_what_a_format_refuses_is_named_before_any_work(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, plugins=[PlainPlugin()], show_progress=False)
    named = {"name": "plain-folder", "refused": "lm_head"}
    with pytest.raises(ConfigurationError, match=r"lm_head: it is refused"):
        quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", format=named)
    assert not (tmp_path / "out").exists()


def test_what_a_format_refuses_can_be_kept_in_float(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    named = {"name": "plain-folder", "refused": "lm_head"}
    quantizer = Quantizer(INT4, format=named, on_refusal="keep", plugins=[PlainPlugin()], show_progress=False)
    folder = quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert folder.plan.kept["lm_head"] == "plain-folder cannot hold it: it is refused"
    assert "lm_head" not in folder.plan.layers
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "lm_head.weight" in config["quantization_config"]["kept"]


def test_another_scheme_for_what_is_refused_needs_the_model(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(
        INT4, format="plain-folder", on_refusal="int8-weight-only", plugins=[PlainPlugin()], show_progress=False
    )
    with pytest.raises(ConfigurationError, match="needs the model"):
        quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_format_that_breaks_its_word_is_named_with_the_tensor_and_the_file(tmp_path: Path, workers: int):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, plugins=[PlainPlugin()], show_progress=False)
    with pytest.raises(ArtifactError, match=r"model-0000\d-of-00003.safetensors, tensor '.*PlainFolder made nothing"):
        quantizer.quantize_folder(
            tmp_path / "in", tmp_path / "out", format={"name": "plain-folder", "says": "nothing"}, workers=workers
        )


def test_a_format_of_files_is_refused(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    with pytest.raises(ConfigurationError, match="writes no folders"):
        Quantizer(INT4).quantize_folder(tmp_path / "in", tmp_path / "out", format="safetensors")


def test_names_that_a_file_ties_stay_tied(tmp_path: Path):
    state = llama()
    del state["lm_head.weight"]
    source = write_folder(tmp_path / "in", state, shards=1)
    ties = {"lm_head.weight": "model.embed_tokens.weight", "format": "pt"}
    save_file(state, source / "model.safetensors", metadata=ties)
    quantizer = Quantizer(INT4, show_progress=False)
    found = quantizer.quantize_folder(source, tmp_path / "out", workers=1)
    assert {"lm_head", "model.embed_tokens"} <= set(found.plan.layers)
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    tensors = load_model(tmp_path / "out" / "model.safetensors")
    assert torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"])
    assert torch.equal(tensors["lm_head.weight_scale"], tensors["model.embed_tokens.weight_scale"])
    kept = Quantizer(INT4, exclude=["lm_head"], show_progress=False).quantize_folder(source, tmp_path / "kept")
    assert "model.embed_tokens" not in kept.plan.layers


def test_links_are_followed_as_in_the_cache_of_hugging_face(tmp_path: Path):
    source = write_folder(tmp_path / "blobs", llama())
    links = tmp_path / "snapshots" / "main"
    links.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            (links / path.name).symlink_to(path)
    (links / "other").symlink_to(source / "extra")
    found = Quantizer(INT4, show_progress=False).quantize_folder(links, tmp_path / "out", workers=1)
    assert found.left_out == ("other",)
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("count", [0, 1, 7, 30])
@pytest.mark.usefixtures("small_units")
def test_an_interrupted_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, show_progress=False)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "whole", workers=1)
    with monkeypatch.context() as patch:
        interrupted_after(count, patch)
        with pytest.raises(KeyboardInterrupt):
            quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert not [name for name in contents(tmp_path / "out") if not name.startswith(".")]
    found = quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert (found.resumed > 0) == (count > 0)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_units")
def test_a_journal_that_is_cut_off_and_a_part_that_is_damaged_are_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, show_progress=False)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "whole", workers=1)
    with monkeypatch.context() as patch:
        interrupted_after(30, patch)
        with pytest.raises(KeyboardInterrupt):
            quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    journal = tmp_path / "out" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])
    with (tmp_path / "out" / ".model-00001-of-00003.safetensors.part").open("r+b") as file:
        file.truncate(100)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_units")
def test_a_run_that_ended_while_files_took_their_names_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, show_progress=False)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "whole", workers=1)
    replace = Path.replace

    def fails(path: Path, target: Path) -> Path:
        if target.name == "model-00002-of-00003.safetensors":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(KeyboardInterrupt):
            quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    with pytest.raises(ArtifactError, match="needs the shard 'model-00002-of-00003"):
        load_model(tmp_path / "out" / "model.safetensors.index.json")
    (tmp_path / "out" / ".tokenizer.json.0123456789abcdef.tmp").write_bytes(b"x")
    found = quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert found.resumed == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("before", ["nothing", "all of it"])
def test_a_run_that_ended_before_its_files_were_made_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
):
    write_folder(tmp_path / "in", llama())
    quantizer = Quantizer(INT4, show_progress=False)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "whole", workers=1)
    if before == "all of it":  # and then a part is lost
        with monkeypatch.context() as patch:
            patch.setattr(folder_module, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
        (tmp_path / "out" / ".model-00001-of-00003.safetensors.part").unlink()
    make = folder_module._make_missing

    def ends(shards: object) -> None:
        make(shards)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "_make_missing", ends)
        with pytest.raises(KeyboardInterrupt):
            quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["scheme", "input", "size"])
def test_the_beginning_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str):
    source = write_folder(tmp_path / "in", llama())
    with monkeypatch.context() as patch:
        interrupted_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            Quantizer(INT4, show_progress=False).quantize_folder(source, tmp_path / "out", workers=1)
    before = contents(tmp_path / "out")
    if change == "input":
        os.utime(source / "model-00001-of-00003.safetensors", ns=(1, 1))
    what = {"scheme": "options, layout", "input": "input files", "size": "max_shard_bytes, layout"}[change]
    with pytest.raises(ConfigurationError, match=f"another run, with other {what}"):
        Quantizer("int8-weight-only" if change == "scheme" else INT4).quantize_folder(
            source, tmp_path / "out", max_shard_bytes=10_000 if change == "size" else None
        )
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_weight_that_is_not_finite_is_named_with_its_file(tmp_path: Path, workers: int):
    state = llama()
    state["lm_head.weight"][999, 3] = torch.nan
    write_folder(tmp_path / "in", state)
    with pytest.raises(UnsupportedLayerError, match=r"model-00003-of-00003.safetensors, .*'lm_head.weight' has values"):
        Quantizer(INT4, show_progress=False).quantize_folder(tmp_path / "in", tmp_path / "out", workers=workers)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "in", llama())
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ArtifactError, match="GB are free"):
        Quantizer(INT4).quantize_folder(tmp_path / "in", tmp_path / "out")
    assert not contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "message"), [("in", "is the folder that is read"), ("in/out", "lies in the other"), (".", "lies in the")]
)
def test_folders_in_each_other_are_refused(tmp_path: Path, target: str, message: str):
    write_folder(tmp_path / "in", llama())
    with pytest.raises(ConfigurationError, match=message):
        Quantizer(INT4).quantize_folder(tmp_path / "in", tmp_path / target)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path):
    write_folder(tmp_path / "in", llama())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"not empty.*'notes.txt'"):
        Quantizer(INT4).quantize_folder(tmp_path / "in", tmp_path / "out")
    assert contents(tmp_path / "out") == {"notes.txt": b"mine"}


def _no_shard(source: Path) -> None:
    (source / "model-00002-of-00003.safetensors").unlink()


def _elsewhere(source: Path) -> None:
    index = source / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002", "../model-00002"))


def _twice(source: Path) -> None:
    path = source / "model-00002-of-00003.safetensors"
    save_file({**load_file(path), "model.embed_tokens.weight": torch.ones(2, 2)}, path)


def _only_pickle(source: Path) -> None:
    for path in source.glob("model*"):
        path.unlink()
    (source / "pytorch_model.bin").write_bytes(b"x")


def _a_pipe(source: Path) -> None:
    os.mkfifo(source / "pipe")


def _quantized_text(source: Path) -> None:
    (source / "config.json").write_text('{"text_config": {"quantization_config": {"quant_method": "fp8"}}}')


def _quantized(source: Path) -> None:
    (source / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_shard, r"needs the shard 'model-00002-of-00003.safetensors'"),
        (_elsewhere, r"no plain file name"),
        (_twice, r"holds tensor 'model.embed_tokens.weight'"),
        (_only_pickle, r"only pytorch_model.bin: save the weights as safetensors"),
        (_a_pipe, r"pipe is neither a file nor a folder"),
        (_quantized, r"the model is quantized already"),
        (_quantized_text, r"the model is quantized already"),
    ],
)
def test_what_is_wrong_with_the_input_is_said_before_any_work(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
):
    source = write_folder(tmp_path / "in", llama())
    spoil(source)
    with pytest.raises((ArtifactError, ConfigurationError), match=message):
        Quantizer(INT4).quantize_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_folder(tmp_path / "in", llama())

    def changing(units: Sequence[Unit], *others: Any) -> Generator[Unit]:  # noqa: ANN401
        yield from do_units(units, *others)
        (source / "tokenizer.json").write_text("other")

    monkeypatch.setattr(folder_module, "do_units", changing)
    with pytest.raises(ArtifactError, match="changed while it was read"):
        Quantizer(INT4, show_progress=False).quantize_folder(source, tmp_path / "out", workers=1)


@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_at_least_one_worker(tmp_path: Path, workers: int):
    with pytest.raises(ConfigurationError, match="at least 1"):
        Quantizer(INT4).quantize_folder(tmp_path / "in", tmp_path / "out", workers=workers)


def test_runs_that_are_killed_end_in_the_same_bytes(tmp_path: Path):
    source = write_folder(tmp_path / "in", llama(vocabulary=50_000), shards=6)
    command = [sys.executable, "-m", "mono_quant", "checkpoint", str(source), "--workers", "2", "--quiet"]
    command += ["--scheme", json.dumps(INT4)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)  # noqa: S603
    for seconds in (1.9, 2.3, 2.7):
        killed = subprocess.Popen([*command, str(tmp_path / "out")])  # noqa: S603
        try:
            code = killed.wait(seconds)
        except subprocess.TimeoutExpired:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        else:
            assert code in {0, 3}  # it was done, now or before
    if (tmp_path / "out" / JOURNAL).exists() or not (tmp_path / "out" / "config.json").exists():
        subprocess.run([*command, str(tmp_path / "out")], check=True)  # noqa: S603
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
