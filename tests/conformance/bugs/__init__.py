"""Components that are wrong in one way each, under suites that must find it; run by `test_planted_bugs.py`."""
