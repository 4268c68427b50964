"""Measurements of the running program, printed as tables."""

from mlx_model.cpu_blas import prefer_openblas

# As every program here does; most of these modules import mlx.core themselves, after which it is
# too late.
prefer_openblas()
