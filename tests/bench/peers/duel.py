"""The fastest of ours and of theirs against each other, in turn in one process: ``python -m tests.bench.peers.duel``.

The page compares each with float, in a process of its own; what lies within its noise is told apart here.
"""

import argparse
import sys
from statistics import median

import torch

from .cell import in_a_line
from .runners import peer_for
from .setting import Setting
from .timing import Turns, in_turn
from .workloads import WORKLOADS

CASES = (
    ("resnet18", "batch 1"), ("resnet18", "batch 8"), ("mobilenet_v2", "batch 1"), ("minilm", "1 x 128 tokens"),
    ("minilm", "16 x 128 tokens"), ("llama", "prefill of 128 tokens"), ("mlp", "batch 64"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="ours-int8-static-openvino")
    parser.add_argument("--theirs", default="openvino-int8")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=tuple(WORKLOADS), help="workloads")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of timing for a case")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    for workload, case in CASES:
        if workload in told.only:
            try:
                turns = fight(workload, case, (told.ours, told.theirs), Setting(told.threads, "full"), told.budget)
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is why it is left out
                sys.stdout.write(f"{workload}, {case}: {in_a_line(error)}\n")
                continue
            low, ratio, high = turns.ratios
            sys.stdout.write(
                f"{workload}, {case}: {told.ours} {median(turns.first):.2f} ms, {told.theirs} "
                f"{median(turns.second):.2f} ms; theirs is {ratio:.3f} ({low:.3f} to {high:.3f}) times as fast\n"
            )
            sys.stdout.flush()


def fight(workload: str, case: str, names: tuple[str, str], setting: Setting, budget_s: float) -> Turns:
    """Both built from the same model and data, then timed in turn."""
    source = WORKLOADS[workload]
    model, calibration, example = source.load(), source.calibration(case), source.held_back(case)[0]
    peers = [peer_for(name, workload) for name in names]
    for peer in peers:
        peer.load()
    with torch.no_grad():
        ours, theirs = (peer.build(model, calibration, setting) for peer in peers)
    with torch.inference_mode():
        return in_turn(lambda: ours.call(example), lambda: theirs.call(example), budget_s=budget_s)


if __name__ == "__main__":
    main()
