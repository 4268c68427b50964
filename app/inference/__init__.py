"""Everything between the window and the engine; the only part of `app` that knows `mlx_model`."""
