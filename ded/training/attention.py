"""Attention of examples that lie end to end (`trainer.packing`, on a GPU): each to itself alone, by
PyTorch's kernel for rows of unequal lengths, without padding or a mask."""

from typing import Any

NAME = "ded_varlen"  # among transformers' attention functions


def register() -> str:
    """Makes it known to transformers; returns its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    return NAME


def packed_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: None, **settings: Any
) -> tuple[Any, None]:
    """(1, tokens, heads, width) of query, key and value, (1, heads, tokens, width) each.

    settings: as TRL's collator and the model's layers give them; cu_seq_lens_q: where examples
    begin, and the number of tokens.
    """
    from torch.nn.attention.varlen import varlen_attn

    # rotated in float32; the kernel wants bfloat16, which autocast computes in
    rows = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    starts, longest = settings["cu_seq_lens_q"], settings["max_length_q"]
    before = (settings.get("sliding_window") or 0) - 1  # tokens that are seen; -1: all
    about: dict[str, Any] = {"scale": settings.get("scaling"), "window_size": (before, 0)}
    output = varlen_attn(*rows, starts, starts, longest, longest, enable_gqa=True, **about)
    return output[None], None
