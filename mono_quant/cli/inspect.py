"""``monoquant inspect``: what is in a saved file."""

import argparse
from typing import Any

from mono_quant.cli.inputs import add_plugin_argument
from mono_quant.cli.output import Console
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.saved import manifest_of, read_artifact

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect", help="show what is in a saved file", description=__doc__
    )
    parser.add_argument("file", help="a .safetensors, .pt, .pth or .pt2 file, or the index of several")
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    artifact = read_artifact(arguments.file, arguments.plugin)
    tensors = {name: f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for name, t in artifact.tensors.items()}
    lines = [*(f"{name}  {shape}" for name, shape in tensors.items()), *_summary(artifact, arguments.file)]
    console.show({"manifest": artifact.manifest, "tensors": tensors}, "\n".join(lines))


def _summary(artifact: Artifact, path: str) -> list[str]:
    count = len(artifact.tensors)
    if artifact.manifest is None or "layers" not in artifact.manifest:
        return [f"{count} tensors; not a quantized model of mono_quant"]
    manifest = manifest_of(artifact, path)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    figures = ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics.items() if value is not None)
    return [
        f"{count} tensors; {len(manifest.layers)} layers quantized, {len(manifest.kept)} in float",
        f"made by {versions}",
        f"figures: {figures or 'none'}",
    ]
