"""``monoquant inspect``: what is in a saved file."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant._plugins.components import format_for
from mono_quant._plugins.manager import PluginManager
from mono_quant.cli.output import say, say_json
from mono_quant.io.manifest import read_manifest

__all__ = ["add_to"]


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser = commands.add_parser("inspect", help="show what is in a saved file", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    path = Path(arguments.file)
    artifact = format_for(path, PluginManager.with_plugins()).load(path)
    tensors = {name: f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for name, t in artifact.tensors.items()}
    if arguments.json:
        say_json({"manifest": artifact.manifest, "tensors": tensors})
        return
    for name, shape in tensors.items():
        say(f"{name}  {shape}")
    if artifact.manifest is None or "layers" not in artifact.manifest:
        say(f"{len(tensors)} tensors; not a quantized model of mono_quant")
        return
    manifest = read_manifest(artifact.manifest)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    figures = ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics.items() if value is not None)
    say(f"{len(tensors)} tensors; {len(manifest.layers)} layers quantized, {len(manifest.kept)} in float")
    say(f"made by {versions}")
    say(f"figures: {figures or 'none'}")
