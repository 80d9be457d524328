"""Torch files whose pickle calls, refers to or claims what no file of plain tensors does."""

import builtins
import os
import pickle
import tarfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch
from hostile_case import MANIFEST, Call, Case, Reference, Scene, archive, memory, pickled, tensor, torch_file
from torch import nn

HUGE = 2**40
GOOD = tensor(memory(4), (4,))


def code(place: Callable[[object], object]) -> Callable[[Scene], None]:
    """A call that leaves a mark, somewhere in a file."""
    return lambda scene: torch_file(place(Call(Path.touch, scene.mark)))(scene)


def system(scene: Scene) -> None:
    torch_file({"x": Call(os.system, f"touch {scene.mark}")})(scene)


def evaluated(scene: Scene) -> None:
    torch_file({"x": Call(builtins.eval, f"open({str(scene.mark)!r}, 'w').close()")})(scene)


def plain_pickle(scene: Scene) -> None:
    scene.path.write_bytes(pickle.dumps(Call(Path.touch, scene.mark), protocol=2))


def called(function: Callable[..., object], *arguments: object) -> Callable[[Scene], None]:
    """A call of something that torch itself allows."""
    return torch_file({"x": Call(function, *arguments)})


def saved(make: Callable[[], object]) -> Callable[[Scene], None]:
    """What torch itself saves."""
    return lambda scene: torch.save(make(), scene.path)


def shaped(
    *, size: object = (4,), strides: object = (1,), offset: object = 0, count: int = 4
) -> Callable[[Scene], None]:
    """A tensor in 16 bytes of memory that claims something about it."""
    return torch_file({"x": tensor(memory(count), size, strides, offset)})


def opcodes(content: bytes) -> Callable[[Scene], None]:
    return lambda scene: scene.path.write_bytes(archive({"data.pkl": content})) and None


def sparse() -> dict[str, torch.Tensor]:
    return {"x": torch.eye(3).to_sparse()}


def with_attributes() -> dict[str, torch.Tensor]:
    x = torch.ones(2)
    x.note = "more than a tensor"
    return {"x": x}


class Subclass(torch.Tensor):
    """A tensor that is more than one."""


def old(change: Callable[[bytes], bytes], content: object = None) -> Callable[[Scene], None]:
    """A file as torch wrote it before 1.6, changed."""

    def make(scene: Scene) -> None:
        out = BytesIO()
        torch.save({"x": torch.arange(4.0)} if content is None else content, out, _use_new_zipfile_serialization=False)
        scene.path.write_bytes(change(out.getvalue()))

    return make


def old_with_code(scene: Scene) -> None:
    old(lambda b: b, {"x": Call(Path.touch, scene.mark)})(scene)


def tar(scene: Scene) -> None:
    """The format of torch before 0.1.10, with a path out of the folder that it is unpacked in."""
    with tarfile.open(scene.path, "w") as file:
        for name in ("storages", "tensors", "pickle", f"../../..{scene.mark}"):
            content = pickle.dumps(Call(Path.touch, scene.mark))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, BytesIO(content))


LAUGHTER = b")" + b"q\0h\0\x86" * 60
"""A tuple of the same two tuples, and so on: its text or its hash would take 2^60 steps."""


HOOKS = OrderedDict(hook=OrderedDict)
"""Torch would call them with gradients. What a pickle may name is little, but it is code."""
LATER = Call(OrderedDict)


def bad(name: str, make: Callable[[Scene], object], words: str, *, tensors_are_fine: bool = False) -> Case:
    return Case(name, (".pt",), make, words, tensors_are_fine=tensors_are_fine)


CASES = [
    bad("code beside tensors", code(lambda call: {"tensors": {"x": GOOD, "y": call}, MANIFEST: None}), "calls"),
    bad("code in place of the manifest", code(lambda call: {"tensors": {"x": GOOD}, MANIFEST: call}), "calls"),
    bad("code in place of everything", code(lambda call: call), "calls"),
    bad("code in place of a name", code(lambda call: {call: GOOD}), "calls"),
    bad("code in an attribute of the dictionary", code(lambda call: [call, OrderedDict()]), "calls"),
    bad("a call of os.system", system, r"calls (posix|nt)\.system"),
    bad("a call of eval", evaluated, "eval"),
    bad("a pickle with code and nothing around it", plain_pickle, "does not begin as torch.save"),
    bad("a tar archive with code", tar, "does not begin as torch.save"),
    bad(
        "a TorchScript archive",
        lambda s: s.path.write_bytes(archive({"constants.pkl": b"", "data.pkl": pickled({})})),
        "TorchScript",
    ),
    bad("a whole module", saved(lambda: nn.Linear(2, 2)), "torch.nn.modules.linear.Linear|opcode"),
    bad("a terabyte by bytearray, which torch allows", called(bytearray, HUGE), "calls .*bytearray"),
    bad("a terabyte by torch.Tensor, which torch allows", called(torch.Tensor, HUGE), "calls torch.*Tensor"),
    bad("a terabyte by torch.FloatTensor, which torch allows", called(torch.FloatTensor, HUGE), "calls torch.*Tensor"),
    bad("a Counter, which torch allows", called(Counter, "abc"), "calls collections.Counter"),
    bad("a dictionary made from arguments", called(OrderedDict, [("x", GOOD)]), "calls collections.OrderedDict"),
    bad("a reference that is a number", torch_file({"x": Reference(7)}), "refers to"),
    bad(
        "a reference to a module's source",
        torch_file({"x": Reference(("module", nn.Linear, "a.py", "code"))}),
        "refers to",
    ),
    bad(
        "a reference of another length", torch_file({"x": Reference(("storage", torch.FloatStorage, "0"))}), "refers to"
    ),
    bad(
        "memory of a class that is none of torch's",
        torch_file({"x": tensor(memory(4, kind=OrderedDict), (4,))}),
        "refers to",
    ),
    bad("memory that is not in the file", torch_file({"x": tensor(memory(4, "1"), (4,))}), "records do not have"),
    bad(
        "memory whose name leads out of the archive",
        torch_file({"x": tensor(memory(4, "../../../etc/passwd"), (4,))}),
        "records do not have",
    ),
    bad("memory that claims more bytes than its record has", shaped(size=(100,), count=100), "claims 400 bytes"),
    bad("memory that claims a terabyte", shaped(size=(HUGE,), count=HUGE), "which its records do not have"),
    bad("memory of a negative size", shaped(count=-4), "refers to"),
    bad("memory of two sizes", torch_file({"x": GOOD, "y": tensor(memory(2), (2,))}), "two sizes or types"),
    bad(
        "memory of two types",
        torch_file({"x": GOOD, "y": tensor(memory(4, kind=torch.IntStorage), (4,))}),
        "two sizes or types",
    ),
    bad("a shape larger than the memory", shaped(size=(5,)), "in memory of 16 bytes"),
    bad("a shape of a terabyte", shaped(size=(HUGE,)), "in memory of 16 bytes"),
    bad("a shape of a terabyte that repeats one number", shaped(size=(HUGE,), strides=(0,)), "in memory of 16 bytes"),
    bad("strides that leave the memory", shaped(size=(2, 2), strides=(3, 1)), "in memory of 16 bytes"),
    bad("negative strides", shaped(strides=(-1,), offset=3), "whole numbers from 0 on"),
    bad("a negative offset", shaped(offset=-1), "whole numbers from 0 on"),
    bad("an offset beyond the memory", shaped(size=(0,), offset=5), "in memory of 16 bytes"),
    bad("a negative side", shaped(size=(-1,)), "whole numbers from 0 on"),
    bad("a shape of fractions", shaped(size=(4.0,)), "whole numbers from 0 on"),
    bad("a shape with a truth value", shaped(size=(True,)), "whole numbers from 0 on"),
    bad("a shape of numbers of 2000 bits", shaped(size=(2**2000,)), "whole numbers from 0 on"),
    bad("more strides than sides", shaped(strides=(1, 1)), "whole numbers from 0 on"),
    bad("a hundred dimensions", shaped(size=(1,) * 100, strides=(1,) * 100), "whole numbers from 0 on"),
    bad("a sparse tensor", saved(sparse), "calls torch"),
    bad("a tensor without data", saved(lambda: {"x": torch.empty(2, device="meta")}), "meta"),
    bad(
        "a nested tensor",
        saved(lambda: {"x": torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)}),
        "calls|opcode",
    ),
    bad("a tensor subclass", saved(lambda: {"x": torch.ones(2).as_subclass(Subclass)}), "_rebuild_from_type"),
    bad("a tensor with attributes", saved(with_attributes), "_rebuild_from_type"),
    bad(
        "a parameter made of text",
        called(torch._utils._rebuild_parameter, "x", *[True], OrderedDict()),
        "_rebuild_parameter",
    ),
    bad("hooks of a tensor", torch_file({"x": tensor(memory(4), (4,), hooks=HOOKS)}), "gives a tensor hooks"),
    bad(
        "hooks of a tensor of another dtype",
        called(torch._utils._rebuild_tensor_v3, memory(4), 0, (4,), (1,), *[True], HOOKS, torch.float32),
        "gives a tensor hooks",
    ),
    bad(
        "hooks of a parameter",
        called(torch._utils._rebuild_parameter, GOOD, *[True], HOOKS),
        "gives a tensor hooks",
    ),
    bad(
        "hooks of a tensor that are filled when it is made",
        opcodes(pickled({"x": tensor(memory(4), (4,), hooks=LATER), "y": LATER})[:-2] + b"X\1\0\0\0xNsu."),
        "gives a tensor hooks",
    ),
    bad("numbers for names", torch_file({1: GOOD}), "names are text"),
    bad("a name twice", opcodes(b"\x80\2}(X\1\0\0\0xNX\1\0\0\0xNu."), "'x' twice"),
    bad("a text", saved(lambda: "text"), "something else than tensors"),
    bad("a manifest without tensors", torch_file({"tensors": None, MANIFEST: "{}"}), "something else than tensors"),
    bad("a list of tensors", torch_file([GOOD]), "something else than tensors"),
    bad("numbers beside tensors", torch_file({"x": GOOD, "epoch": 3}), "something else than tensors"),
    bad("a number in place of the manifest", torch_file({"tensors": {"x": GOOD}, MANIFEST: 3}), "not a text"),
    bad(
        "a dictionary whose methods are replaced",
        opcodes(b"\x80\2ccollections\nOrderedDict\n)R}X\6\0\0\0valuesNsb."),
        "attributes",
    ),
    bad("attributes of a tensor", opcodes(pickled(GOOD)[:-1] + b"}b."), "changes a TensorClaim|pickle"),
    bad("a hash of 2^60 steps", opcodes(b"\x80\2}" + LAUGHTER + b"Ns."), "names are text"),
    bad("a text of 2^60 steps", opcodes(b"\x80\2}X\1\0\0\0x" + LAUGHTER + b"s."), "something else than tensors"),
    bad(
        "half a million lists in each other", opcodes(b"\x80\2" + b"]" * 500_000 + b"a" * 499_999 + b"."), "more values"
    ),
    bad("a million lists beside each other", opcodes(b"\x80\2](" + b"]" * 1_000_000 + b"e."), "more values"),
    bad(
        "a place for the billionth value",
        opcodes(b"\x80\2}r\xff\xff\xff\x7f."),
        "no mono_quant manifest",
        tensors_are_fine=True,
    ),
    bad("a pickle of protocol 4", torch_file({"x": GOOD}, protocol=4), "protocol 2"),
    bad("a pickle that ends in the middle", opcodes(pickled({"x": GOOD})[:40]), "ends in the middle"),
    bad("a text that is longer than the pickle", opcodes(b"\x80\2X\xff\xff\xff\xffx."), "ends in the middle"),
    bad("a pickle that takes what it has not", opcodes(b"\x80\2\x86."), "more values than it has"),
    bad("an old file that ends in its memory", old(lambda b: b[:-3]), "which it has not"),
    bad(
        "an old file that claims other memory than it has",
        old(lambda b: b.replace(b"K\x04N", b"J\0\0\0\x7fN")),
        "which it has not",
    ),
    bad("an old file with something behind it", old(lambda b: b + b"more"), "something behind its end"),
    bad("an old file with code", old_with_code, "calls"),
]
