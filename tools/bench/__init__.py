"""Measurements of the running program, printed as tables."""
