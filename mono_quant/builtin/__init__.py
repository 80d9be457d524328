"""One small declaration for each default plugin, found through the entry points in pyproject.toml."""
