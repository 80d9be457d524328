"""The fastest that others offer, beside ours: ``nox -s bench_peers`` measures and writes docs/reference/peers.md.

Read `__main__` (the driver), `cell` (one measurement), `workloads` (what is run) and `runners` (who runs it).
A peer is added with a file in `runners` and a record in its table.
"""
