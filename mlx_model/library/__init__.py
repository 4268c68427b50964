"""The model library: which models there are, getting them over a network, finding those at hand.

Needs neither mlx nor a window, so that a window or a terminal can ask it from any thread.
"""
