"""What a model takes in memory, worked out from its shapes: weights, state, keys and values.

Only what grows with the model and the conversation; a stated reserve for everything else, and what
a machine has to offer, are the business of whoever compares the two.
"""

from dataclasses import dataclass

from mlx_model.config import TextConfig

# The DeltaNet state is kept in fp32 everywhere, whatever the model computes in.
_STATE_ELEMENT_BYTES = 4
# bf16, as on Metal.
_ELEMENT_BYTES = 2


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """Bytes of a loaded model: the weights and the state always, the rest for each token."""

    weights_bytes: int
    state_bytes: int
    bytes_a_token: int

    def total_bytes(self, tokens: int) -> int:
        """What it takes with a conversation of so many tokens."""
        return self.weights_bytes + self.state_bytes + tokens * self.bytes_a_token

    def tokens_within(self, available_bytes: int) -> int:
        """The longest conversation that so many bytes hold; 0 if not even the model fits."""
        left = available_bytes - self.weights_bytes - self.state_bytes
        return max(0, left) // self.bytes_a_token


def memory_needs(
    text: TextConfig,
    weights_bytes: int,
    element_bytes: int = _ELEMENT_BYTES,
    draft_head: bool = False,
) -> MemoryNeeds:
    """The needs of a model whose loaded weights take `weights_bytes`.

    `element_bytes` is the width it computes in: 2 on Metal, 4 on the CPU backend. A `draft_head`
    keeps rows like one more layer of attention.
    """
    attention_layers = text.layer_types.count("full_attention") + draft_head
    keys_and_values = 2 * text.num_key_value_heads * text.head_dim
    return MemoryNeeds(
        weights_bytes=weights_bytes,
        state_bytes=text.layer_types.count("linear_attention")
        * _delta_net_bytes(text, element_bytes),
        bytes_a_token=attention_layers * keys_and_values * element_bytes,
    )


def _delta_net_bytes(text: TextConfig, element_bytes: int) -> int:
    """One DeltaNet layer: its state [H, Dv, Dk] and the tail [kernel - 1, C] of its convolution."""
    keys = text.linear_num_key_heads * text.linear_key_head_dim
    values = text.linear_num_value_heads * text.linear_value_head_dim
    state = values * text.linear_key_head_dim * _STATE_ELEMENT_BYTES
    tail = (text.linear_conv_kernel_dim - 1) * (2 * keys + values) * element_bytes
    return state + tail
