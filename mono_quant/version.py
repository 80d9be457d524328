"""The version, where everything can read it without importing the package's attributes."""

__all__ = ["__version__"]

__version__ = "2.0.0.dev0"
