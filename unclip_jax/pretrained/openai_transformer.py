"""The transformer of GLIDE's captions and Karlo's prior, whose rows of a qkv lie [head][query, key, value][width]."""

from unclip_jax.pretrained.layer_rules import dense, heads_out, norm
from unclip_jax.pretrained.weight_mapping import Rule


def openai_transformer_rules(target: str, source: str, *, layers: int, heads: int) -> list[Rule]:
    """The parameters of a `models.transformer.Transformer` named `target`; `source` has the `resblocks`."""
    blocks, block, rows = f"{target}/blocks", f"{source}.resblocks.{{layer}}", {"n": heads, "p": 3}
    return [
        *norm(f"{blocks}/norm_1", f"{block}.ln_1", layers),
        *norm(f"{blocks}/norm_2", f"{block}.ln_2", layers),
        Rule(f"{blocks}/attention/qkv/kernel", f"{block}.attn.c_qkv.weight", "(n p k) i -> i p n k", rows, layers),
        Rule(f"{blocks}/attention/qkv/bias", f"{block}.attn.c_qkv.bias", "(n p k) -> p n k", rows, layers),
        *heads_out(f"{blocks}/attention/out", f"{block}.attn.c_proj", heads, layers),
        *dense(f"{blocks}/mlp_in", f"{block}.mlp.c_fc", layers),
        *dense(f"{blocks}/mlp_out", f"{block}.mlp.c_proj", layers),
    ]
