"""Each contender in a file of its own, with a function ``build``."""
