"""The shape of a model, as typed data. No torch in here, so that sizes can be told without it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from glassgpt.config import Config
from glassgpt.errors import UserError


class ModelConfig(Config):
    """The shape of a model. The defaults are nanoGPT's for GPT-2 small: its shape, with the exact GELU."""

    kind: Literal["gpt", "bigram"] = Field(
        "gpt", description="gpt, or bigram: the next token from this one alone (uses only the vocabulary)"
    )
    vocab_size: int | None = Field(
        None, ge=1, le=2**24, description="entries of the vocabulary; left out: the tokenizer's"
    )
    block_size: int = Field(1024, ge=1, le=2**24, description="context: the most tokens that are looked at")
    n_layer: int = Field(12, ge=1, le=2**12, description="blocks")
    n_head: int = Field(12, ge=1, le=2**12, description="query heads")
    n_kv_head: int | None = Field(
        None, ge=1, le=2**12, description="key/value heads, shared by groups of query heads; left out: n_head"
    )
    n_embd: int = Field(768, ge=1, le=2**18, description="width of the residual stream")
    n_inner: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="width inside the MLP; left out: 4 n_embd, for swiglu 8/3 n_embd (as many parameters)",
    )

    attention: Literal["fused", "manual"] = Field(
        "fused", description="fused: one kernel for all of attention; manual: every step by hand, the same result"
    )
    position: Literal["learned", "sinusoidal", "rotary", "none"] = Field(
        "learned", description="how positions are told apart"
    )
    rope_base: float = Field(10_000.0, gt=1, le=1e12, description="rotary: wavelengths go from 2π to 2π times this")
    rope_pairing: Literal["half", "interleaved"] = Field(
        "half", description="rotary: rotate (i, i + D/2) as in GPT-NeoX and Llama, or (2i, 2i + 1) as in the paper"
    )
    ngrams: int = Field(
        1, ge=1, le=16, description="3: the last two and the last three tokens have embeddings as one, too; 1: none do"
    )
    ngram_entries: int = Field(
        16_384, ge=1, le=2**24, description="the most rows in each table of those; with more combinations, some share"
    )
    qk_norm: bool = Field(False, description="normalise queries and keys, each head by itself, by the kind of norm")

    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu"] = Field(
        "gelu", description="inside the MLP; gelu is the exact one (erf), gelu_tanh is GPT-2's approximation"
    )
    norm: Literal["layernorm", "rmsnorm"] = Field("layernorm", description="kind of normalisation")
    norm_position: Literal["pre", "post"] = Field(
        "pre", description="pre: before each sublayer; post: after the sum, as in 2017"
    )
    norm_eps: float = Field(1e-5, ge=1e-30, le=1e3, description="added to the variance")
    bias: bool = Field(True, description="biases in linear layers and LayerNorm")
    qkv_bias: bool | None = Field(None, description="bias in the query/key/value projection; left out: as bias")
    layer_scale: float | None = Field(
        None, gt=-1e6, lt=1e6, description="learned gain on each sublayer's output, beginning here; left out: none"
    )
    tie_weights: bool = Field(True, description="the output layer is the token embedding, transposed")
    logit_softcap: float | None = Field(
        None, ge=1e-6, le=1e9, description="logits become c·tanh(logits/c); left out: no cap"
    )

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout wherever no other value is given")
    embd_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout on the sum of embeddings; left out: dropout"
    )
    attn_dropout: float | None = Field(None, ge=0, lt=1, description="dropout on attention weights; left out: dropout")
    resid_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout on each sublayer's output; left out: dropout"
    )

    init_std: float = Field(0.02, gt=0, le=1e3, description="standard deviation of the initial weights")
    zero_init: bool = Field(
        False, description="projections into the residual stream begin at zero: pre-norm blocks begin as identity"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.n_embd % self.n_head:
            nearest = next(n for n in range(self.n_head, 0, -1) if self.n_embd % n == 0)
            raise ValueError(
                f"n_head {self.n_head} does not divide n_embd {self.n_embd}: take another, such as n_head {nearest}"
            )
        if self.n_head % self.kv_heads:
            raise ValueError(f"n_kv_head {self.kv_heads} does not divide n_head {self.n_head}: take a divisor of it")
        if self.position == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions turn pairs, but a head is {self.head_width} wide: take an even width")
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions come in pairs, but n_embd is {self.n_embd}: take an even width")
        return self

    @property
    def head_width(self) -> int:
        """D, the width of one head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """G, the number of key/value heads."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def inner_width(self) -> int:
        """F, the width inside the MLP. For swiglu, 8/3 of the width, rounded up to a multiple of 8."""
        if self.n_inner is not None:
            return self.n_inner
        return -(-8 * self.n_embd // 3 // 8) * 8 if self.activation == "swiglu" else 4 * self.n_embd

    def ngram_rows(self, length: int) -> int:
        """Rows of the table for so many tokens in a row, of which some may be missing at the beginning of a text."""
        combinations: int = (self.vocabulary + 1) ** length
        return min(combinations, self.ngram_entries)

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the query/key/value projection has a bias."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def vocabulary(self) -> int:
        """V, once it is known.

        Raises:
            UserError: the configuration leaves it to a tokenizer that has not been asked yet.
        """
        if self.vocab_size is None:
            raise UserError("model.vocab_size is not set: give it, or take it from a tokenizer")
        return self.vocab_size

    def dropout_for(self, place: Literal["embd", "attn", "resid"]) -> float:
        """The dropout probability at one of the three places that have one."""
        own: float | None = getattr(self, f"{place}_dropout")
        return self.dropout if own is None else own
