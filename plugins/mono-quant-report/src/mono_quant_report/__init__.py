"""The ``html-report`` validator: what quantization did to each layer, as a page with plots."""

from mono_quant import hookimpl
from mono_quant.plugin_api import ValidatorSpec

__all__ = ["mono_quant_validators"]


@hookimpl
def mono_quant_validators() -> list[ValidatorSpec]:
    """Announce it, by the name of its class: matplotlib is imported when a report is asked for."""
    return [
        ValidatorSpec(
            name="html-report",
            summary="a page with tables and plots of what was quantized and what it cost",
            factory="mono_quant_report.validator:HtmlReportValidator",
        )
    ]
