"""Watching which module's output goes where, during real forward passes: no tracing, any Python control flow.

While a batch runs, hooks on the watched modules note what they return, and a ``TorchFunctionMode`` notes every torch
function that is handed such a tensor. Tensors are told apart by identity and held weakly, so watching keeps no memory.
Functions that run in other threads are not seen.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mono_quant.core.homogeneous import Paths
from mono_quant.core.tensors import iter_tensors

__all__ = ["METADATA", "PRECISION_READS", "DataFlowRecorder"]

_PROPERTIES = (
    "device dtype grad_fn is_cpu is_cuda is_leaf is_meta is_nested is_quantized is_sparse itemsize layout names nbytes "
    "ndim requires_grad shape"
)
_METHODS = (
    "__hash__ __len__ __repr__ data_ptr dim element_size get_device is_complex is_contiguous is_floating_point "
    "ndimension nelement numel size storage_offset stride"
)
METADATA = frozenset(
    [getattr(Tensor, name).__get__ for name in _PROPERTIES.split() if hasattr(Tensor, name)]
    + [getattr(Tensor, name) for name in _METHODS.split()]
    + [torch.is_tensor, torch.is_floating_point, torch.is_complex, torch.numel]
)
"""Functions that read what a tensor looks like and not what is in it."""

_PRECISION = frozenset(
    [getattr(Tensor, name).__get__ for name in ("dtype", "itemsize", "nbytes")]
    + [Tensor.element_size, Tensor.is_floating_point, torch.is_floating_point]
)
"""Those whose answer changes when a weight is quantized: ``x.to(self.fc.weight.dtype)`` would then give integers."""

PRECISION_READS = frozenset(["dtype", "itemsize", "nbytes", "element_size", "is_floating_point"])
"""Their names in `DataFlowRecorder.outside_reads`."""

_OUTSIDE = "something outside the watched modules"


class DataFlowRecorder:
    """What was watched, over all batches so far.

    Args:
        model: whose flow is watched.
        names: the modules to watch, each under one name: leaf modules, and others that may read what is inside them.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        modules = dict(model.named_modules())
        # A scripted module runs outside Python: what happens in it cannot be seen, so nothing is concluded at all.
        self._watched = {name: modules[name] for name in names if not isinstance(modules[name], torch.jit.ScriptModule)}
        self._is_opaque = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
        self._consumers: dict[str, tuple[str, ...]] = {}
        self._followers: dict[str, str | None] = {}
        self._ndim: dict[str, int | None] = {}
        self._owners: dict[int, list[str]] = defaultdict(list)
        self._insiders: dict[int, set[str]] = defaultdict(set)
        for name, module in self._watched.items():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._owners[id(tensor)].append(name)
            for tensor in (*module.parameters(), *module.buffers()):
                self._insiders[id(tensor)].add(name)
        self.outside_reads: dict[str, str] = {}
        """Watched module → the torch function that read one of its tensors while the module was not running.

        Not the precision of a float32 parameter that came from ``parameters()``: the quantized layer has float32 ones.
        """

    def only_consumer(self, name: str) -> str | None:
        """The one watched module that received this module's output, unchanged and alone, in every batch.

        None also when something else read the parameters or buffers of that consumer.
        """
        consumers = self.consumers(name)
        return consumers[0] if len(consumers) == 1 else None

    def consumers(self, name: str) -> tuple[str, ...]:
        """All watched modules that received this module's output, each once and unchanged, the same in every batch.

        Empty when anything else received it, or read the parameters or buffers of one of them.
        """
        consumers = () if self._is_opaque else self._consumers.get(name, ())
        return () if self.outside_reads.keys() & set(consumers) else consumers

    def follower(self, name: str) -> str | None:
        """The one watched module that received what functions made of this output that are positively homogeneous.

        The same in every batch, see `mono_quant.core.homogeneous`; None also when something else read the parameters or
        buffers of either module.
        """
        follower = None if self._is_opaque else self._followers.get(name)
        return None if self.outside_reads.keys() & {name, follower} else follower

    def output_ndim(self, name: str) -> int | None:
        """How many axes the one tensor had that this module gave, in every batch."""
        return self._ndim.get(name)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Watch one forward pass."""
        pass_ = _Pass(self._owners, self._insiders, self.outside_reads)
        with ExitStack() as stack:
            for name, module in self._watched.items():
                before = module.register_forward_pre_hook(pass_.entering(name), prepend=True, with_kwargs=True)
                after = module.register_forward_hook(pass_.leaving(name), always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
                stack.enter_context(pass_.telling_lists_from_names(module))
            stack.enter_context(pass_)
            yield
        for name in self._watched:
            consumers, ndim = pass_.consumers(name), pass_.ndims.get(name)
            self._consumers[name] = consumers if self._consumers.get(name, consumers) == consumers else ()
            follower = pass_.follower(name)
            self._followers[name] = follower if self._followers.get(name, follower) == follower else None
            self._ndim[name] = ndim if self._ndim.get(name, ndim) == ndim else None


class _Pass(TorchFunctionMode):
    """One forward pass."""

    def __init__(
        self, owners: Mapping[int, list[str]], insiders: Mapping[int, set[str]], outside_reads: dict[str, str]
    ) -> None:
        super().__init__()
        self.ndims: dict[str, int | None] = {}
        self._owners = owners
        self._insiders = insiders
        self._outside_reads = outside_reads
        self._running: list[str] = []
        self._calls: dict[str, int] = defaultdict(int)
        self._outputs: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self._consumers: dict[str, list[str]] = defaultdict(list)
        self._paths = Paths()
        self._listed: set[int] = set()
        self._named: set[int] = set()

    def consumers(self, name: str) -> tuple[str, ...]:
        """The watched modules that received the output of ``name``, all called once, where nothing else keeps it."""
        consumers = tuple(self._consumers[name])
        kept = any(ref() is not None for ref, producer in self._outputs.values() if producer == name)
        once = self._calls[name] == 1 and all(self._calls.get(consumer) == 1 for consumer in consumers)
        return consumers if once and not kept and len(set(consumers)) == len(consumers) else ()

    def follower(self, name: str) -> str | None:
        """The watched module at the end of the path of this one's output, where both were called once."""
        follower = self._paths.end(name)
        return follower if self._calls[name] == 1 and self._calls.get(follower or "") == 1 else None

    def entering(self, name: str) -> Callable[..., None]:
        """A hook that runs before a watched module's forward, before any other hook."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls[name] += 1
            self._note(name, args, kwargs)
            self._running.append(name)

        return hook

    def leaving(self, name: str) -> Callable[..., None]:
        """A hook that runs after it, after any other hook."""

        def hook(_: nn.Module, __: tuple[Any, ...], output: object) -> None:
            self._note(name, output)
            self._running.pop()
            ndim = output.dim() if isinstance(output, Tensor) else None
            self.ndims[name] = ndim if self.ndims.get(name, ndim) == ndim else None
            # An output that is also an input (an in-place or identity module) has a second life: never concluded from.
            for tensor in iter_tensors(output):
                known = self._outputs.get(id(tensor))
                if known is not None and known[0]() is tensor:
                    self._consumers[name].append(_OUTSIDE)
                self._outputs[id(tensor)] = (weakref.ref(tensor), name)
            self._paths.begin(name, output)

        return hook

    @contextmanager
    def telling_lists_from_names(self, module: nn.Module) -> Iterator[None]:
        """Note how the parameters of a module are come by: ``module.weight``, or among others from ``parameters()``."""
        parameters = module._parameters  # noqa: SLF001 - both ways lead through this table, and no public hook does
        noting = _Parameters(parameters, listed=self._listed.add, named=self._fetched)
        vars(module)["_parameters"] = noting
        try:
            yield
        finally:
            parameters.clear()
            parameters.update(noting)
            vars(module)["_parameters"] = parameters

    def _fetched(self, key: int) -> None:
        if not self._is_inside(key):
            self._named.add(key)

    def _is_inside(self, key: int) -> bool:
        """Whether the module that is running has the tensor of this identity."""
        return self._reader in self._insiders.get(key, ())

    @property
    def _reader(self) -> str:
        return self._running[-1] if self._running else _OUTSIDE

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Note who reads watched outputs and parameters, then do what was asked."""
        del types
        kwargs = kwargs or {}
        step = None if self._running else self._paths.passed(func, args)
        if func not in METADATA or func in _PRECISION:
            tensors = list(iter_tensors((args, kwargs)))
            if func not in METADATA:
                self._note(self._reader, tensors)
            for tensor in tensors:
                if not self._is_inside(id(tensor)) and not (func in _PRECISION and self._stays_float32(tensor)):
                    for owner in self._owners.get(id(tensor), ()):
                        self._outside_reads.setdefault(owner, _name(func))
        result = func(*args, **kwargs)
        if step is not None:
            self._paths.go_on(step, result)
        return result

    def _stays_float32(self, tensor: Tensor) -> bool:
        """Whether what is asked of this parameter would be asked of a float32 scale once its layer is quantized."""
        is_from_a_list = id(tensor) in self._listed and id(tensor) not in self._named
        return is_from_a_list and tensor.dtype == torch.float32

    def _note(self, consumer: str, *values: object) -> None:
        """One more consumer of each watched output in ``values``, but for a running module that reads its own input."""
        is_running = consumer in self._running[-1:]
        self._paths.read(consumer, iter_tensors(values), is_running=is_running)
        for tensor in iter_tensors(values):
            known = self._outputs.get(id(tensor))
            if known is not None and known[0]() is tensor:
                consumers = self._consumers[known[1]]
                if not (is_running and consumer in consumers):
                    consumers.append(consumer)


class _Parameters(dict[str, nn.Parameter | None]):
    """A module's table of parameters that tells, by identity, which are fetched by name and which are listed."""

    def __init__(
        self, table: Mapping[str, nn.Parameter | None], *, listed: Callable[[int], None], named: Callable[[int], None]
    ) -> None:
        super().__init__(table)
        self._listed = listed
        self._named = named

    def __getitem__(self, name: str) -> nn.Parameter | None:
        parameter = super().__getitem__(name)
        self._named(id(parameter))
        return parameter

    def items(self) -> Any:  # noqa: ANN401 - the type of a dictionary's view
        for parameter in self.values():
            self._listed(id(parameter))
        return super().items()


def _name(func: Callable[..., Any]) -> str:
    """What people call a torch function; the getter of a property is called by the property."""
    name = str(getattr(func, "__name__", func))
    return str(getattr(func.__self__, "__name__", name)) if name == "__get__" and hasattr(func, "__self__") else name
