"""Static int8 by every observer and algorithm, and by others: ``nox -s accuracy_peers`` writes accuracy-peers.md.

Read `__main__` (the driver), `models` (what is quantized), `contenders` (by whom and how), `cell` (one measurement) and
`gate` (a target searched for). A peer is added with a file in `runners` and a record in `contenders`.
"""
