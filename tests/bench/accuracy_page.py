"""The outcomes as a page of tables."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch

from mono_quant.version import __version__

from .outcomes import Outcome, Results
from .tables import table

__all__ = ["page"]

_INTRODUCTION = """\
# Accuracy

What each scheme costs and saves on pretrained models that come inside pip packages. Texts and photos are real, speech
is synthetic, read by eSpeak NG from real texts. Written by `nox -s accuracy` with mono_quant {version} and torch
{torch}; nothing is timed, for that see [measurements](measurements.md).

- Schemes have their defaults, but for `full-range`, which is the option `saturation="full-range"` and
  [not for every CPU](../explanation/saturation.md), `per-token`, which is `activations="per-token"`, and `symmetric`.
- Groups are of 128 weights, or, where that does not divide the weights of a channel, of the largest number below that
  does, as 96 does of 576 (`misfit="adjust"`). No layer was left out by hand, and codes are found by rounding alone,
  but for `hqq`, which is the algorithm of that name: it needs no data either.
- *SQNR* is that of the model's output, on a batch that calibration has not seen. *Layers* counts those with parameters.
  *File* is the `.safetensors` file, in MB of 2^20 bytes and as a share of that of float32.
- The kernels are those that add no rounding of their own, `onednn` for integer inputs and `dequantize` for others;
  another exact one where oneDNN is
  [wrong about a layer](../explanation/numerics.md#the-reference-kernel-is-the-definition).
  Faster ones that compute in bfloat16 add noise about 50 dB below the output of a layer."""

_TITLES = {
    "minilm": "MiniLM-L6, sentence encoder",
    "smollm2": "SmolLM2-135M, language model",
    "efficientnet": "EfficientNet-Lite0, image classifier",
    "efficientnet_plain": "EfficientNet-Lite0 with plain convolutions",
    "crepe": "CREPE tiny, pitch tracker",
    "silero": "Silero VAD, voice activity",
    "resemblyzer": "Resemblyzer, speaker encoder",
    "mlp": "MLP 1024-4096-4096-1024, random weights",
}

_NOTES = {
    "minilm": (
        "`lee_pearson` and `wordsim_spearman`: correlation with people's judgement of 50 documents and 353 pairs of "
        "words. `cosine`: mean, of the documents' embeddings to those of float."
    ),
    "smollm2": (
        "`perplexity`: of 3 x 256 tokens of news; static int8 was calibrated on other news. `agreement`: share of "
        "tokens for which the likeliest is that of float. The weights come off a 4-bit grid in groups of 32; before "
        "anything is quantized, channels are rescaled between layers, which leaves the function as it is (the float "
        "perplexity is the same) and the grid behind."
    ),
    "efficientnet": (
        "`top1`: of 120 views of 24 photos. `agreement`: share of views whose class is that of float. "
        "`relative_error`: of the logits."
    ),
    "efficientnet_plain": (
        "The same function: each Conv2d that pads in its own `forward` became a padding and a plain Conv2d, which "
        "static int8 knows, with its BatchNorm folded into it."
    ),
    "crepe": "`median_cents`: distance from the true pitch of 256 tones. `relative_error`: of the outputs.",
    "silero": (
        "`accuracy`: share of chunks of synthetic speech and gaps that are told rightly, the state carried along nine "
        "streams. `agreement`: share that are told as by float."
    ),
    "resemblyzer": (
        "`equal_error_rate`: on pairs of 54 utterances of 9 synthetic voices, 1.6 s each. `cosine`: mean, of the "
        "embeddings to those of float."
    ),
    "mlp": "Linear layers alone.",
}


def page(results: Mapping[str, Results]) -> str:
    """Markdown, a section for each model."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, Results]) -> Iterator[str]:
    yield _INTRODUCTION.format(version=__version__, torch=torch.__version__)
    for name, result in results.items():
        yield from ("", f"## {_TITLES[name]}", "", _NOTES[name], "")
        yield from _table(result)
        yield from ("", f"In float stay: {_kept(result)}.")


def _table(result: Results) -> Iterator[str]:
    rows = [("float32", "", *_texts(result.figures), "", f"{result.file_mb:.2f} (1)")]
    for scheme, outcome in result.outcomes.items():
        if outcome is not None:
            size = f"{outcome.file_mb:.2f} ({outcome.file_mb / result.file_mb:.3f})"
            layers = f"{outcome.layers} of {result.layers}"
            rows.append((scheme, layers, *_texts(outcome.figures), f"{outcome.sqnr_db:.1f}", size))
    yield from table(("scheme", "layers", *result.figures, "SQNR dB", "file MB (share)"), rows)


def _texts(figures: Mapping[str, float]) -> list[str]:
    return [f"{figure:.4g}" for figure in figures.values()]


def _kept(result: Results) -> str:
    """How many layers of which type stay in float, and why: for each set of schemes that keep the same ones."""
    schemes_by_kept: dict[str, list[str]] = defaultdict(list)
    for scheme, outcome in result.outcomes.items():
        schemes_by_kept["all of them" if outcome is None else _layers(scheme, outcome)].append(scheme)
    *fewer, (most, _) = sorted(schemes_by_kept.items(), key=lambda item: len(item[1]))
    parts = [f"by {_listed(schemes)} {kept}" for kept, schemes in fewer]
    return "; ".join([*parts, f"by {'the others' if fewer else 'every scheme'} {most}"])


def _layers(scheme: str, outcome: Outcome) -> str:
    layers = []
    for (layer_type, reason), count in outcome.kept.items():
        is_unknown = reason == f"{scheme.partition(' ')[0].rstrip(',')} does not quantize {layer_type}"
        layers.append(f"{count} {layer_type} ({'a type that it does not know' if is_unknown else reason})")
    return _listed(layers) or "none"


def _listed(parts: list[str]) -> str:
    return " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), *parts[-1:]])
