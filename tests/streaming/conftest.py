"""Units that are small, so that small folders have many."""

import pytest


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mono_quant.streaming.shard._UNIT_BYTES", 2**13)
    monkeypatch.setattr("mono_quant.streaming.rows.BLOCK_ELEMENTS", 2**10)
    monkeypatch.setattr("mono_quant.streaming.doing.BLOCK_ELEMENTS", 2**10)
