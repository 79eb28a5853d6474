"""How large a model is and what it costs: parameters, arithmetic, memory. Sums over the configuration, no torch."""

import os
from dataclasses import dataclass

from glassgpt.errors import UserError
from glassgpt.model.config import ModelConfig

MOST_BYTES = 2**46  # where a machine does not say how much memory it has

GPT2_FAMILY = {
    name: ModelConfig(vocab_size=50257, n_layer=layers, n_head=heads, n_embd=width, activation="gelu_tanh")
    for name, layers, heads, width in (
        ("gpt2", 12, 12, 768),
        ("gpt2-medium", 24, 16, 1024),
        ("gpt2-large", 36, 20, 1280),
        ("gpt2-xl", 48, 25, 1600),
    )
}


@dataclass(frozen=True)
class Sizes:
    """What a model of some shape needs.

    Attributes:
        by_part: parameters of each part.
        parameters: their sum. Tied weights are counted once.
        parameters_without_embeddings: the sum less token and position embeddings (an untied output layer counts).
        flops_per_token_forward: multiplications and additions for one token at full context, matrix products only.
        flops_per_token_training: the same for forward and backward, three times as many.
        weight_bytes, gradient_bytes, optimizer_bytes: in float32; AdamW keeps two numbers a parameter.
        activation_bytes: what the forward pass keeps for the backward one, at least, for one sequence of block_size
            tokens in float32.
        logit_bytes: logits of one such sequence, and their gradient.
        cache_bytes: keys and values of one such sequence.
    """

    by_part: dict[str, int]
    parameters: int
    parameters_without_embeddings: int
    flops_per_token_forward: int
    flops_per_token_training: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    logit_bytes: int
    cache_bytes: int

    @property
    def training_bytes(self) -> int:
        """All that training takes with one sequence at a time, at least; the process itself comes on top."""
        state = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return state + self.activation_bytes + self.logit_bytes


def sizes(config: ModelConfig) -> Sizes:
    """Count everything from the shape alone.

    A matrix of n entries costs 2n operations for a token; attention costs 2·T·C for the scores and as much for the
    weighted sum, in every layer, T being the block size (PaLM, Chowdhery et al., 2022, appendix B: causality is not
    taken off). Embedding look-ups, norms and activations are left out.
    """
    parts = _gpt_parts(config) if config.kind == "gpt" else {"bigram table": config.vocabulary**2}
    parameters = sum(parts.values())
    embeddings = sum(count for part, count in parts.items() if part.endswith(("embedding", "embeddings")))
    forward = _forward_flops(config) if config.kind == "gpt" else 0
    cache = 2 * config.n_layer * config.kv_heads * config.head_width * config.block_size if config.kind == "gpt" else 0
    return Sizes(
        by_part=parts,
        parameters=parameters,
        parameters_without_embeddings=parameters - embeddings,
        flops_per_token_forward=forward,
        flops_per_token_training=3 * forward,
        weight_bytes=4 * parameters,
        gradient_bytes=4 * parameters,
        optimizer_bytes=8 * parameters,
        activation_bytes=4 * config.block_size * _kept_per_token(config),
        logit_bytes=2 * 4 * config.block_size * config.vocabulary,
        cache_bytes=4 * cache,
    )


def memory() -> int | None:
    """The bytes of memory that this machine has, swap space not counted; None if it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def require_memory(needed: int, what: str) -> None:
    """Make sure that this machine has so much memory at all: where it has not, asking for it may end the process.

    Args:
        needed: bytes.
        what: takes them, for the message.

    Raises:
        UserError: it has not.
    """
    there = memory() or MOST_BYTES
    if needed > there:
        raise UserError(
            f"{what} takes {_size(needed)} at least, and this machine has {_size(there)}: a smaller model, batch or "
            "block is needed (see glassgpt info)"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count < 2**60 else "more than 10^18 bytes"


def tables(config: ModelConfig) -> int:
    """Bytes of what a model has beside its parameters: the tables of fixed positions, and what they are made from."""
    if config.kind != "gpt":
        return 0
    if config.position == "rotary":
        return 4 * 8 * config.block_size * config.head_width
    return 2 * 8 * config.block_size * config.n_embd if config.position == "sinusoidal" else 0


def _matrices_per_layer(config: ModelConfig) -> tuple[int, int]:
    """Entries of the attention and the MLP matrices of one block."""
    C, D = config.n_embd, config.head_width
    attention = C * (config.n_head + 2 * config.kv_heads) * D + C * C
    mlp = (3 if config.activation == "swiglu" else 2) * C * config.inner_width
    return attention, mlp


def _gpt_parts(config: ModelConfig) -> dict[str, int]:
    C, L, V = config.n_embd, config.n_layer, config.vocabulary
    attention, mlp = _matrices_per_layer(config)
    if config.has_qkv_bias:
        attention += (config.n_head + 2 * config.kv_heads) * config.head_width
    if config.bias:
        attention += C
        mlp += C + (2 if config.activation == "swiglu" else 1) * config.inner_width
    norm = 2 * C if config.norm == "layernorm" and config.bias else C
    norms = (2 * L + (config.norm_position == "pre")) * norm + (2 * L * config.head_width if config.qk_norm else 0)
    parts = {
        "token embedding": V * C,
        "n-gram embeddings": C * sum(config.ngram_rows(length) for length in range(2, config.ngrams + 1)),
        "position embedding": config.block_size * C if config.position == "learned" else 0,
        "attention": L * attention,
        "mlp": L * mlp,
        "norms": norms,
        "layer scale": 0 if config.layer_scale is None else 2 * L * C,
        "output layer": 0 if config.tie_weights else V * C,
    }
    return {name: count for name, count in parts.items() if count}


def _kept_per_token(config: ModelConfig) -> int:
    """Numbers that the blocks keep of a token: what goes into norms, matrices, attention and activation functions.

    That is all for GPT-2's kind with fused attention. RMSNorm, QK norm and rotary positions keep up to half as much
    again, dropout its masks, and attention by hand, or with dropout, all its weights.
    """
    if config.kind != "gpt":
        return 0
    C, F = config.n_embd, config.inner_width
    qkv = (config.n_head + 2 * config.kv_heads) * config.head_width
    return config.n_layer * (5 * C + qkv + (4 if config.activation == "swiglu" else 2) * F)


def _forward_flops(config: ModelConfig) -> int:
    matrices = config.n_layer * sum(_matrices_per_layer(config)) + config.vocabulary * config.n_embd
    return 2 * matrices + config.n_layer * 4 * config.block_size * config.n_embd
