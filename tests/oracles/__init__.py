"""The definitions of docs/FEATURES.md in plain Python, to hold the code to.

Nothing here imports the code under test: observations come as nested lists, ``None`` where unknown.
"""
