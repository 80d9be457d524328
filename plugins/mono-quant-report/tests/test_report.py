"""What every validator promises, and the page as a browser would read it."""

import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import attrs
import matplotlib as mpl
import pytest
import torch
from matplotlib.image import imread
from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import ValidationContext, ValidationFinding, ValidatorSpec, hookimpl
from mono_quant.revalidate import validate_file
from mono_quant.testing import ValidatorSuite
from torch import nn

from mono_quant_report.validator import HtmlReportValidator


class Page(HTMLParser):
    """Tags that are open, cells by row, images, and all text."""

    VOID: ClassVar[set[str]] = {"meta", "img", "link", "br"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str | None] = []
        self.notes: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert all(not name.startswith("on") for name, _ in attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag == "li":
            self.notes.append("")
        if tag == "img":
            self.images.append(dict(attributes))
        if tag == "a":
            self.links.append(dict(attributes)["href"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "li":
            self.notes[-1] += data


def run(folder: Path, model: nn.Module, data: list[Any], scheme: str = "int8-static", **options: Any) -> Any:  # noqa: ANN401
    return Quantizer(
        scheme, validators=[{"name": "html-report", "folder": str(folder), **options}], show_progress=False,
        plugins=["mono_quant_report"], autoload=False,
    ).quantize(model, data)  # fmt: skip


def finding(result: Any) -> ValidationFinding:  # noqa: ANN401
    (found,) = result.validation.findings
    return found


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)]
    return nn.Sequential(*layers).eval()


def images(count: int = 2) -> list[torch.Tensor]:
    return [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestHtmlReport(ValidatorSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path):
        self.folder = tmp_path / "reports"

    def make(self):
        return HtmlReportValidator(folder=self.folder / "small")

    def defects(self):
        return {"a file where the folder's parent should be": lambda _: self.folder.write_text("a file") and None}


def test_the_page_is_named_and_whole(tmp_path: Path):
    found = finding(run(tmp_path / "r", net(), images()))
    page = Page(tmp_path / "r" / "index.html")
    assert (found.status, found.message) == ("passed", str(tmp_path / "r" / "index.html"))
    assert not page.tags & {"script", "link", "iframe", "object", "form", "base"}
    assert page.notes == []
    assert "http" not in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    used = {image["src"] for image in page.images}
    assert used == set(page.links) == {name for name in contents(tmp_path / "r") if name.endswith(".png")}
    assert all(image["alt"] for image in page.images)
    assert len(used) == 1 + 2 * 3


def test_every_image_is_a_png_without_a_date_or_a_version(tmp_path: Path):
    run(tmp_path / "r", net(), images())
    for path in (tmp_path / "r").glob("*.png"):
        content = path.read_bytes()
        height, width, _ = imread(path).shape
        assert 100 < height < 2000
        assert 500 < width < 2000
        assert b"tEXt" not in content
        assert b"tIME" not in content


def test_the_tables_have_what_the_plan_has(tmp_path: Path):
    result = run(tmp_path / "r", net(), images())
    rows = Page(tmp_path / "r" / "index.html").rows
    how = "int8-static: weight int8 symmetric per-channel(0), input uint8 asymmetric per-tensor"
    assert [row[:6] for row in rows[1:3]] == [
        ["1", "0", "Conv2d", how, f"{4 * (8 * 27 + 8):,}", f"{8 * 27 + 8 * 4 + 8 * 4 + 8:,}"],
        ["2", "4", "Linear", how, f"{4 * (288 * 5 + 5):,}", f"{288 * 5 + 5 * 4 + 5 * 4 + 8:,}"],
    ]
    assert rows[4:] == [
        ["1", "BatchNorm2d", "folded into 0 by bn-fold", "64"],
        ["2", "ReLU", result.plan.kept["2"], "0"],
        ["3", "Flatten", result.plan.kept["3"], "0"],
    ]


def test_the_sqnr_in_the_table_is_that_of_exact_sums(tmp_path: Path):
    model = net()
    result = run(tmp_path / "r", model, images())
    tensors = result.model.state_dict()
    signal = noise = 0.0
    for row in range(5):
        scale = float(tensors["4.weight_scale"][row])
        for x, code in zip(model[4].weight[row].tolist(), tensors["4.weight"][row].tolist(), strict=True):
            signal += x * x
            noise += (x - code * scale) ** 2
    expected = 10 * torch.log10(torch.tensor(signal / noise, dtype=torch.float64)).item()
    assert Page(tmp_path / "r" / "index.html").rows[2][6] == f"{expected:.1f} dB"


NAMES = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&amp;b", "$\\frac{1}{", "line\nbreak",
    "\u202etfel", "層", "x" * 200, "nul\0", "\\", "é", " ",
]  # fmt: skip


def test_names_of_layers_can_be_anything(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict((name, nn.Linear(6, 6)) for name in NAMES))
    found = finding(run(tmp_path / "r", model, [torch.randn(8, 6)], layers=len(NAMES), title="<b>&"))
    page = Page(tmp_path / "r" / "index.html")
    assert found.status == "passed"
    assert not page.tags & {"script", "b"}
    shown = [row[1] for row in page.rows[1 : len(NAMES) + 1]]
    escaped = {"line\nbreak": "line\\nbreak", "\u202etfel": "\\u202etfel", "nul\0": "nul\\x00"}
    assert shown == [escaped.get(name, name) for name in NAMES]
    assert "<b>&" in page.text
    assert all(src is not None and src.replace("-", "").removesuffix(".png").isalnum() for src in page.links)


def test_the_same_model_gives_the_same_bytes_whatever_matplotlib_is_set_to(tmp_path: Path):
    run(tmp_path / "one", net(), images())
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "figure.dpi": 30, "text.color": "red"}):
        before = dict(mpl.rcParams)
        run(tmp_path / "other", net(), images())
        assert dict(mpl.rcParams) == before
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_as_many_layers_are_drawn_as_asked_for_the_worst_first(tmp_path: Path):
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(5)]
    with torch.no_grad():
        layers[3].weight[:, 0] = 1.0  # one scale for an outlier and 63 weights of at most 0.125
        layers[1].weight[:, 0] = 0.5
    run(tmp_path / "r", nn.Sequential(*layers), [torch.randn(8, 64)], scheme="int8-weight-only", layers=2)
    drawn = {name.split("-")[1] for name in contents(tmp_path / "r") if name.startswith("layer-")}
    text = Page(tmp_path / "r" / "index.html").text
    assert drawn == {"2", "4"}
    assert text.index("3 (number 4)") < text.index("1 (number 2)")


def test_no_layer_is_drawn_where_none_is_asked_for(tmp_path: Path):
    run(tmp_path / "r", net(), images(), layers=0)
    assert set(contents(tmp_path / "r")) == {"index.html", "sqnr-1.png", "mono-quant-report.json"}


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int4-weight-only", "float8-weight-only", "float16"])
def test_every_kind_of_codes_is_drawn(tmp_path: Path, scheme: str):
    model = nn.Sequential(nn.Embedding(30, 128), nn.Linear(128, 8))
    found = finding(run(tmp_path / "r", model, [torch.randint(0, 30, (4, 5))], scheme=scheme))
    assert found.status == "passed"
    assert Page(tmp_path / "r" / "index.html").images


def test_layers_inside_of_torchs_fast_path_are_seen(tmp_path: Path):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2).eval()
    run(tmp_path / "r", model, [torch.randn(2, 5, 16)])
    found = Page(tmp_path / "r" / "index.html")
    seen = {image["alt"].split(":")[0] for image in found.images if "Input on the batch" in image["alt"]}
    assert seen == {f"layers.{n}.{name}" for n in range(2) for name in ("self_attn", "linear1", "linear2")}
    assert sum("did not call it by itself" in note for note in found.notes) == 2  # each out_proj


def healthy(model: nn.Module, data: list[Any]) -> ValidationContext:
    """The context of a run."""
    seen = []

    class Remembers(HtmlReportValidator):
        def validate(self, context: ValidationContext) -> list[ValidationFinding]:
            seen.append(context)
            return []

    result = Quantizer(
        validators=["html-report"], plugins=[plugin(lambda: Remembers(folder="unused"))], autoload=False
    ).quantize(model, data)
    assert result.validation is not None
    return seen[0]


def plugin(factory: Callable[[], Any]) -> object:
    class Plugin:
        @hookimpl
        def mono_quant_validators(self) -> list[ValidatorSpec]:
            return [ValidatorSpec(name="html-report", summary="a stand-in", factory=factory)]

    return Plugin()


def refuse(*_: object) -> None:
    raise RuntimeError("not <today>")


class Refusing(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        refuse()
        return self.model(x)


UNKNOWN = {
    "plan": (lambda _: {"plan": None}, "the plan is not known"),
    "batch": (lambda _: {"batch": None}, "there is no batch"),
    "float layers": (lambda _: {"float_layer": lambda _: None}, "2 of 2 layers have no SQNR"),
    "a model that runs": (
        lambda context: {"original": Refusing(context.original)}, "does not run on the batch.*RuntimeError: not <today>"
    ),
    "any quantized layer": (lambda context: {"quantized": context.original, "plan": None}, "no layer is quantized"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_is_said_in_the_page_and_in_the_finding(tmp_path: Path, what: str):
    change, message = UNKNOWN[what]
    context = healthy(net(), images())
    (found,) = HtmlReportValidator(folder=tmp_path / "r").validate(attrs.evolve(context, **change(context)))
    assert found.status == "passed"
    page = Page(tmp_path / "r" / "index.html")
    for text in (found.message, "\n".join(page.notes)):
        assert re.search(message, text)


def test_a_model_in_training_mode_is_run_in_eval_mode_and_left_as_it_was(tmp_path: Path):
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(tmp_path / "r", model, [torch.randn(8, 8)])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_saved_file_can_be_checked_into_a_page(tmp_path: Path):
    result = run(tmp_path / "r", net(), images())
    result.save(tmp_path / "model.safetensors")
    wanted = [{"name": "html-report", "folder": str(tmp_path / "again")}]
    checked = validate_file(tmp_path / "model.safetensors", net(), validators=wanted, plugins=["mono_quant_report"])
    assert [note.split(":")[0] for note in Page(tmp_path / "again" / "index.html").notes] == [
        "the plan is not known",
        "there is no batch",
    ]
    assert checked.errors == []
    sqnr = [[row[6] for row in Page(tmp_path / name / "index.html").rows[1:3]] for name in ("r", "again")]
    assert sqnr[0] == sqnr[1]


def test_matplotlib_is_imported_only_when_a_report_is_made():
    code = "import sys, mono_quant_report; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own


BAD_OPTIONS = {"folder": ["", None, 3], "layers": [-1, 1.5, True, "all"], "title": [None, 3]}


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in BAD_OPTIONS.items() for value in values]
)
def test_an_option_that_cannot_be_meant_is_refused(tmp_path: Path, option: str, value: object):
    with pytest.raises(ConfigurationError, match=f"{option} must be"):
        HtmlReportValidator(**{"folder": tmp_path / "r", option: value})
