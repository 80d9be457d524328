"""Who runs a model: float, ours, and every peer, each in a file of its own."""

from typing import Any

from .record import Build, Built, Peer

__all__ = ["PEERS", "Build", "Built", "Peer", "peer_for", "peers_of"]

_CONVS = ("resnet18", "mobilenet_v2")
_TRANSFORMERS = ("minilm", "llama")
_EVERY = (*_CONVS, *_TRANSFORMERS, "mlp")
_OURS = {
    "int8-static": _EVERY,
    "int8-dynamic": (*_TRANSFORMERS, "mlp"),
    "int8-weight-only": ("llama",),
    "int4-weight-only": ("llama",),
}
_SMOOTHED = {"int8-static": _TRANSFORMERS, "int8-dynamic": ("minilm",)}
_ONNX_LIMIT = "its kernels ask the CPU, and no environment variable or option limits them to AVX2"


def _ours(scheme: str, how: str) -> tuple[Peer, ...]:
    runner = f"ours{how.replace('-', '_')}"
    return tuple(Peer(f"ours-{scheme}{how}", runner, names, options=told) for names, told in _told(scheme))


def _by_runtime(scheme: str, runtime: str) -> tuple[Peer, ...]:
    needs, limit = ("mono-quant-onnx", runtime), _ONNX_LIMIT if runtime == "onnxruntime" else ""
    return tuple(
        Peer(f"ours-{scheme}-{runtime}", "ours_runtime", names, needs, {**told, "runtime": runtime}, limit)
        for names, told in _told(scheme)
    )


def _told(scheme: str) -> tuple[tuple[tuple[str, ...], dict[str, Any]], ...]:
    """Workloads and options; transformers, which have outliers, are smoothed and corrected, as by NNCF."""
    smoothed = _SMOOTHED.get(scheme, ())
    plain = tuple(name for name in _OURS[scheme] if name not in smoothed)
    algorithms = ("bn-fold", "smoothquant", "bias-correction")
    both = ((plain, {"scheme": scheme}), (smoothed, {"scheme": scheme, "algorithms": algorithms}))
    return tuple((names, told) for names, told in both if names)


def _onnxruntime(kind: str) -> Peer:
    needs = ("onnxruntime", "onnx", "onnxscript")
    return Peer(f"onnxruntime-{kind}", f"onnxruntime_{kind}", _EVERY, needs, why_not_limited=_ONNX_LIMIT)


PEERS = (
    Peer("float-eager", "float_eager", _EVERY),
    Peer("float-compile", "float_compile", _EVERY),
    *(peer for scheme in _OURS for how in ("", "-compile") for peer in _ours(scheme, how)),
    *(peer for scheme in _OURS for runtime in ("onnxruntime", "openvino") for peer in _by_runtime(scheme, runtime)),
    Peer("torch-ao-static", "torch_ao_static", _EVERY),
    Peer("torch-ao-dynamic", "torch_ao_dynamic", (*_TRANSFORMERS, "mlp")),
    Peer("torchao-pt2e", "torchao_pt2e", _EVERY, ("torchao",)),
    *(_onnxruntime(kind) for kind in ("float", "static", "dynamic")),
    Peer("openvino-float", "openvino_float", _EVERY, ("openvino",)),
    Peer("openvino-int8", "openvino_int8", (*_CONVS, "mlp"), ("openvino", "nncf")),
    Peer("openvino-int8", "openvino_int8", _TRANSFORMERS, ("openvino", "nncf"), {"is_transformer": True}),
    Peer("openvino-w8", "openvino_w8", ("llama", "mlp"), ("openvino", "nncf")),
)


def peers_of(workload: str) -> tuple[Peer, ...]:
    """Those that are measured on a workload."""
    return tuple(peer for peer in PEERS if workload in peer.workloads)


def peer_for(name: str, workload: str) -> Peer:
    """The one of that name.

    Raises:
        StopIteration: when it is not measured on the workload.
    """
    return next(peer for peer in peers_of(workload) if peer.name == name)
