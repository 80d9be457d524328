"""Files that are damaged at random, loaded: ``python -m tests.fuzz --seconds N --seed S``."""
