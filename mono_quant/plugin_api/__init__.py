"""All that a plugin author imports: one record and one interface for each kind of component, and what they exchange."""

from mono_quant._atomic import replacing
from mono_quant.core.sqnr import sqnr_db, sum_sqnr_db
from mono_quant.plugin_api.activation import Activation
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Refinement, Statistic
from mono_quant.plugin_api.artifact import JSON, Artifact
from mono_quant.plugin_api.format import FolderFormat, Format, ProgramFormat
from mono_quant.plugin_api.kernel import FusedRun, Kernel, Op, OpKind, QuantizedOp, Support, WeightOnlyOp
from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.markers import API_VERSION, OLDEST_API_VERSION, hookimpl
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan, Plan, PlanEntry, Removed, Rewrite, TensorSpec, WeightSpec
from mono_quant.plugin_api.runtime import Runtime
from mono_quant.plugin_api.scheme import Scheme
from mono_quant.plugin_api.source import Batch, Source
from mono_quant.plugin_api.specs import (
    AlgorithmSpec,
    ComponentSpec,
    FormatSpec,
    KernelSpec,
    ObserverSpec,
    RuntimeSpec,
    SchemeSpec,
    SourceSpec,
    ValidatorSpec,
)
from mono_quant.plugin_api.validator import ValidationContext, ValidationFinding, Validator

__all__ = [
    "API_VERSION",
    "JSON",
    "OLDEST_API_VERSION",
    "Activation",
    "Algorithm",
    "AlgorithmSpec",
    "Artifact",
    "Batch",
    "ComponentSpec",
    "DataFlow",
    "FolderFormat",
    "Format",
    "FormatSpec",
    "FusedRun",
    "Keep",
    "Kernel",
    "KernelSpec",
    "LayerPlan",
    "Observer",
    "ObserverSpec",
    "Op",
    "OpKind",
    "Plan",
    "PlanEntry",
    "ProgramFormat",
    "QuantizedLayer",
    "QuantizedOp",
    "Refinement",
    "Removed",
    "Rewrite",
    "Runtime",
    "RuntimeSpec",
    "Scheme",
    "SchemeSpec",
    "Source",
    "SourceSpec",
    "Statistic",
    "Support",
    "TensorSpec",
    "ValidationContext",
    "ValidationFinding",
    "Validator",
    "ValidatorSpec",
    "WeightOnlyOp",
    "WeightSpec",
    "hookimpl",
    "replacing",
    "sqnr_db",
    "sum_sqnr_db",
]
