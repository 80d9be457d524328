"""The table in docs/reference/schemes.md: what every scheme makes of every kind of layer, checked. No time is measured.

``python -m tests.bench.schemes`` writes the page; tests/test_schemes_page.py does the same checks.
"""
