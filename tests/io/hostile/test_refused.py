"""Hostile and broken files: each refused with an error that names it, nothing run, nothing changed."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from everything import Everything, same_bits
from hostile_case import Case, Scene
from hostile_table import ALL, NAMES
from plan_cases import HARMLESS
from torch import nn

from mono_quant import Quantizer, load_model
from mono_quant.errors import ArtifactError, MonoQuantError

LONGEST = 1200


@pytest.fixture
def scene(good_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Scene]:
    """Sets the scene for a format. A module that is named in some files can be imported, and must not be."""
    (tmp_path / "hostile_planted.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    return lambda suffix: Scene(good_files[suffix], tmp_path / f"bad{suffix}", tmp_path / "mark")


def refused(case: Case, scene: Scene, load: Callable[[Path], object], error: type[MonoQuantError]) -> None:
    with pytest.raises(error, match=case.words) as caught:
        load(scene.path)
    message = str(caught.value)
    assert str(scene.path) in message
    assert len(message) < LONGEST + len(str(scene.path))
    assert all(character.isprintable() or character == "\n" for character in message)


def bits(model: nn.Module) -> dict[str, tuple[int, object]]:
    return {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize(("case", "suffix"), ALL, ids=NAMES)
def test_a_hostile_file_is_refused(case: Case, suffix: str, scene: Callable[[str], Scene]):
    played = scene(suffix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what it saves for some of these files
        case.make(played)
    skeleton = Everything()
    before, modules = bits(skeleton), dict(skeleton.named_modules())
    refused(case, played, lambda path: Quantizer(kernel="reference").load(path, skeleton), case.error)
    if case.tensors_are_fine:
        load_model(played.path)
    else:
        refused(case, played, load_model, ArtifactError)
    assert not played.mark.exists()
    assert "hostile_planted" not in sys.modules
    after = bits(skeleton)
    assert dict(skeleton.named_modules()) == modules
    assert before.keys() == after.keys()
    assert all(before[name][0] == after[name][0] and same_bits(before[name][1], after[name][1]) for name in before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: case.name)
def test_a_recipe_that_is_hostile_is_not_carried_out(case: Case, suffix: str, scene: Callable[[str], Scene]):
    played = scene(suffix)
    case.make(played)
    loaded = Quantizer(kernel="reference").load(played.path, Everything)
    good = Quantizer(kernel="reference").load(played.good, Everything)
    assert all(same_bits(tensor, good.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert not played.mark.exists()
    assert "hostile_planted" not in sys.modules


def test_the_code_in_these_files_would_leave_its_mark(good_files: dict[str, Path], tmp_path: Path):
    scene = Scene(good_files[".pt"], tmp_path / "bad.pt", tmp_path / "mark")
    for name in ("code in place of everything", "a call of os.system", "a call of eval", "an old file with code"):
        next(case for case, _ in ALL if case.name == name).make(scene)
        torch.load(scene.path, weights_only=False)
        assert scene.mark.exists()
        scene.mark.unlink()


def test_there_are_at_least_thirty_cases_and_no_two_of_one_name():
    assert len(set(NAMES)) == len(NAMES) > 200
