"""The pipeline: plan, calibrate, convert, validate, result. Read it from top to bottom."""

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant._plugins.manager import PluginManager
from mono_quant._size import bytes_of
from mono_quant.calibration.progress import with_progress
from mono_quant.calibration.state import untouched
from mono_quant.checkpoint import QuantizedCheckpoint, Source
from mono_quant.component import Component, Wanted
from mono_quant.config import OnFailure, QuantizationConfig
from mono_quant.core.plan import make_plan, refuse_empty, settle, tied_layers, with_sizes
from mono_quant.core.selection import Pattern
from mono_quant.core.surgery import copy_with, put_in_place
from mono_quant.data_passes import DataPasses
from mono_quant.errors import ConfigurationError
from mono_quant.format_agreement import agreed, agreed_as_rewritten, names_a_scheme, with_storable_schemes
from mono_quant.fusing import fuse
from mono_quant.io.artifact import MANIFEST_ATTRIBUTE, restore_model
from mono_quant.io.checks import run_once
from mono_quant.io.files import load_program, write
from mono_quant.io.handlers import _built, _validate_model, _validate_weights
from mono_quant.io.naming import naming
from mono_quant.io.validation import ValidationResult, report_failures, run_validators
from mono_quant.layer_report import measure_layers
from mono_quant.layer_selection import LayerSelection
from mono_quant.modules import hand_over, leave_fast_paths, share_tied
from mono_quant.observing import Statistics, observed
from mono_quant.plugin_api import Keep, LayerPlan, Plan, ValidationContext
from mono_quant.refining import refine
from mono_quant.result import QuantizationResult
from mono_quant.rewriting import decision_as_rewritten, float_layer, use_kernels
from mono_quant.run import Run
from mono_quant.runtimes import CompiledModel, compile_model, fastest
from mono_quant.streaming import FolderRun, QuantizedFolder
from mono_quant.summary import make_info, make_manifest, measure_latency
from mono_quant.targeting import Stages, rank_layers, reach_target
from mono_quant.targets import Metric, Sensitivity, Target

__all__ = ["Quantizer"]

_LONG_CONVERSION = 50


class Quantizer:
    """Quantizes models after training: any ``nn.Module``, no tracing.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> result = Quantizer(exclude=["2"]).quantize(model, [torch.randn(16, 8) for _ in range(4)])
    >>> result.info.selected_layers
    ('0',)

    Args:
        scheme: name of the scheme, or a mapping of its name and options; so for each component.
        observer: how ranges are found.
        source: how calibration data is read; None finds the source that accepts it.
        include: patterns of the only layers to quantize: globs, ``re:`` expressions, ``type:Linear`` or classes.
        exclude: patterns of layers to keep in float.
        overrides: pattern → ``{"scheme": ..., "observer": ...}``, or None to keep in float; the first match wins.
        min_parameters: layers whose weight has fewer elements stay in float.
        num_samples: how many batches to draw at most.
        validators: the checks after quantization.
        algorithms: rewrites of the float model that keep its function; empty for none.
        kernel: ``"auto"`` measures, a name takes that kernel wherever it supports a layer.
        fuse: whether kernels apply the activations that follow and codes stay codes between layers, where the first
            batch shows that what follows takes them.
        runtime: what `QuantizationResult.compile` runs the model by: ``"auto"`` measures.
        target: what the quantized model must reach, see `mono_quant.MinSQNR`, `mono_quant.MaxDrop` and
            `mono_quant.MaxSize`: layers are given other schemes, or kept in float, as far as that needs.
        on_failure: what a failed check does: ``"error"``, ``"warn"`` or ``"ignore"``.
        format: the format that the model is to be saved in, which is asked first what it can hold; None for any.
        on_refusal: what becomes of layers that this format cannot hold as they are planned: ``"error"`` refuses the
            run, ``"keep"`` keeps them in float, and the name of a scheme quantizes them by that.
        show_progress: progress bars or not; None shows them on a terminal, on long work.
        batch_fn: turns each item of the data into a batch.
        plugins: modules, instances or import paths to register besides the installed plugins.
        autoload: whether installed third-party plugins are used.

    Raises:
        ConfigurationError: when an option cannot be meant.
        PluginError: when one of ``plugins`` cannot be registered.
    """

    def __init__(
        self,
        scheme: str | Mapping[str, Any] = "int8-static",
        *,
        observer: str | Mapping[str, Any] = "minmax",
        source: str | Mapping[str, Any] | None = None,
        include: Iterable[Pattern] | Pattern | None = None,
        exclude: Iterable[Pattern] | Pattern | None = None,
        overrides: Mapping[Pattern, Mapping[str, Any] | Literal["float"] | None] | None = None,
        min_parameters: int = 0,
        num_samples: int = 150,
        validators: Iterable[str | Mapping[str, Any]] = ("sqnr", "size", "weight-range", "load-run"),
        algorithms: Iterable[str | Mapping[str, Any]] = ("bn-fold",),
        kernel: str = "auto",
        fuse: bool = True,
        runtime: str | Mapping[str, Any] = "auto",
        target: Target | None = None,
        on_failure: OnFailure = "error",
        format: Wanted | None = None,  # noqa: A002 - the word that users know
        on_refusal: Wanted = "error",
        show_progress: bool | None = None,
        batch_fn: Callable[[Any], Any] | None = None,
        plugins: Iterable[object] = (),
        autoload: bool = True,
    ) -> None:
        self.config = QuantizationConfig(
            scheme=scheme, observer=observer, source=source, include=include, exclude=exclude, overrides=overrides,
            min_parameters=min_parameters, num_samples=num_samples, validators=validators, algorithms=algorithms,
            kernel=kernel, fuse=fuse, runtime=runtime, on_failure=on_failure,
            format=format, on_refusal=on_refusal,
        )  # fmt: skip
        self.show_progress = show_progress
        if target is not None and not isinstance(target, Target):
            raise ConfigurationError(f"target must be MinSQNR, MaxDrop or MaxSize, got {target!r}")
        self.target = target
        self.components = Components(self.config, PluginManager.with_plugins(plugins, autoload=autoload), batch_fn)

    @classmethod
    def from_config(cls, config: QuantizationConfig, **options: Any) -> Self:  # noqa: ANN401 - see below
        """A quantizer for a whole configuration.

        Args:
            config: what decides the outcome.
            options: what does not: ``target``, ``show_progress``, ``batch_fn``, ``plugins``, ``autoload``.
        """
        return cls(**attrs.asdict(config, recurse=False), **options)

    def plan(self, model: nn.Module) -> Plan:
        """What would be done with each layer, without data. Nothing is changed.

        Raises:
            ConfigurationError: when a pattern matches no layer, or the format cannot hold one and ``on_refusal`` is
                ``"error"``.
            UnknownPluginError: when nothing has the name of a component that the configuration asks for.
        """
        suited = self._suited_to(model)
        if suited is not self:
            return suited.plan(model)
        return agreed(self._planned(model), self.components, lambda plan: settle(model, plan))

    def _planned(self, model: nn.Module) -> Plan:
        """What the configuration says of each layer, whatever the format holds."""
        self.components.refuse_unknown()
        _validate_model(model)
        selection = LayerSelection(self.config, model)

        def decide(name: str, module: nn.Module) -> LayerPlan | Keep:
            if reason := selection.why_kept(module):
                return Keep(reason)
            decision = self.components.scheme_for(name, module, also=selection.names(module)).plan(name, module)
            if isinstance(decision, LayerPlan) and (reason := selection.why_too_small(decision)):
                return Keep(reason)
            return decision

        with untouched(f"scheme {self.config.scheme.name!r}, or one of an override,", model):
            return make_plan(model, decide)

    def quantize(
        self,
        model: nn.Module,
        calibration_data: Iterable[Any] | None = None,
        *,
        statistics: Statistics | None = None,
        inplace: bool = False,
    ) -> QuantizationResult:
        """Quantize a model.

        Args:
            model: any module. It is run in eval mode and left as it was, unless ``inplace``.
            calibration_data: a DataLoader, a list of tensors, any iterable of batches, or what a plugin's source
                accepts.
            statistics: what observers of the same kind have seen in an earlier run, `QuantizationResult.statistics`, or
                the file that `mono_quant.io.save_statistics` wrote of it: ranges come from there, and no data is
                needed. Given beside it, data serves algorithms and checks.
            inplace: put the quantized layers into ``model`` itself, at the very end.

        Raises:
            ConfigurationError: when nothing would be quantized, or the data that a layer needs is missing.
            CalibrationError: when the data does not fit the model, a layer never ran, or an input is not finite.
            ValidationError: when a check failed and ``on_failure`` is ``"error"``.
            TargetError: when no quantized model was found that meets the target.
        """
        suited = self._suited_to(model)
        if suited is not self:
            return suited.quantize(model, calibration_data, statistics=statistics, inplace=inplace)
        if self.target is not None:
            return reach_target(self.target, self._stages, model, calibration_data, statistics, inplace=inplace)
        layers, run = self._prepare(model, calibration_data, statistics)
        run.collected.clear()  # large, and done with
        return self._finish(model, layers, run, inplace=inplace)

    def sensitivity(
        self, model: nn.Module, calibration_data: Iterable[Any], metric: Metric | None = None, *, batches: int = 4
    ) -> Sensitivity:
        """What each layer costs when it alone is quantized, the most sensitive first.

        Args:
            model: as in `quantize`.
            calibration_data: read several times.
            metric: a figure of a model, higher is better, to rank by; None to rank by the SQNR of the output.
            batches: how many of the first batches outputs are compared on.

        Raises:
            ConfigurationError: when nothing would be quantized, the data can be read once only, or ``batches`` is no
                number of at least 1.
            CalibrationError: as `quantize`.
        """
        suited = self._suited_to(model)
        if suited is not self:
            return suited.sensitivity(model, calibration_data, metric, batches=batches)
        return rank_layers(self._stages, model, calibration_data, metric, batches)

    def compile(
        self,
        model: nn.Module,
        example: Any,  # noqa: ANN401 - a batch
        *,
        runtime: str | Mapping[str, Any] | None = None,
    ) -> CompiledModel:
        """A quantized model as a runtime runs it, with the same weights, scales and zero points.

        Its output on the example is compared with that of the reference kernels, and a runtime whose output is off is
        refused. Which was the fastest is kept in the user's cache, beside the machine, the versions, the shapes and the
        number of threads, and not measured again for the same.

        Args:
            model: of `quantize` or `load`, in eval mode.
            example: a batch, as the items of calibration data are.
            runtime: a name, or a mapping of it and options, in place of the configuration's; ``"auto"`` for the
                fastest on the example.

        Raises:
            CompilationError: when it cannot run the model, or gives something else.
            ConfigurationError: when the model is in train mode.
            UnknownPluginError: when nothing has that name.
            CalibrationError: when the example is none, or the model does not run on it.
        """
        if any(module.training for module in model.modules()):
            raise ConfigurationError("a compiled model is for inference: call model.eval() first")
        wanted = self.config.runtime if runtime is None else Component.of(runtime)
        batch = self.components.batch_of(example)
        if wanted.name != "auto":
            return compile_model(model, batch, self.components.runtime(wanted))
        return fastest(model, batch, self.components.runtimes, self.components.runtime_versions)

    def quantize_checkpoint(self, source: Source) -> QuantizedCheckpoint:
        """Quantize weights by their names and shapes, without a model, one tensor at a time.

        Args:
            source: a ``state_dict``; a ``.safetensors`` or ``.pt`` file; a ``*.safetensors.index.json``; or the folder
                of one.

        Raises:
            ArtifactError: when it cannot be read, or an entry of the ``state_dict`` is no plain tensor.
            ConfigurationError: when it is something else, as a module, or nothing would be quantized, as by a scheme
                that needs a model.
        """
        self.components.prepare()
        return QuantizedCheckpoint(source, self.config, self.components)

    def quantize_folder(
        self,
        in_dir: str | Path,
        out_dir: str | Path,
        *,
        format: Wanted | None = None,  # noqa: A002 - the word that users know
        workers: int | None = None,
        max_shard_bytes: int | str | None = None,
    ) -> QuantizedFolder:
        """Quantize a folder as Hugging Face lays it out, by names and shapes, some rows of a tensor at a time.

        A call that was interrupted, even killed, is gone on with by the same call again. The bytes are the same however
        often that happens, and for any number of workers.

        Args:
            in_dir: ``model.safetensors.index.json`` and its files, or one ``.safetensors`` file; ``config.json``,
                a tokenizer and whatever else, which is copied.
            out_dir: a folder that is new, empty, or of the call that is gone on with.
            format: name of a format of folders, or a mapping of it and options, in place of the configuration's;
                without any, safetensors files that `load` reads.
            workers: how many processes; None for as many as there are cores. 1 works in this one.
            max_shard_bytes: write files of about that size, ``"4GB"`` or a number; a layer is not divided. None
                divides as the input is divided.

        Raises:
            ArtifactError: when something cannot be read or written, or ``out_dir`` holds something else.
            ConfigurationError: when an option cannot be meant, ``out_dir`` holds the beginning of another run, nothing
                would be quantized, or the format cannot hold a layer as it is planned.
            UnsupportedLayerError: when a weight is not finite.
        """
        components = self.components
        if format is not None:
            components = components.with_config(attrs.evolve(self.config, format=format))
        components.prepare()
        run = FolderRun(
            components=components,
            max_shard_bytes=None if max_shard_bytes is None else bytes_of(max_shard_bytes),
            workers=workers,
            show_progress=self.show_progress,
        )
        return run(Path(in_dir), Path(out_dir))

    def load(
        self,
        path: str | Path,
        model: nn.Module | Callable[[], nn.Module] | None = None,
        format: Wanted | None = None,  # noqa: A002 - the word that users know
    ) -> nn.Module:
        """A saved quantized model.

        Args:
            path: the file, whose suffix chooses the format, or a folder.
            model: an instance of the float model's class, which is not changed and may be on ``meta``, or a function
                without arguments that builds one. Its weights are not read. None for a file that holds a program, as
                ``.pt2`` does: then that is what is given, a module for inference without integer kernels.
            format: name of a format, or a mapping of it and options, in place of the one that ``path`` chooses.

        Raises:
            ArtifactError: when the file cannot be read, or does not fit the model.
            ConfigurationError: when the function fails, or no model is given for a file that holds tensors.
        """
        chosen = self.components.format_for(path, format)
        if model is None:
            return load_program(chosen, path)
        skeleton = _built(model)
        with naming(path):
            artifact = chosen.load(Path(path))
            with self.components.comparing(artifact.manifest):
                loaded = restore_model(artifact, skeleton, self.components.scheme, self.components.algorithm)
        use_kernels(loaded, self.components)
        return loaded.eval()

    def _suited_to(self, model: nn.Module) -> "Quantizer":
        """Itself; or one that gives layers which the format refuses the scheme that ``on_refusal`` names."""
        if not names_a_scheme(self.config):
            return self
        suited = copy.copy(self)
        suited.config = with_storable_schemes(self._planned(model), self.components, model)
        suited.components = self.components.with_config(suited.config)
        return suited

    @property
    def _stages(self) -> Stages:
        """The pipeline in parts, for what goes through some of it several times."""
        return Stages(self.components, self._prepare, self._passes.feed, self._finish)

    @property
    def _passes(self) -> DataPasses:
        return DataPasses(self.components, self.show_progress)

    def _prepare(
        self, model: nn.Module, data: Iterable[Any] | None, statistics: Statistics | None
    ) -> tuple[dict[str, nn.Module], Run]:
        """Plan, calibrate, convert: the layers that come in place of the model's, and what was found."""
        plan = self.plan(model)
        refuse_empty(plan)
        _validate_weights(model)
        self.components.prepare()
        run = agreed_as_rewritten(self._passes.first(model, plan, data, statistics), self.components, model)
        run = self._passes.second(model, run, data)
        return self._convert(model, run)

    def _finish(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        run: Run,
        *,
        inplace: bool,
        config: QuantizationConfig | None = None,
    ) -> QuantizationResult:
        """Put the layers together, validate, and give the result; ``config`` is what the file is to say."""
        config = config or self.config
        closed = [name for name, layer in run.plan.layers.items() if layer.input is not None]
        copied = None
        if config.validators or not inplace:
            # In place, the layers share what they do with the model itself, and others are needed for the copy.
            copies = {name: copy.copy(layer) for name, layer in layers.items()} if inplace else layers
            copied = leave_fast_paths(copy_with(model, copies), closed)
            run = fuse(copied, run) if config.fuse else run
        validation = None if copied is None else self._validate(model, copied, run, config)
        timed = None
        if validation is not None and copied is not None and run.first is not None:
            timed = measure_latency(model, copied, run.first)
        versions = self.components.versions
        info = make_info(run, config, layers=layers, validation=validation, latency_ms=timed, versions=versions)
        reports = measure_layers(
            model,
            None if validation is None else copied,
            run,
            components=self.components,
            config=config,
            info=info,
            validation=validation,
        )
        if inplace or copied is None:
            copied = hand_over(leave_fast_paths(put_in_place(model, layers), closed), run.plan.layers)
        self._sign(copied, run, validation, config)
        return QuantizationResult(
            model=copied.eval(),
            info=info,
            validation=validation,
            plan=run.plan,
            example=run.first,
            format_for=self.components.format_to_save,
            compile_by=self.compile,
            batch_of=self.components.batch_of,
            observed=observed(self.components, model, run),
            layers=reports,
        )

    def _convert(self, model: nn.Module, run: Run) -> tuple[dict[str, nn.Module], Run]:
        """The modules that come in place of the model's, by name, and the plan as it was carried out."""
        modules = dict(model.named_modules())
        layers: dict[str, nn.Module] = {}
        decisions: dict[str, LayerPlan] = {}
        also = {entry.name: entry.also for entry in run.plan.entries}
        tied = tied_layers(run.plan)
        names = list(run.plan.layers)
        show = False if self.show_progress is None and len(names) <= _LONG_CONVERSION else self.show_progress
        for name in with_progress(names, total=len(names), label="converting", show=show, unit="layer"):
            scheme = self.components.scheme_for(name, modules[name], also=also[name])
            layer = float_layer(self.components, modules, run.plan, name)
            decision = decision_as_rewritten(scheme, name, layer)
            statistics = {"input": run.observers[name]} if decision.needs_data else {}
            with untouched(f"scheme {decision.scheme!r}, which converts layer {name!r},", layer):
                layers[name] = scheme.convert(layer, decision, statistics)
            decisions[name] = decision
            if name not in tied:
                refine(layer, layers[name], decision, self.components.algorithms, run.collected)
        share_tied(modules, layers)
        decisions = with_sizes(decisions, layers)
        for name in {name for rewrite in run.plan.rewrites for name in rewrite.layers} - set(layers):
            layers[name] = float_layer(self.components, modules, run.plan, name)
        for layer in layers.values():
            use_kernels(layer, self.components)
        return layers, attrs.evolve(run, plan=run.plan.decide(decisions))

    def _validate(
        self, model: nn.Module, quantized: nn.Module, run: Run, config: QuantizationConfig
    ) -> ValidationResult | None:
        """Run the validators; what a failure does is the configuration's choice."""
        if not self.config.validators:
            return None
        self._sign(quantized, run, None, config)
        modules = dict(model.named_modules(remove_duplicate=False))
        context = ValidationContext(
            original=model,
            quantized=quantized,
            plan=run.plan,
            batch=run.first,
            run=run_once,
            float_layer=lambda name: float_layer(self.components, modules, run.plan, name) if name in modules else None,
            save=lambda path: write(self.components.format_for(path), quantized, path),
            load=lambda path: self.load(path, model),
        )
        result = run_validators(self.components.validators, context)
        report_failures(result, self.config.on_failure)
        return result

    def _sign(
        self, quantized: nn.Module, run: Run, validation: ValidationResult | None, config: QuantizationConfig
    ) -> None:
        """Write into the model how it was made, for the file that it may be saved in."""
        manifest = make_manifest(run, config, validation=validation, versions=self.components.versions)
        setattr(quantized, MANIFEST_ATTRIBUTE, manifest)
