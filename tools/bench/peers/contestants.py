"""Who takes part: how each is started, and what it is started with."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

# Set for a server that is to keep nothing from one request to the next.
COLD = "PEERS_COLD"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PEERS_PYTHON = ROOT / "build" / "peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Contestant:
    """`name` is its key in the results, `kind` the program: ours, mlx_lm or mlx_vlm.

    `scratch` is the environment variable that names its folder for states on the disk.
    """

    name: str
    label: str
    kind: str
    sees: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    scratch: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this is the project itself."""
        return self.kind == "ours"

    def without_memory(self) -> "Contestant":
        """The same with its prefix cache off; ours needs a new process instead."""
        return replace(self, environment={"APC_ENABLED": "0", COLD: "1"})

    def command(self, script: str, peers_python: Path, *arguments: object) -> list[str]:
        """How to run one of this folder's scripts with the contestant's own Python."""
        rest = [str(argument) for argument in arguments]
        if self.is_ours:
            return [sys.executable, "-m", f"tools.bench.peers.{script}", *rest]
        return [str(peers_python), str(HERE / f"{script}.py"), *rest]


OURS = Contestant("ours", "Fireside", "ours", scratch="FIRESIDE_CACHE")
MLX_LM = Contestant("mlx_lm", "mlx-lm, text only", "mlx_lm", sees=False)
MLX_VLM = Contestant("mlx_vlm", "mlx-vlm, as it comes", "mlx_vlm", environment={"APC_ENABLED": "0"})
MLX_VLM_CACHED = Contestant(
    "mlx_vlm_cached",
    "mlx-vlm, prefix cache on",
    "mlx_vlm",
    environment={"APC_ENABLED": "1"},
    scratch="APC_DISK_PATH",
)
# Its prefix cache keeps the state before the last so many tokens of a prompt. By default that is
# one, and the next turn's prompt parts from this one earlier.
MLX_VLM_TUNED = Contestant(
    "mlx_vlm_tuned",
    "mlx-vlm, guard tuned to 16",
    "mlx_vlm",
    environment={"APC_ENABLED": "1", "APC_CHECKPOINT_GUARD_TOKENS": "16"},
    scratch="APC_DISK_PATH",
)

TALKING = (OURS, MLX_LM, MLX_VLM, MLX_VLM_CACHED, MLX_VLM_TUNED)
# Without its prefix cache mlx-vlm answers every question as from cold.
CHANGING = (OURS, MLX_LM, MLX_VLM_CACHED, MLX_VLM_TUNED)
RUNNING = (OURS, MLX_LM, MLX_VLM)
