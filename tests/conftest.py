"""What all tests share: a fast BLAS for MLX on Linux, before any of them imports it, and no clock
that judges how long hypothesis' examples take: a machine may be busy.
"""

from hypothesis import settings

from mlx_model.cpu_blas import prefer_openblas

prefer_openblas()
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
