"""Who runs a model: float, ours, and every peer, each in a file of its own."""

from .record import Build, Built, Peer

__all__ = ["PEERS", "Build", "Built", "Peer", "peer_for", "peers_of"]

_CONVS = ("resnet18", "mobilenet_v2")
_TRANSFORMERS = ("minilm", "llama")
_EVERY = (*_CONVS, *_TRANSFORMERS, "mlp")
_OURS = {
    "int8-static": (*_CONVS, "minilm", "mlp"),
    "int8-dynamic": (*_TRANSFORMERS, "mlp"),
    "int8-weight-only": ("llama",),
    "int4-weight-only": ("llama",),
}
_ONNX_LIMIT = "its kernels ask the CPU, and no environment variable or option limits them to AVX2"


def _ours(scheme: str, how: str) -> Peer:
    return Peer(f"ours-{scheme}{how}", f"ours{how.replace('-', '_')}", _OURS[scheme], options={"scheme": scheme})


def _by_runtime(scheme: str, runtime: str) -> Peer:
    return Peer(
        f"ours-{scheme}-{runtime}",
        "ours_runtime",
        _OURS[scheme],
        ("mono-quant-onnx", runtime),
        {"scheme": scheme, "runtime": runtime},
        _ONNX_LIMIT if runtime == "onnxruntime" else "",
    )


def _onnxruntime(kind: str) -> Peer:
    needs = ("onnxruntime", "onnx", "onnxscript")
    return Peer(f"onnxruntime-{kind}", f"onnxruntime_{kind}", _EVERY, needs, why_not_limited=_ONNX_LIMIT)


PEERS = (
    Peer("float-eager", "float_eager", _EVERY),
    Peer("float-compile", "float_compile", _EVERY),
    *(_ours(scheme, how) for scheme in _OURS for how in ("", "-compile")),
    *(_by_runtime(scheme, runtime) for scheme in _OURS for runtime in ("onnxruntime", "openvino")),
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
