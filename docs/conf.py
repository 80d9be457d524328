# ruff: noqa: INP001 - a configuration file, not a module of a package
"""Sphinx configuration: Markdown pages, one built-in theme."""

project = "mono_quant"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "changelog"]
html_theme = "alabaster"
myst_heading_anchors = 3
