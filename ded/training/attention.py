"""Attention of examples that lie end to end (`trainer.packing: varlen`): each to itself alone, by
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

    attend = varlen_attn if query.is_cuda else _one_by_one
    # rotated in float32; the kernel wants bfloat16, which autocast computes in
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    starts, longest = settings["cu_seq_lens_q"], settings["max_length_q"]
    window = (settings.get("sliding_window") or 0) - 1, 0  # 0 before the last: no bound
    about: dict[str, Any] = {
        "scale": settings.get("scaling"),
        "window_size": window,
        "enable_gqa": True,
    }
    return attend(*parts, starts, starts, longest, longest, **about)[None], None


def _one_by_one(
    query: Any,
    key: Any,
    value: Any,
    starts: Any,
    *_: Any,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Any:
    """What `varlen_attn` does, where there is no GPU."""
    import torch

    outputs = []
    for rows in zip(
        *(part.split(starts.diff().tolist()) for part in (query, key, value)), strict=True
    ):
        near = torch.ones(2 * [len(rows[0])], dtype=torch.bool, device=query.device).tril()
        if window_size[0] >= 0:
            near = near.triu(-window_size[0])
        heads_first = [part.transpose(0, 1)[None] for part in rows]
        attended = torch.nn.functional.scaled_dot_product_attention(
            *heads_first, attn_mask=near, scale=scale, enable_gqa=enable_gqa
        )
        outputs.append(attended[0].transpose(0, 1))
    return torch.cat(outputs)
