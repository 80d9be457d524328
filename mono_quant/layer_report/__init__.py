"""What a run did to each layer, in figures, with a hint of what could be better."""

from mono_quant.layer_report.measuring import measure_layers
from mono_quant.layer_report.record import LayerReport
from mono_quant.layer_report.table import layer_table, worst_layer

__all__ = ["LayerReport", "layer_table", "measure_layers", "worst_layer"]
