"""Sources, kernels and runtimes are tried unasked; what goes wrong in a third party's must not stop the others."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_distributions import Site
from torch import nn

from mono_quant import Batch, Quantizer, hookimpl
from mono_quant.errors import (
    CalibrationError,
    CompilationError,
    ConfigurationError,
    PluginConflictError,
    PluginError,
    PluginWarning,
    QuantizationWarning,
)
from mono_quant.kernels.select import forget_measurements
from mono_quant.plugin_api import Source, SourceSpec
from mono_quant.revalidate import validate_file
from mono_quant.runtimes import CompiledModel

SOURCE = """
from mono_quant import Batch, hookimpl
from mono_quant.plugin_api import Source, SourceSpec

class TheSource(Source):
    def __init__(self{options}):
        {made}
    def accepts(self, data):
        {accepts}
    def batches(self, data):
        yield from map(Batch, zip(data))

@hookimpl
def mono_quant_sources():
    return [SourceSpec(name="tape", summary="a test's source", factory={factory})]
"""
KERNEL = """
from mono_quant import hookimpl
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import KernelSpec

class TheKernel(ReferenceKernel):
    def __init__(self):
        {made}

@hookimpl
def mono_quant_kernels():
    return [KernelSpec(name="mine", summary="a test's kernel", factory={factory}, aliases=("own",))]
"""
RUNTIME = """
from mono_quant import hookimpl
from mono_quant.plugin_api import Runtime, RuntimeSpec
from torch import nn

class TheRuntime(Runtime):
    def __init__(self):
        {made}
    def supports(self, model):
        {supports}
    def compile(self, model, example):
        {compiles}
    def details(self, compiled):
        {details}

@hookimpl
def mono_quant_runtimes():
    return [RuntimeSpec(name="mine", summary="a test's runtime", factory={factory}, aliases=("own",))]
"""
RAISES = "raise ZeroDivisionError('on purpose')"
REFUSES = "raise ValueError('on purpose')"
NOWHERE = "'a_module_that_nobody_has:It'"


def source(accepts: str = "return True", *, made: str = "pass", options: str = "", factory: str = "TheSource") -> str:
    return SOURCE.format(accepts=accepts, made=made, options=options, factory=factory)


def kernel(*, made: str = "pass", factory: str = "TheKernel") -> str:
    return KERNEL.format(made=made, factory=factory)


def runtime(
    compiles: str = "return nn.Sequential(model)",
    *,
    made: str = "pass",
    supports: str = "return super().supports(model)",
    details: str = "return 'in words'",
    factory: str = "TheRuntime",
) -> str:
    return RUNTIME.format(made=made, supports=supports, compiles=compiles, details=details, factory=factory)


@pytest.fixture
def run(model: nn.Module, batches: list[torch.Tensor]) -> Callable[..., dict[str, tuple[str, ...]]]:
    """Quantize; gives the kernels by layer."""
    return lambda **options: Quantizer(**options).quantize(model, batches).info.kernels


def test_two_sources_that_read_the_same_data_are_an_error_that_names_both(site: Site, run: Callable[..., object]):
    site.install("mono-quant-tape", source())
    with pytest.raises(PluginConflictError, match="type list is read by the sources dataloader and tape; choose one"):
        run()


@pytest.mark.parametrize("name", ["tape", "dataloader"])
def test_a_source_that_is_named_wins(site: Site, run: Callable[..., object], name: str):
    site.install("mono-quant-tape", source())
    assert set(run(source=name)) == {"0", "2"}


def test_a_source_that_reads_something_else_is_not_in_the_way(site: Site, run: Callable[..., object]):
    site.install("mono-quant-tape", source("return isinstance(data, str)"))
    assert set(run()) == {"0", "2"}


def test_a_source_is_found_for_the_data_that_it_alone_reads(model: nn.Module, batches: list[torch.Tensor]):
    class Numbered(Source):
        def accepts(self, data: object) -> bool:
            return isinstance(data, int)

        def batches(self, data: int) -> Iterator[Batch]:
            return (Batch((batch,)) for batch in batches[:data])

    class Plugin:
        @hookimpl
        def mono_quant_sources(self) -> list[SourceSpec]:
            return [SourceSpec(name="numbered", summary="", factory=Numbered)]

    assert Quantizer(plugins=[Plugin()]).quantize(model, 2).info.calibration_samples_used == 2


SICK = {
    "whose factory cannot be imported": source(factory=NOWHERE),
    "that cannot be made": source(made=RAISES),
    "that fails on the data": source(RAISES),
    "that makes something else": source(factory="dict"),
}


@pytest.mark.parametrize("code", SICK.values(), ids=SICK)
def test_a_source_of_a_third_party_that_fails_is_left_out_with_a_warning(
    site: Site, run: Callable[..., object], code: str
):
    site.install("mono-quant-tape", code)
    with pytest.warns(PluginWarning, match=r"plugin tape \(mono-quant-tape 1\.0\) is not used: source 'tape': "):
        assert set(run()) == {"0", "2"}


@pytest.mark.parametrize("code", SICK.values(), ids=SICK)
def test_a_source_that_fails_is_warned_of_once(site: Site, run: Callable[..., object], code: str):
    site.install("mono-quant-tape", code)
    with pytest.warns(PluginWarning):
        run()
    assert set(run()) == {"0", "2"}


def test_a_source_that_fails_is_an_error_when_it_is_named(site: Site, run: Callable[..., object]):
    site.install("mono-quant-tape", source(factory=NOWHERE))
    with pytest.raises(PluginError, match=r"plugin tape .*a_module_that_nobody_has"):
        run(source="tape")


def test_a_source_that_fails_is_an_error_in_strict_mode(
    site: Site, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
):
    site.install("mono-quant-tape", source(factory=NOWHERE))
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"plugin tape .*a_module_that_nobody_has") as raised:
        run()
    assert isinstance(raised.value.__cause__, PluginError)


def test_a_source_that_needs_options_is_not_tried_unless_it_is_named(site: Site, run: Callable[..., object]):
    site.install("mono-quant-tape", source(options=", *, column"))
    assert set(run()) == {"0", "2"}


def test_a_source_that_needs_options_is_not_tried_though_it_is_passed(site: Site, run: Callable[..., object]):
    module = site.module("my_source", source(options=", *, column"))
    assert set(run(plugins=[module])) == {"0", "2"}


def test_the_error_about_data_that_no_source_reads_names_those_that_need_options_and_how_to_give_them(
    site: Site, model: nn.Module
):
    site.install("mono-quant-tape", source(options=", *, column, width=1, separator"))
    words = r"source 'tape' was not asked.*: source=(\{'name': 'tape', 'column': \.\.\., 'separator': \.\.\.\})"
    with pytest.raises(CalibrationError, match=rf"(?s)no source reads calibration data of type int.*{words}") as raised:
        Quantizer().quantize(model, 42)
    assert str(raised.value).count("was not asked") == 1


@pytest.mark.parametrize(("kind", "code"), [("source", source(made=REFUSES)), ("kernel", kernel(made=REFUSES))])
def test_what_refuses_its_own_defaults_is_left_out_with_a_warning(
    site: Site, run: Callable[..., object], kind: str, code: str
):
    site.install("mono-quant-mine", code)
    with pytest.warns(PluginWarning, match=rf"is not used: {kind} .* refused its options {{}}: on purpose"):
        assert set(run(kernel="reference").values()) == {("reference",)}


def test_a_kernel_that_needs_options_is_not_tried(site: Site, run: Callable[..., object]):
    site.install("mono-quant-mine", kernel().replace("__init__(self)", "__init__(self, *, threads)"))
    assert set(run(kernel="reference").values()) == {("reference",)}


def test_a_source_that_needs_options_and_is_named_without_them_is_an_error(site: Site, run: Callable[..., object]):
    site.install("mono-quant-tape", source(options=", *, column"))
    with pytest.raises(ConfigurationError, match=r"source 'tape' refused its options .*'column'"):
        run(source="tape")


def test_a_kernel_of_a_third_party_runs_the_layers_when_it_is_named(site: Site, run: Callable[..., object]):
    site.install("mono-quant-mine", kernel())
    assert set(run(kernel="mine").values()) == {("mine",)}


def test_a_kernel_can_be_named_by_an_alias(site: Site, run: Callable[..., object]):
    site.install("mono-quant-mine", kernel())
    assert set(run(kernel="own").values()) == {("own",)}


@pytest.mark.parametrize("code", [kernel(factory=NOWHERE), kernel(made=RAISES)], ids=["no import", "not made"])
def test_a_kernel_of_a_third_party_that_fails_is_left_out_with_a_warning(
    site: Site, run: Callable[..., object], code: str
):
    site.install("mono-quant-mine", code)
    with pytest.warns(PluginWarning, match=r"plugin mine \(mono-quant-mine 1\.0\) is not used: kernel 'mine': "):
        assert set(run(kernel="reference").values()) == {("reference",)}


def test_a_kernel_that_fails_is_an_error_when_it_is_named(site: Site, run: Callable[..., object]):
    site.install("mono-quant-mine", kernel(factory=NOWHERE))
    with pytest.raises(PluginError, match=r"plugin mine .*a_module_that_nobody_has"):
        run(kernel="mine")


FAILING = kernel().replace(
    "@hookimpl",
    """    def pack(self, op):
        if op.weight.shape[1] == 6 and round(float(op.weight_scale[0]), 9) != 0.001:  # not in the verification
            raise ZeroDivisionError('on purpose')
        return super().pack(op)

@hookimpl""",
)


def test_a_kernel_of_a_third_party_that_fails_on_a_layer_is_left_out_there_with_a_warning(
    site: Site, run: Callable[..., dict[str, tuple[str, ...]]]
):
    site.install("mono-quant-mine", FAILING)
    forget_measurements()
    with pytest.warns(QuantizationWarning, match="kernel 'mine' is not used for this linear .*: on purpose") as caught:
        kernels = run()
    assert len(caught) == 1
    assert set(kernels) == {"0", "2"}
    assert "mine" not in kernels["0"]


def test_a_kernel_that_fails_on_a_layer_is_an_error_when_it_is_named(site: Site, run: Callable[..., object]):
    site.install("mono-quant-mine", FAILING)
    with pytest.raises(PluginError, match=r"kernel 'own', which was asked for, cannot run this linear: .*on purpose"):
        run(kernel="own")


@pytest.mark.parametrize(("kind", "code"), [("source", source("return False")), ("kernel", kernel())])
def test_two_third_parties_that_claim_one_unasked_name_are_warned_of_and_left_out(
    site: Site, run: Callable[..., object], kind: str, code: str
):
    for name in ("one", "two"):
        site.install(f"mono-quant-{name}", code)
    with pytest.warns(PluginWarning, match=rf"{kind} '\w+' is claimed by one .* and two "):
        assert set(run(kernel="reference").values()) == {("reference",)}


@pytest.fixture
def compile_by(
    model: nn.Module,
    batches: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., CompiledModel]:
    """Quantize and compile, with no choice kept from another test, and none of the slow compilers."""
    monkeypatch.setenv("MONO_QUANT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", "torch-compile")
    return lambda name="auto": Quantizer(validators=(), kernel="reference").quantize(model, batches).compile(name)


@pytest.mark.parametrize("name", ["mine", "own"])
def test_a_runtime_of_a_third_party_runs_the_model_when_it_is_named(
    site: Site, compile_by: Callable[..., CompiledModel], name: str
):
    site.install("mono-quant-mine", runtime())
    compiled = compile_by(name)
    assert (compiled.runtime, compiled.details) == (name, "in words")


def test_a_runtime_of_a_third_party_is_measured_unasked(site: Site, compile_by: Callable[..., CompiledModel]):
    site.install("mono-quant-mine", runtime())
    assert {timing.runtime: timing.why_not for timing in compile_by().timings} == {"mine": "", "torch": ""}


SICK_RUNTIMES = {
    "that fails when it is asked": (runtime(supports=RAISES), "ZeroDivisionError: on purpose"),
    "that answers with no Support": (runtime(supports="return False"), "AttributeError: 'bool' object has no"),
    "that says no": (runtime(supports="return super().supports(model).no('it is tired')"), "here: it is tired"),
    "that fails when it compiles": (runtime(RAISES), "ZeroDivisionError: on purpose"),
    "that gives no module": (runtime("return model.forward"), "must give an nn.Module, got method"),
    "that gives a module that fails": (runtime("return nn.Linear(5, 5)"), "does not run the example: RuntimeError"),
    "that gives other numbers": (runtime("return nn.Sequential(model, nn.Tanh())"), "does not give what the reference"),
    "that gives other tensors": (runtime("return nn.Sequential(model, nn.Flatten(0))"), "the reference kernels give"),
}

sick_runtime = pytest.mark.parametrize(("code", "message"), SICK_RUNTIMES.values(), ids=SICK_RUNTIMES)


@sick_runtime
def test_a_runtime_that_fails_is_left_out_and_the_timings_say_why(
    site: Site, compile_by: Callable[..., CompiledModel], code: str, message: str
):
    site.install("mono-quant-mine", code)
    compiled = compile_by()
    assert compiled.runtime == "torch"
    assert re.search(message, {timing.runtime: timing.why_not for timing in compiled.timings}["mine"])


@sick_runtime
def test_a_runtime_that_fails_is_an_error_when_it_is_named(
    site: Site, compile_by: Callable[..., CompiledModel], code: str, message: str
):
    site.install("mono-quant-mine", code)
    with pytest.raises((CompilationError, CalibrationError), match=rf"(?s)runtime 'mine'.*{message}"):
        compile_by("mine")


def test_a_runtime_that_finds_no_words_runs_the_model(site: Site, compile_by: Callable[..., CompiledModel]):
    site.install("mono-quant-mine", runtime(details=RAISES))
    told = "details() raised ZeroDivisionError: on purpose"
    assert compile_by("mine").details == told
    assert {timing.runtime: timing.details for timing in compile_by().timings}["mine"] == told


@pytest.mark.parametrize("code", [runtime(factory=NOWHERE), runtime(made=RAISES)], ids=["no import", "not made"])
def test_a_runtime_of_a_third_party_that_cannot_be_made_is_left_out_with_a_warning(
    site: Site, compile_by: Callable[..., CompiledModel], code: str
):
    site.install("mono-quant-mine", code)
    with pytest.warns(PluginWarning, match=r"plugin mine \(mono-quant-mine 1\.0\) is not used: runtime 'mine': "):
        assert compile_by().runtime == "torch"


def test_a_runtime_that_needs_options_is_not_tried(site: Site, compile_by: Callable[..., CompiledModel]):
    site.install("mono-quant-mine", runtime().replace("__init__(self)", "__init__(self, *, device)"))
    assert [timing.runtime for timing in compile_by().timings] == ["torch"]


@pytest.mark.parametrize("code", [runtime(factory=NOWHERE), runtime(made=RAISES)], ids=["no import", "not made"])
def test_a_run_that_compiles_nothing_makes_no_runtime(site: Site, run: Callable[..., object], code: str):
    site.install("mono-quant-mine", code)
    assert set(run()) == {"0", "2"}


WRITING_VALIDATOR = """
from pathlib import Path
from mono_quant import hookimpl
from mono_quant.plugin_api import ValidationFinding, Validator, ValidatorSpec

class Writes(Validator):
    def __init__(self, *, path):
        self.path = Path(path)
    def validate(self, context):
        self.path.write_text("written")
        return [ValidationFinding(name="writes", status="passed")]

@hookimpl
def mono_quant_validators():
    return [ValidatorSpec(name="writes", summary="", factory=Writes)]
"""


def test_a_file_does_not_choose_which_third_party_checks_it(
    site: Site, model: nn.Module, batches: list[torch.Tensor], tmp_path: Path
):
    site.install("mono-quant-writes", WRITING_VALIDATOR)
    trace, file = tmp_path / "trace", tmp_path / "m.safetensors"
    wanted = {"name": "writes", "path": str(trace)}
    Quantizer(validators=["size", wanted]).quantize(model, batches).save(file)
    trace.unlink()
    result = validate_file(file, model, batches)
    found = {finding.name: (finding.status, finding.message) for finding in result.findings}
    assert not trace.exists()
    assert "quantized-size" in found
    assert found["writes"][0] == "skipped"
    assert "it comes from writes (mono-quant-writes 1.0): name it yourself" in found["writes"][1]
    validate_file(file, model, batches, validators=[wanted])
    assert trace.exists()
