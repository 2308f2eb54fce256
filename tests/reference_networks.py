"""Reference implementations of the networks in NumPy and float64.

They are written from the papers and the descriptions of the original code, and use no code of the package. They are
slow, with loops over heads and convolution taps. `p` is always the parameter tree of the module at hand, in the layout
that the package documents.
"""

import math

import numpy as np


def sinusoid(t, width):
    half = width // 2
    rows = []
    for step in t:
        angles = [float(step) * math.exp(-math.log(10000.0) * i / half) for i in range(half)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return np.array(rows)


def dense(p, x):
    return x @ p["kernel"].astype(np.float64) + p.get("bias", 0.0)


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def quick_gelu(x):
    return x / (1.0 + np.exp(-1.702 * x))


def layer_norm(p, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def group_norm(p, x, groups):
    """Normalizes over channels c with the same c // (C / groups)."""
    out = np.empty(x.shape)
    size = x.shape[-1] // groups
    for row in range(x.shape[0]):
        for g in range(groups):
            part = x[row, ..., g * size : (g + 1) * size]
            out[row, ..., g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    return out * p["scale"] + p["bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attention(q, k, v, mask):
    """Attention of one head and row: q [L, K], k and v [M, K], mask [L, M] bool."""
    return softmax(np.where(mask, q @ k.T / math.sqrt(q.shape[-1]), -1e30)) @ v


def transformer(p, x, heads, mask, activation):
    """Transformer: x [B, L, D], mask [B, L, L]."""
    layers = p["blocks"]["norm_1"]["scale"].shape[0]
    for layer in range(layers):
        block = _of_layer(p["blocks"], layer)
        x = x + _self_attention(block["attention"], layer_norm(block["norm_1"], x), heads, mask)
        x = x + dense(block["mlp_out"], activation(dense(block["mlp_in"], layer_norm(block["norm_2"], x))))
    return x


def _of_layer(p, layer):
    return {name: _of_layer(value, layer) if isinstance(value, dict) else value[layer] for name, value in p.items()}


def _self_attention(p, x, heads, mask):
    out = np.zeros(x.shape) + p["out"]["bias"]
    for row in range(x.shape[0]):
        for n in range(heads):
            q, k, v = (x[row] @ p["qkv"]["kernel"][:, i, n] + _bias(p, i, n) for i in range(3))
            out[row] += attention(q, k, v, mask[row]) @ p["out"]["kernel"][n]
    return out


def _bias(p, i, n):
    """Returns the bias of queries (i=0), keys (1) or values (2). Keys may have none."""
    if "query_value_bias" in p:
        return (p["query_value_bias"][0, n], 0.0, p["query_value_bias"][1, n])[i]
    return p["qkv"]["bias"][i, n]


def conv3x3(p, x, stride=1):
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel, out = p["kernel"].astype(np.float64), p["bias"].astype(np.float64)
    for i in range(3):
        for j in range(3):
            out = out + padded[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j]
    return out


def down(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4.0


def up(x):
    return np.kron(x, np.ones((1, 2, 2, 1)))


def res_block(p, x, emb, groups, scale_shift, resample=lambda x: x):
    channels = p["conv_1"]["bias"].shape[0]
    h = conv3x3(p["conv_1"], resample(silu(group_norm(p["norm_1"], x, groups))))
    time = dense(p["time"], silu(emb))[:, None, None]
    if scale_shift:
        h = silu(group_norm(p["norm_2"], h, groups) * (1.0 + time[..., :channels]) + time[..., channels:])
    else:
        h = silu(group_norm(p["norm_2"], h + time, groups))
    x = resample(x)
    return (dense(p["skip"], x) if "skip" in p else x) + conv3x3(p["conv_2"], h)


def attention_block(p, x, heads, groups, context=None, mask=None):
    rows, height, width, channels = x.shape
    h = group_norm(p["norm"], x, groups).reshape(rows, -1, channels)
    out = np.zeros(h.shape) + p["out"]["bias"]
    for row in range(rows):
        for n in range(heads):
            q, k, v = (h[row] @ p["qkv"]["kernel"][:, i, n] + p["qkv"]["bias"][i, n] for i in range(3))
            visible = np.ones(len(k), bool)
            if context is not None:
                kernel, bias = p["context"]["kernel"][:, :, n], p["context"]["bias"][:, n]
                k = np.concatenate([context[row] @ kernel[:, 0] + bias[0], k])
                v = np.concatenate([context[row] @ kernel[:, 1] + bias[1], v])
                visible = np.concatenate([mask[row], visible])
            out[row] += attention(q, k, v, np.broadcast_to(visible, (len(q), len(k)))) @ p["out"]["kernel"][n]
    return x + out.reshape(x.shape)


def vit(p, pixels, patch, heads, activation, first=None):
    """ViT: pixels [B, S, S, 3] to embeddings. first [B, D]: first token; if None, the class token."""
    rows, side = pixels.shape[0], pixels.shape[1] // patch
    first = np.broadcast_to(p["class_embedding"], (rows, len(p["class_embedding"]))) if first is None else first
    tokens = [first]
    for i in range(side):
        for j in range(side):
            part = pixels[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            tokens.append(np.einsum("bhwc,hwcd->bd", part, p["patch_embedding"]["kernel"].astype(np.float64)))
    x = layer_norm(p["norm_pre"], np.stack(tokens, axis=1) + p["positional_embedding"])
    x = transformer(p["transformer"], x, heads, np.ones((rows, x.shape[1], x.shape[1]), bool), activation)
    return dense(p["projection"], layer_norm(p["norm_post"], x[:, 0]))


def text_tower(p, tokens, heads, activation):
    """Text encoder: tokens [B, L] to (pooled, sequence)."""
    rows, length = tokens.shape
    x = p["token_embedding"]["embedding"][tokens].astype(np.float64) + p["positional_embedding"][:length]
    mask = np.broadcast_to(np.tri(length, dtype=bool), (rows, length, length))
    x = layer_norm(p["norm_final"], transformer(p["transformer"], x, heads, mask, activation))
    end = [list(row).index(max(row)) for row in tokens]
    return dense(p["projection"], x[np.arange(rows), end]), x


def prior(p, z_t, t, pooled, sequence, mask, heads):
    width = len(p["query"])
    time = p["time_embedding"]
    tokens = [dense(p["sequence_projection"], sequence[:, i].astype(np.float64)) for i in range(sequence.shape[1])]
    tokens.append(dense(p["text_projection"], pooled))
    tokens.append(dense(time["linear_2"], silu(dense(time["linear_1"], sinusoid(t, width)))))
    tokens.append(dense(p["image_projection"], z_t))
    tokens.append(np.broadcast_to(p["query"], (len(t), width)))
    x = np.stack(tokens, axis=1) + p["positional_embedding"]
    keys = np.concatenate([mask, np.ones((len(t), 4), bool)], axis=1)
    mask = keys[:, None, :] & np.tri(x.shape[1], dtype=bool)
    x = transformer(p["transformer"], x, heads, mask, gelu)
    return dense(p["projection_out"], layer_norm(p["norm_out"], x[:, -1]))


def decoder(p, x_t, t, z, pooled, sequence, mask, *, image_tokens, **unet_fields):
    embedding = dense(p["image_to_time"], z) + dense(p["text_to_time"], pooled)
    kernel, bias = p["image_to_tokens"]["kernel"], p["image_to_tokens"]["bias"]
    tokens = [z @ kernel[:, :, i] + bias[:, i] for i in range(image_tokens)]
    text = layer_norm(p["sequence_norm"], dense(p["sequence_to_tokens"], sequence))
    context = np.concatenate([np.stack(tokens, axis=1), text], axis=1)
    mask = np.concatenate([np.ones((len(t), image_tokens), bool), mask], axis=1)
    return unet(p["unet"], x_t, t, embedding=embedding, context=context, mask=mask, **unet_fields)


def unet(p, x, t, *, levels, res_blocks, attentive, heads, groups, scale_shift, embedding=0.0, context=None, mask=None):
    """U-Net. attentive: levels with attention; heads: function from channels to number of heads."""
    block, attend = _unet_parts(p, t, embedding, heads, groups, scale_shift, context, mask)
    h, skips = _unet_encoder(p, x, block, attend, levels, res_blocks, attentive)
    for level in range(levels - 1, -1, -1):
        for r in range(res_blocks + 1):
            h = block(f"up_{level}_block_{r}", np.concatenate([h, skips.pop()], axis=-1))
            h = attend(f"up_{level}_attention_{r}", h) if level in attentive else h
        if level > 0:
            h = block(f"up_{level}_upsample", h, resample=up)
    return conv3x3(p["conv_out"], silu(group_norm(p["norm_out"], h, groups)))


def _unet_parts(p, t, embedding, heads, groups, scale_shift, context=None, mask=None):
    """Returns residual blocks and attention blocks as functions of their name and input."""
    time = p["time_embedding"]
    sines = sinusoid(t, time["linear_1"]["kernel"].shape[0])
    emb = dense(time["linear_2"], silu(dense(time["linear_1"], sines))) + embedding

    def block(name, h, **kwargs):
        return res_block(p[name], h, emb, groups, scale_shift, **kwargs)

    def attend(name, h):
        return attention_block(p[name], h, heads(h.shape[-1]), groups, context, mask)

    return block, attend


def _unet_encoder(p, x, block, attend, levels, res_blocks, attentive):
    """Returns the output of the bottleneck, and the skip connections."""
    skips = [conv3x3(p["conv_in"], x)]
    for level in range(levels):
        for r in range(res_blocks):
            h = block(f"down_{level}_block_{r}", skips[-1])
            skips.append(attend(f"down_{level}_attention_{r}", h) if level in attentive else h)
        if level < levels - 1:
            skips.append(block(f"down_{level}_downsample", skips[-1], resample=down))
    h = block("middle_block_0", skips[-1])
    h = attend("middle_attention", h) if attentive else h
    return block("middle_block_1", h), skips


def noised_classifier(p, x, t, *, levels, res_blocks, attentive, heads, groups, scale_shift):
    block, attend = _unet_parts(p, t, 0.0, heads, groups, scale_shift)
    h, _ = _unet_encoder(p, x, block, attend, levels, res_blocks, attentive)
    h = silu(group_norm(p["norm_out"], h, groups))
    return attention_pool(p["pool"], h, heads(h.shape[-1]))


def attention_pool(p, x, heads):
    """Attention pooling: pixels [B, H, W, C] to the attention output of their mean, [B, C]."""
    out = []
    for pixels in x.reshape(x.shape[0], -1, x.shape[-1]):
        tokens = np.concatenate([pixels.mean(0)[None], pixels]) + p["positional_embedding"]
        vector = p["out"]["bias"].astype(np.float64)
        for n in range(heads):
            q, k, v = (tokens @ p["qkv"]["kernel"][:, i, n] + p["qkv"]["bias"][i, n] for i in range(3))
            vector = vector + (attention(q, k, v, np.ones((len(q), len(k)), bool)) @ p["out"]["kernel"][n])[0]
        out.append(vector)
    return np.stack(out)
