"""The measurements in docs/reference/measurements.md: ``nox -s bench`` writes that page from what it measures here."""
