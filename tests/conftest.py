"""What all tests share: on Linux MLX gets the fast BLAS, before any of them imports it."""

from mlx_model.cpu_blas import prefer_openblas

prefer_openblas()
