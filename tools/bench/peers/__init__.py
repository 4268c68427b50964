"""This project beside mlx-lm and mlx-vlm: the same checkpoint, machine and questions, in one go.

    make bench-peers                             # about a quarter of an hour
    python -m tools.bench.peers --rows turns --model demo --turns 6

Finished rows are kept in `--results` and not measured again; `--print` only prints them.
"""
