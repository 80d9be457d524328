"""The fastest runtime, found by a measurement that is made once."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.errors import CompilationError, ConfigurationError, QuantizationWarning
from mono_quant.plugin_api import Runtime, Support
from mono_quant.runtimes import compare_runtimes, compile_model, fastest, remember_comparison
from mono_quant.runtimes.remembered import question
from mono_quant.testing.models import batches, small_net

EXAMPLE = Batch((batches()[0],))
VERSIONS = {"torch": "1"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONO_QUANT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def quantized() -> nn.Module:
    return Quantizer(validators=(), kernel="reference").quantize(small_net(), batches()).model


class Slow(nn.Module):
    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.model(x)


class Sleeping(Runtime):
    """Takes so many seconds a batch, and counts how often it compiled."""

    def __init__(self, seconds: float, why_not: str = "") -> None:
        self.seconds, self.compiled, self.why_not = seconds, 0, why_not

    def supports(self, *_: nn.Module) -> Support:
        return Support(self.why_not)

    def compile(self, model: nn.Module, *_: Batch) -> nn.Module:
        self.compiled += 1
        return Slow(model, self.seconds)

    def details(self, *_: nn.Module) -> str:
        return f"{self.seconds} s"


class Failing(Runtime):
    def compile(self, *_: object) -> nn.Module:
        raise KeyError("an operator it does not know")


class Wrong(Runtime):
    def compile(self, model: nn.Module, *_: Batch) -> nn.Module:
        return nn.Sequential(model, nn.ReLU())


def test_the_fastest_is_taken(quantized: nn.Module):
    compiled = fastest(quantized, EXAMPLE, [("slow", Sleeping(0.02)), ("fast", Sleeping(0.002))], VERSIONS)
    assert (compiled.runtime, compiled.details) == ("fast", "0.002 s")
    assert {timing.runtime for timing in compiled.timings} == {"slow", "fast"}
    assert torch.equal(compiled(EXAMPLE.args[0]), quantized(EXAMPLE.args[0]))
    assert "runtime='fast', 0.002 s" in repr(compiled)


def test_it_is_measured_once(quantized: nn.Module):
    slow, fast = Sleeping(0.02), Sleeping(0.002)
    runtimes = [("slow", slow), ("fast", fast)]
    first = fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    again = fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    assert (slow.compiled, fast.compiled) == (1, 2)
    assert again.runtime == "fast"
    assert again.timings == first.timings


@pytest.mark.parametrize(
    "other",
    [
        lambda model: (model, Batch((torch.randn(3, 12),)), VERSIONS),
        lambda model: (model, EXAMPLE, {"torch": "2"}),
        lambda _: (
            Quantizer(validators=(), exclude=["head"]).quantize(small_net(), batches()).model,
            EXAMPLE,
            VERSIONS,
        ),
    ],
    ids=["shape", "version", "model"],
)
def test_another_question_is_measured_anew(quantized: nn.Module, other: Callable[[nn.Module], tuple]):
    slow = Sleeping(0.01)
    runtimes = [("slow", slow), ("fast", Sleeping(0.0))]
    fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    model, batch, versions = other(quantized)
    fastest(model, batch, runtimes, versions)
    assert slow.compiled == 2


def test_another_number_of_threads_is_another_question(quantized: nn.Module):
    slow, before = Sleeping(0.01), torch.get_num_threads()
    runtimes = [("slow", slow), ("fast", Sleeping(0.0))]
    fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    torch.set_num_threads(before + 1)
    try:
        fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    finally:
        torch.set_num_threads(before)
    assert slow.compiled == 2


def test_those_that_fail_are_left_out_with_the_reason(quantized: nn.Module):
    runtimes = [
        ("failing", Failing()), ("wrong", Wrong()), ("absent", Sleeping(0, "pip install it")),
        ("right", Sleeping(0.01)),
    ]  # fmt: skip
    compiled = fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    assert compiled.runtime == "right"
    reasons = {timing.runtime: timing.why_not for timing in compiled.timings}
    assert reasons["failing"] == "runtime 'failing': KeyError: 'an operator it does not know'"
    assert "does not give what the reference kernels give" in reasons["wrong"]
    assert reasons["absent"] == "runtime 'absent' cannot run this model here: pip install it"
    assert reasons["right"] == ""


def test_when_none_is_left_the_error_has_the_reasons(quantized: nn.Module):
    with pytest.raises(CompilationError, match=r"no runtime runs this model: failing: .*an operator it does not know"):
        fastest(quantized, EXAMPLE, [("failing", Failing())], VERSIONS)
    with pytest.raises(CompilationError, match="none is installed"):
        fastest(quantized, EXAMPLE, [], VERSIONS)


def test_a_winner_that_fails_later_is_measured_away(quantized: nn.Module):
    slow = Sleeping(0.01)
    fastest(quantized, EXAMPLE, [("slow", slow), ("fast", Sleeping(0.0))], VERSIONS)
    assert fastest(quantized, EXAMPLE, [("slow", slow), ("fast", Failing())], VERSIONS).runtime == "slow"
    assert fastest(quantized, EXAMPLE, [("slow", slow)], VERSIONS).runtime == "slow"


def test_a_kept_answer_that_is_damaged_is_not_there(quantized: nn.Module, cache: Path):
    slow = Sleeping(0.01)
    runtimes = [("slow", slow), ("fast", Sleeping(0.0))]
    fastest(quantized, EXAMPLE, runtimes, VERSIONS)
    (kept,) = cache.rglob("*.json")
    for damaged in ("", "{}", "[1]", json.dumps([{"runtime": "fast", "milliseconds": 1}])):
        kept.write_text(damaged)
        assert fastest(quantized, EXAMPLE, runtimes, VERSIONS).runtime == "fast"
    assert slow.compiled == 5


def test_a_cache_that_cannot_be_written_is_a_warning(quantized: nn.Module, cache: Path):
    (cache / "runtimes").write_text("a file where the folder goes")
    with pytest.warns(QuantizationWarning, match="cannot be kept for the next time"):
        fastest(quantized, EXAMPLE, [("only", Sleeping(0.0))], VERSIONS)


def test_none_is_begun_after_the_budget(quantized: nn.Module):
    late = Sleeping(0.0)
    timings, compiled = compare_runtimes(quantized, EXAMPLE, [("a", Sleeping(0.01)), ("b", late)], budget_s=0)
    assert [(timing.runtime, timing.why_not) for timing in timings] == [("a", ""), ("b", "not tried within 0 s")]
    assert set(compiled) == {"a"}
    assert late.compiled == 0


def test_those_that_take_long_to_compile_come_last(quantized: nn.Module):
    class Late(Sleeping):
        is_slow_to_compile = True

    timings, _ = compare_runtimes(quantized, EXAMPLE, [("a", Late(0.0)), ("b", Sleeping(0.0))], budget_s=0)
    assert [timing.runtime for timing in timings] == ["b", "a"]


class FailsLater(Runtime):
    """Compiles at the first call, which fails."""

    def compile(self, *_: object) -> nn.Module:
        class NoCompiler(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                raise OSError(f"no compiler for {tuple(x.shape)}")

        return NoCompiler()


def test_a_winner_that_fails_at_its_first_call_is_measured_away_too(quantized: nn.Module):
    fastest(quantized, EXAMPLE, [("slow", Sleeping(0.01)), ("fast", Sleeping(0.0))], VERSIONS)
    compiled = fastest(quantized, EXAMPLE, [("slow", Sleeping(0.01)), ("fast", FailsLater())], VERSIONS)
    assert compiled.runtime == "slow"
    with pytest.raises(CompilationError, match=r"runtime 'fast' does not run the example: OSError: no compiler"):
        compile_model(quantized, EXAMPLE, ("fast", FailsLater()))


def test_what_a_runtime_runs_on_belongs_to_the_question(quantized: nn.Module):
    class Versioned(Sleeping):
        version = "1"

        def versions(self) -> dict[str, str]:
            return {"engine": self.version}

    slow, installed = Sleeping(0.01), Versioned(0.0, "pip install it")
    assert fastest(quantized, EXAMPLE, [("slow", slow), ("fast", installed)], VERSIONS).runtime == "slow"
    installed.why_not = ""
    assert fastest(quantized, EXAMPLE, [("slow", slow), ("fast", installed)], VERSIONS).runtime == "fast"
    installed.version = "2"
    fastest(quantized, EXAMPLE, [("slow", slow), ("fast", installed)], VERSIONS)
    assert slow.compiled == 3


def test_kernels_to_choose_from_belong_to_the_question():
    models = [
        Quantizer(validators=(), kernel=kernel, show_progress=False).quantize(small_net(), batches()).model
        for kernel in ("auto", "reference")
    ]
    assert len({question(model, EXAMPLE, [], VERSIONS) for model in models}) == 2


def test_a_measurement_that_had_not_the_time_for_all_is_not_kept(quantized: nn.Module, cache: Path):
    timings, _ = compare_runtimes(quantized, EXAMPLE, [("a", Sleeping(0.0)), ("b", Sleeping(0.0))], budget_s=0)
    remember_comparison(quantized, EXAMPLE, [], VERSIONS, timings)
    assert not [*cache.rglob("*.json")]


def test_one_name_is_measured_once(quantized: nn.Module):
    with pytest.raises(ConfigurationError, match="'a' is given twice"):
        compare_runtimes(quantized, EXAMPLE, [("a", Sleeping(0.0)), ("a", Sleeping(0.1))])


def test_without_a_home_nothing_is_kept(quantized: nn.Module, monkeypatch: pytest.MonkeyPatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for variable in ("MONO_QUANT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.warns(QuantizationWarning, match="cannot be kept"):
        assert fastest(quantized, EXAMPLE, [("only", Sleeping(0.0))], VERSIONS).runtime == "only"
