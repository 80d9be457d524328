"""The validator: collects, draws, writes, and says where."""

from collections.abc import Sequence
from pathlib import Path

from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import ValidationContext, ValidationFinding, Validator

from mono_quant_report.contents import collect
from mono_quant_report.folder import refuse_foreign, replace_folder
from mono_quant_report.page import PAGE, make_files

__all__ = ["HtmlReportValidator"]


class HtmlReportValidator(Validator):
    """Writes a folder with a page; it fails only when that cannot be written.

    Args:
        folder: where to; it must not exist, be empty, or be a report that this has written: that is replaced.
        layers: how many of the layers with the lowest weight SQNR are drawn.
        title: of the page.

    Raises:
        ConfigurationError: when an option cannot be meant, or something else is in the folder.
    """

    def __init__(self, *, folder: str | Path, layers: int = 12, title: str = "Quantization report") -> None:
        if not isinstance(folder, str | Path) or not str(folder):
            raise ConfigurationError(f"folder must be the path of the folder to write, got {folder!r}")
        if isinstance(layers, bool) or not isinstance(layers, int) or layers < 0:
            raise ConfigurationError(f"layers must be a whole number of at least 0, got {layers!r}")
        if not isinstance(title, str):
            raise ConfigurationError(f"title must be text, got {title!r}")
        self.folder, self.layers, self.title = Path(folder), layers, title
        refuse_foreign(self.folder)  # not only after an hour of calibration

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """``html-report``, with the path of the page, and what it lacks.

        Raises:
            ConfigurationError: when something else is in the folder by now.
        """
        contents = collect(context, self.layers)
        try:
            replace_folder(self.folder, make_files(contents, self.title))
        except OSError as error:
            return [
                ValidationFinding(
                    name="html-report",
                    status="failed",
                    message=f"the report cannot be written to {self.folder}: {error}; give another folder",
                )
            ]
        message = "; ".join([str(self.folder / PAGE), *contents.notes])
        return [ValidationFinding(name="html-report", status="passed", message=message)]
