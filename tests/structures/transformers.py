"""Transformers and what is made of their parts: packed and separate projections, ties, sharing, adapters, experts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen, nnx
from torch import nn

from tests.structures.structure import F64, Structure, exact_attention, images, tokens

WIDTH, HEADS = 8, 2
nnx_norm = partial(nnx.LayerNorm, WIDTH, epsilon=1e-5, **F64)
linen_norm = partial(linen.LayerNorm, epsilon=1e-5, **F64)
nnx_attention = partial(nnx.MultiHeadAttention, HEADS, WIDTH, attention_fn=exact_attention, decode=False, **F64)
linen_attention = partial(linen.MultiHeadDotProductAttention, HEADS, deterministic=True, **F64)
exact_gelu = partial(jax.nn.gelu, approximate=False)


def split_heads(x):  # (B, T, width) -> (B, T, heads, width / heads)
    return x.reshape(*x.shape[:2], HEADS, -1)


def attend(q, k, v, mask=None):
    return exact_attention(split_heads(q), split_heads(k), split_heads(v), mask).reshape(q.shape)


# --- 6: ViT --------------------------------------------------------------------------------------------------


class TorchPackedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.proj_drop = nn.Dropout(0.1)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.proj_drop(self.proj(x))


class TorchMlp(nn.Module):
    def __init__(self, width=WIDTH, hidden=16):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class TorchViTBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.attn, self.mlp = (
            nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), TorchPackedAttention(), TorchMlp(),
        )  # fmt: skip

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchPatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, kernel_size=4, stride=4)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class TorchViT(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.patch_embed = TorchPatchEmbed()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*[TorchViTBlock() for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class NnxMlp(nnx.Module):
    def __init__(self, width=WIDTH, hidden=16, *, rngs):
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs, **F64)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs, **F64)

    def __call__(self, x):
        return self.fc2(exact_gelu(self.fc1(x)))


class NnxViTBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1, self.norm2, self.attn = nnx_norm(rngs=rngs), nnx_norm(rngs=rngs), nnx_attention(rngs=rngs)
        self.mlp, self.drop = NnxMlp(rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class NnxPatchEmbed(nnx.Module):
    def __init__(self, *, rngs):
        self.proj = nnx.Conv(3, WIDTH, (4, 4), strides=4, padding="VALID", rngs=rngs, **F64)

    def __call__(self, x):
        return self.proj(x).reshape(len(x), -1, WIDTH)


class NnxViT(nnx.Module):
    def __init__(self, depth=2, *, rngs):
        self.patch_embed = NnxPatchEmbed(rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, WIDTH)))
        self.pos_embed = nnx.Param(jnp.zeros((1, 5, WIDTH)))
        self.blocks = nnx.List([NnxViTBlock(rngs=rngs) for _ in range(depth)])
        self.norm, self.head = nnx_norm(rngs=rngs), nnx.Linear(WIDTH, 3, rngs=rngs, **F64)

    def embed(self, x):
        cls_token = jnp.broadcast_to(self.cls_token[...], (len(x), 1, WIDTH))
        return jnp.concatenate([cls_token, self.patch_embed(x)], 1) + self.pos_embed[...]

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class LinenMlp(linen.Module):
    hidden: int = 16

    @linen.compact
    def __call__(self, x):
        z = exact_gelu(linen.Dense(self.hidden, name="fc1", **F64)(x))
        return linen.Dense(x.shape[-1], name="fc2", **F64)(z)


class LinenViTBlock(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        z = linen_attention(name="attn")(linen_norm(name="norm1")(x))
        x = x + linen.Dropout(0.1, deterministic=not self.train)(z)
        return x + LinenMlp(name="mlp")(linen_norm(name="norm2")(x))


class LinenPatchEmbed(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(WIDTH, (4, 4), strides=4, padding="VALID", name="proj", **F64)(x)
        return x.reshape(len(x), -1, WIDTH)


class LinenViT(linen.Module):
    depth: int = 2

    def setup(self):
        zeros = linen.initializers.zeros
        self.patch_embed = LinenPatchEmbed()
        self.cls_token = self.param("cls_token", zeros, (1, 1, WIDTH), jnp.float64)
        self.pos_embed = self.param("pos_embed", zeros, (1, 5, WIDTH), jnp.float64)
        self.blocks = self.stack()
        self.norm, self.head = linen_norm(), linen.Dense(3, **F64)

    def stack(self):
        return [LinenViTBlock() for _ in range(self.depth)]

    def run(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, x):
        cls_token = jnp.broadcast_to(self.cls_token, (len(x), 1, WIDTH))
        x = jnp.concatenate([cls_token, self.patch_embed(x)], 1) + self.pos_embed
        return self.head(self.norm(self.run(x))[:, 0])


# --- 7: GPT-2 ------------------------------------------------------------------------------------------------


class TorchConv1D(nn.Module):
    """GPT-2's linear layer: its weight is (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) * 0.02), nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class TorchGPTAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("bias", torch.tril(torch.ones(6, 6, dtype=torch.bool)).view(1, 1, 6, 6))
        self.c_attn, self.c_proj = TorchConv1D(3 * WIDTH, WIDTH), TorchConv1D(WIDTH, WIDTH)
        self.resid_dropout = nn.Dropout(0.1)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, HEADS, c // HEADS).transpose(1, 2) for z in self.c_attn(x).split(c, dim=2))
        weights = q @ k.transpose(-2, -1) / (c // HEADS) ** 0.5
        weights = weights.masked_fill(~self.bias[:, :, :t, :t], float("-inf")).softmax(-1)
        return self.resid_dropout(self.c_proj((weights @ v).transpose(1, 2).reshape(b, t, c)))


class TorchGPTMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc, self.c_proj = TorchConv1D(16, WIDTH), TorchConv1D(WIDTH, 16)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class TorchGPTBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(WIDTH), TorchGPTAttention()
        self.ln_2, self.mlp = nn.LayerNorm(WIDTH), TorchGPTMlp()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class TorchGPT(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(11, WIDTH), nn.Embedding(6, WIDTH), nn.Dropout(0.1)
        self.h, self.ln_f = nn.ModuleList([TorchGPTBlock() for _ in range(depth)]), nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, 11, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids):
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1])))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class NnxGPTAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.c_attn = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs, **F64)
        self.c_proj, self.drop = nnx.Linear(WIDTH, WIDTH, rngs=rngs, **F64), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        q, k, v = jnp.split(self.c_attn(x), 3, -1)
        return self.drop(self.c_proj(attend(q, k, v, linen.make_causal_mask(x[..., 0]))))


class NnxGPTMlp(nnx.Module):
    def __init__(self, *, rngs):
        self.c_fc, self.c_proj = nnx.Linear(WIDTH, 16, rngs=rngs, **F64), nnx.Linear(16, WIDTH, rngs=rngs, **F64)

    def __call__(self, x):
        return self.c_proj(nnx.gelu(self.c_fc(x)))


class NnxGPTBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.ln_1, self.attn = nnx_norm(rngs=rngs), NnxGPTAttention(rngs=rngs)
        self.ln_2, self.mlp = nnx_norm(rngs=rngs), NnxGPTMlp(rngs=rngs)

    def __call__(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NnxGPT(nnx.Module):
    def __init__(self, depth=2, *, rngs):
        self.wte, self.wpe = nnx.Embed(11, WIDTH, rngs=rngs, **F64), nnx.Embed(6, WIDTH, rngs=rngs, **F64)
        self.drop, self.ln_f = nnx.Dropout(0.1, rngs=rngs), nnx_norm(rngs=rngs)
        self.h = nnx.List([NnxGPTBlock(rngs=rngs) for _ in range(depth)])

    def __call__(self, ids):
        x = self.drop(self.wte(ids) + self.wpe(jnp.arange(ids.shape[1])))
        for block in self.h:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


class LinenGPTAttention(linen.Module):
    @linen.compact
    def __call__(self, x):
        q, k, v = jnp.split(linen.Dense(3 * WIDTH, name="c_attn", **F64)(x), 3, -1)
        x = attend(q, k, v, linen.make_causal_mask(x[..., 0]))
        return linen.Dropout(0.1, deterministic=True)(linen.Dense(WIDTH, name="c_proj", **F64)(x))


class LinenGPTMlp(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(WIDTH, name="c_proj", **F64)(linen.gelu(linen.Dense(16, name="c_fc", **F64)(x)))


class LinenGPTBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = x + LinenGPTAttention(name="attn")(linen_norm(name="ln_1")(x))
        return x + LinenGPTMlp(name="mlp")(linen_norm(name="ln_2")(x))


class LinenGPT(linen.Module):
    depth: int = 2

    def setup(self):
        self.wte, self.wpe, self.ln_f = linen.Embed(11, WIDTH, **F64), linen.Embed(6, WIDTH, **F64), linen_norm()
        self.h = [LinenGPTBlock() for _ in range(self.depth)]

    def __call__(self, ids):
        x = self.wte(ids) + self.wpe(jnp.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


# --- both once more, their blocks stacked --------------------------------------------------------------------


def nnx_stack(block, depth, rngs):
    @nnx.split_rngs(splits=depth)
    @nnx.vmap
    def make(rngs):
        return block(rngs=rngs)

    return make(rngs)


@nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
def run_stack(block, x):
    return block(x)


class NnxStackedGPT(nnx.Module):
    def __init__(self, depth=3, *, rngs):
        self.wte, self.wpe = nnx.Embed(11, WIDTH, rngs=rngs, **F64), nnx.Embed(6, WIDTH, rngs=rngs, **F64)
        self.blocks, self.ln_f = nnx_stack(NnxGPTBlock, depth, rngs), nnx_norm(rngs=rngs)

    def __call__(self, ids):
        x = self.wte(ids) + self.wpe(jnp.arange(ids.shape[1]))
        return self.wte.attend(self.ln_f(run_stack(self.blocks, x)))


class NnxStackedViT(NnxViT):
    def __init__(self, depth=3, *, rngs):
        super().__init__(0, rngs=rngs)
        self.blocks = nnx.data(nnx_stack(NnxViTBlock, depth, rngs))

    def __call__(self, x):
        return self.head(self.norm(run_stack(self.blocks, self.embed(x)))[:, 0])


def linen_scan(block, depth):
    class Step(block):
        @linen.compact
        def __call__(self, x, _):
            return super().__call__(x), None

    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    return linen.scan(Step, length=depth, **options)


class LinenStackedGPT(linen.Module):
    depth: int = 3

    @linen.compact
    def __call__(self, ids):
        wte, wpe = linen.Embed(11, WIDTH, name="wte", **F64), linen.Embed(6, WIDTH, name="wpe", **F64)
        x = wte(ids) + wpe(jnp.arange(ids.shape[1]))
        x, _ = linen_scan(LinenGPTBlock, self.depth)(name="blocks")(x, None)
        return wte.attend(linen_norm(name="ln_f")(x))


class LinenStackedViT(LinenViT):
    depth: int = 3

    def stack(self):
        return linen_scan(LinenViTBlock, self.depth)()

    def run(self, x):
        return self.blocks(x, None)[0]


# --- 8: BERT -------------------------------------------------------------------------------------------------


def torch_module(**layers):
    """A module that only holds others, as BERT has many."""
    return nn.ModuleDict(layers)


class TorchBertEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Embedding(13, WIDTH, padding_idx=0)
        self.position_embeddings, self.token_type_embeddings = nn.Embedding(6, WIDTH), nn.Embedding(2, WIDTH)
        self.LayerNorm, self.dropout = nn.LayerNorm(WIDTH, eps=1e-12), nn.Dropout(0.1)
        self.register_buffer("position_ids", torch.arange(6).expand((1, -1)))

    def forward(self, ids, types):
        x = self.word_embeddings(ids) + self.token_type_embeddings(types)
        return self.dropout(self.LayerNorm(x + self.position_embeddings(self.position_ids)))


class TorchBertSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x, mask):
        q, k, v = (f(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        scores = scores + (1.0 - mask[:, None, None, :]) * torch.finfo(x.dtype).min
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)


class TorchBertOutput(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = (
            nn.Linear(inputs, WIDTH),
            nn.LayerNorm(WIDTH, eps=1e-12),
            nn.Dropout(),
        )

    def forward(self, x, residual):
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class TorchBertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch_module(self=TorchBertSelfAttention(), output=TorchBertOutput(WIDTH))
        self.intermediate, self.output = torch_module(dense=nn.Linear(WIDTH, 16)), TorchBertOutput(16)

    def forward(self, x, mask):
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class TorchBert(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = TorchBertEmbeddings()
        self.encoder = torch_module(layer=nn.ModuleList([TorchBertLayer() for _ in range(2)]))
        self.pooler = torch_module(dense=nn.Linear(WIDTH, WIDTH))

    def forward(self, ids, types, mask):
        x = self.embeddings(ids, types)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x, torch.tanh(self.pooler["dense"](x[:, 0]))


class NnxBertEmbeddings(nnx.Module):
    def __init__(self, *, rngs):
        embed = partial(nnx.Embed, features=WIDTH, rngs=rngs, **F64)
        self.word_embeddings, self.position_embeddings, self.token_type_embeddings = embed(13), embed(6), embed(2)
        self.LayerNorm = nnx.LayerNorm(WIDTH, epsilon=1e-12, rngs=rngs, **F64)

    def __call__(self, ids, types):
        x = self.word_embeddings(ids) + self.token_type_embeddings(types)
        return self.LayerNorm(x + self.position_embeddings(jnp.arange(ids.shape[1])))


class NnxBertLayer(nnx.Module):
    def __init__(self, *, rngs):
        self.attention, norm = nnx_attention(rngs=rngs), partial(nnx.LayerNorm, WIDTH, epsilon=1e-12, **F64)
        self.norm1, self.norm2 = norm(rngs=rngs), norm(rngs=rngs)
        self.up, self.down = nnx.Linear(WIDTH, 16, rngs=rngs, **F64), nnx.Linear(16, WIDTH, rngs=rngs, **F64)

    def __call__(self, x, mask):
        x = self.norm1(x + self.attention(x, mask=mask))
        return self.norm2(x + self.down(exact_gelu(self.up(x))))


class NnxBert(nnx.Module):
    def __init__(self, *, rngs):
        self.embeddings = NnxBertEmbeddings(rngs=rngs)
        self.layers = nnx.List([NnxBertLayer(rngs=rngs) for _ in range(2)])
        self.pooler = nnx.Linear(WIDTH, WIDTH, rngs=rngs, **F64)

    def __call__(self, ids, types, mask):
        x = self.embeddings(ids, types)
        for layer in self.layers:
            x = layer(x, mask[:, None, None] > 0)
        return x, jnp.tanh(self.pooler(x[:, 0]))


class LinenBertEmbeddings(linen.Module):
    @linen.compact
    def __call__(self, ids, types):
        embed = partial(linen.Embed, features=WIDTH, **F64)
        x = embed(13, name="word_embeddings")(ids) + embed(2, name="token_type_embeddings")(types)
        x = x + embed(6, name="position_embeddings")(jnp.arange(ids.shape[1]))
        return linen.LayerNorm(epsilon=1e-12, name="LayerNorm", **F64)(x)


class LinenBertLayer(linen.Module):
    @linen.compact
    def __call__(self, x, mask):
        norm = partial(linen.LayerNorm, epsilon=1e-12, **F64)
        x = norm(name="norm1")(x + linen_attention(name="attention")(x, mask=mask))
        z = linen.Dense(WIDTH, name="down", **F64)(exact_gelu(linen.Dense(16, name="up", **F64)(x)))
        return norm(name="norm2")(x + z)


class LinenBert(linen.Module):
    def setup(self):
        self.embeddings, self.layers = LinenBertEmbeddings(), [LinenBertLayer() for _ in range(2)]
        self.pooler = linen.Dense(WIDTH, **F64)

    def __call__(self, ids, types, mask):
        x = self.embeddings(ids, types)
        for layer in self.layers:
            x = layer(x, mask[:, None, None] > 0)
        return x, jnp.tanh(self.pooler(x[:, 0]))


BERT_NAMES = {
    "encoder.layer.*.attention.self": "layers/*/attention",
    "encoder.layer.*.attention.output.dense": "layers/*/attention/out",
    "encoder.layer.*.attention.output.LayerNorm": "layers/*/norm1",
    "encoder.layer.*.intermediate.dense": "layers/*/up",
    "encoder.layer.*.output.dense": "layers/*/down",
    "encoder.layer.*.output.LayerNorm": "layers/*/norm2",
    "pooler.dense": "pooler",
}


def bert_inputs(rng):
    lengths = np.array([[6], [4]])
    return [rng.integers(1, 13, (2, 6)), rng.integers(0, 2, (2, 6)), (np.arange(6) < lengths).astype(float)]


# --- 9, 10: torch's own encoder and decoder ------------------------------------------------------------------


class TorchEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)


class TorchTranslator(nn.Module):
    def __init__(self):
        super().__init__()
        self.src_embed, self.tgt_embed = nn.Embedding(7, WIDTH), nn.Embedding(9, WIDTH)
        self.transformer = nn.Transformer(WIDTH, HEADS, 1, 2, 16, batch_first=True)
        self.generator = nn.Linear(WIDTH, 9)

    def forward(self, source, target):
        later = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64)
        x = self.transformer(self.src_embed(source), self.tgt_embed(target), tgt_mask=later)
        return self.generator(x)


class NnxEncoderLayer(nnx.Module):
    def __init__(self, norm_first=False, activation=nnx.relu, *, rngs):
        self.self_attn, self.norm_first, self.activation = nnx_attention(rngs=rngs), norm_first, activation
        self.linear1 = nnx.Linear(WIDTH, 16, rngs=rngs, **F64)
        self.linear2 = nnx.Linear(16, WIDTH, rngs=rngs, **F64)
        self.norm1, self.norm2, self.dropout = nnx_norm(rngs=rngs), nnx_norm(rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def feed(self, x):
        return self.dropout(self.linear2(self.activation(self.linear1(x))))

    def __call__(self, x, mask=None):
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask=mask)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.self_attn(x, mask=mask))
        return self.norm2(x + self.feed(x))


class NnxDecoderLayer(NnxEncoderLayer):
    def __init__(self, *, rngs):
        super().__init__(rngs=rngs)
        self.multihead_attn, self.norm3 = nnx_attention(rngs=rngs), nnx_norm(rngs=rngs)

    def __call__(self, x, memory):
        x = self.norm1(x + self.self_attn(x, mask=linen.make_causal_mask(x[..., 0])))
        x = self.norm2(x + self.multihead_attn(x, memory))
        return self.norm3(x + self.feed(x))


class NnxLayers(nnx.Module):
    def __init__(self, layers, *, rngs):
        self.layers, self.norm = nnx.List([layer(rngs=rngs) for layer in layers]), nnx_norm(rngs=rngs)

    def __call__(self, x, *others):
        for layer in self.layers:
            x = layer(x, *others)
        return self.norm(x)


class NnxEncoder(nnx.Module):
    def __init__(self, *, rngs):
        layer = partial(NnxEncoderLayer, norm_first=True, activation=exact_gelu)
        self.encoder = NnxLayers([layer] * 2, rngs=rngs)

    def __call__(self, x, padding):
        return self.encoder(x, ~padding[:, None, None])


class NnxTransformer(nnx.Module):
    def __init__(self, *, rngs):
        self.encoder = NnxLayers([NnxEncoderLayer], rngs=rngs)
        self.decoder = NnxLayers([NnxDecoderLayer] * 2, rngs=rngs)

    def __call__(self, source, target):
        return self.decoder(target, self.encoder(source))


class NnxTranslator(nnx.Module):
    def __init__(self, *, rngs):
        self.src_embed, self.tgt_embed = nnx.Embed(7, WIDTH, rngs=rngs, **F64), nnx.Embed(9, WIDTH, rngs=rngs, **F64)
        self.transformer, self.generator = NnxTransformer(rngs=rngs), nnx.Linear(WIDTH, 9, rngs=rngs, **F64)

    def __call__(self, source, target):
        return self.generator(self.transformer(self.src_embed(source), self.tgt_embed(target)))


class LinenEncoderLayer(linen.Module):
    norm_first: bool = False
    activation: callable = linen.relu

    def setup(self):
        self.self_attn, self.norm1, self.norm2 = linen_attention(), linen_norm(), linen_norm()
        self.linear1, self.linear2 = linen.Dense(16, **F64), linen.Dense(WIDTH, **F64)

    def feed(self, x):
        return self.linear2(self.activation(self.linear1(x)))

    def __call__(self, x, mask=None):
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask=mask)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.self_attn(x, mask=mask))
        return self.norm2(x + self.feed(x))


class LinenDecoderLayer(LinenEncoderLayer):
    def setup(self):
        super().setup()
        self.multihead_attn, self.norm3 = linen_attention(), linen_norm()

    def __call__(self, x, memory):
        x = self.norm1(x + self.self_attn(x, mask=linen.make_causal_mask(x[..., 0])))
        x = self.norm2(x + self.multihead_attn(x, memory))
        return self.norm3(x + self.feed(x))


class LinenLayers(linen.Module):
    layer: callable
    depth: int

    def setup(self):
        self.layers, self.norm = [self.layer() for _ in range(self.depth)], linen_norm()

    def __call__(self, x, *others):
        for layer in self.layers:
            x = layer(x, *others)
        return self.norm(x)


class LinenEncoder(linen.Module):
    @linen.compact
    def __call__(self, x, padding):
        layer = partial(LinenEncoderLayer, norm_first=True, activation=exact_gelu)
        return LinenLayers(layer, 2, name="encoder")(x, ~padding[:, None, None])


class LinenTransformer(linen.Module):
    @linen.compact
    def __call__(self, source, target):
        memory = LinenLayers(LinenEncoderLayer, 1, name="encoder")(source)
        return LinenLayers(LinenDecoderLayer, 2, name="decoder")(target, memory)


class LinenTranslator(linen.Module):
    @linen.compact
    def __call__(self, source, target):
        source = linen.Embed(7, WIDTH, name="src_embed", **F64)(source)
        target = linen.Embed(9, WIDTH, name="tgt_embed", **F64)(target)
        return linen.Dense(9, name="generator", **F64)(LinenTransformer(name="transformer")(source, target))


# --- 11: Swin, two blocks of 2 by 2 windows, the second one shifted ------------------------------------------

SIDE, WINDOW, SHIFT = 4, 2, 1


def relative_position_index():
    at = np.stack(np.meshgrid(np.arange(WINDOW), np.arange(WINDOW), indexing="ij")).reshape(2, -1)
    away = (at[:, :, None] - at[:, None]).transpose(1, 2, 0) + WINDOW - 1
    return away[..., 0] * (2 * WINDOW - 1) + away[..., 1]


def shift_mask():
    """-100 between positions of a shifted window that are no neighbours, (windows, N, N)."""
    region = np.zeros((1, SIDE, SIDE, 1))
    cuts = slice(0, -WINDOW), slice(-WINDOW, -SHIFT), slice(-SHIFT, None)
    for number, (rows, columns) in enumerate((rows, columns) for rows in cuts for columns in cuts):
        region[:, rows, columns] = number
    region = to_windows(region)[..., 0]
    return np.where(region[:, None] == region[:, :, None], 0.0, -100.0)


def to_windows(x):
    b, h, w, c = x.shape
    x = x.reshape(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c)
    x = x.permute(0, 1, 3, 2, 4, 5) if isinstance(x, torch.Tensor) else x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, WINDOW * WINDOW, c)


def from_windows(x):
    n = SIDE // WINDOW
    x = x.reshape(-1, n, n, WINDOW, WINDOW, x.shape[-1])
    x = x.permute(0, 1, 3, 2, 4, 5) if isinstance(x, torch.Tensor) else x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, SIDE, SIDE, x.shape[-1])


class TorchWindowAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, HEADS))
        self.register_buffer("relative_position_index", torch.from_numpy(relative_position_index()))
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, mask):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        scores = q * (c // HEADS) ** -0.5 @ k.transpose(-2, -1)
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            scores = scores.view(-1, len(mask), HEADS, n, n) + mask[:, None]
        weights = scores.view(b, HEADS, n, n).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class TorchSwinBlock(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.norm1, self.attn, self.shift = nn.LayerNorm(WIDTH), TorchWindowAttention(), shift
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), TorchMlp()
        self.register_buffer("attn_mask", torch.from_numpy(shift_mask()) if shift else None)

    def forward(self, x):
        z = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        z = from_windows(self.attn(to_windows(z), self.attn_mask))
        x = x + torch.roll(z, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class TorchPatchMerging(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * WIDTH, 2 * WIDTH, bias=False), nn.LayerNorm(4 * WIDTH)

    def forward(self, x):
        parts = x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class TorchSwin(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = TorchPatchEmbed()
        self.blocks = nn.ModuleList([TorchSwinBlock(0), TorchSwinBlock(SHIFT)])
        self.downsample, self.head = TorchPatchMerging(), nn.Linear(2 * WIDTH, 3)

    def forward(self, x):
        x = self.patch_embed(x).view(-1, SIDE, SIDE, WIDTH)
        for block in self.blocks:
            x = block(x)
        return self.head(self.downsample(x).mean((1, 2)))


def window_attention(qkv, table, mask):
    """Scores from packed projections (windows, N, 3 width), with the bias of relative positions."""
    q, k, v = (jnp.moveaxis(split_heads(z), 2, 1) for z in jnp.split(qkv, 3, -1))
    b, n = q.shape[0], q.shape[2]
    scores = q * (WIDTH // HEADS) ** -0.5 @ k.mT + jnp.moveaxis(table[relative_position_index()], -1, 0)
    if mask is not None:
        scores = (scores.reshape(-1, len(mask), HEADS, n, n) + mask[:, None]).reshape(b, HEADS, n, n)
    return jnp.moveaxis(jax.nn.softmax(scores) @ v, 1, 2).reshape(b, n, WIDTH)


class NnxWindowAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.relative_position_bias_table = nnx.Param(jnp.zeros(((2 * WINDOW - 1) ** 2, HEADS)))
        self.qkv = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs, **F64)
        self.proj = nnx.Linear(WIDTH, WIDTH, rngs=rngs, **F64)

    def __call__(self, x, mask):
        return self.proj(window_attention(self.qkv(x), self.relative_position_bias_table[...], mask))


class NnxSwinBlock(nnx.Module):
    def __init__(self, shift, *, rngs):
        self.norm1, self.attn, self.shift = nnx_norm(rngs=rngs), NnxWindowAttention(rngs=rngs), shift
        self.norm2, self.mlp = nnx_norm(rngs=rngs), NnxMlp(rngs=rngs)

    def __call__(self, x):
        z = to_windows(jnp.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2)))
        z = from_windows(self.attn(z, shift_mask() if self.shift else None))
        x = x + jnp.roll(z, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


def merged(x):
    parts = x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]
    return jnp.concatenate(parts, -1)


class NnxPatchMerging(nnx.Module):
    def __init__(self, *, rngs):
        self.reduction = nnx.Linear(4 * WIDTH, 2 * WIDTH, use_bias=False, rngs=rngs, **F64)
        self.norm = nnx.LayerNorm(4 * WIDTH, epsilon=1e-5, rngs=rngs, **F64)

    def __call__(self, x):
        return self.reduction(self.norm(merged(x)))


class NnxSwin(nnx.Module):
    def __init__(self, *, rngs):
        self.patch_embed, self.downsample = NnxPatchEmbed(rngs=rngs), NnxPatchMerging(rngs=rngs)
        self.blocks = nnx.List([NnxSwinBlock(0, rngs=rngs), NnxSwinBlock(SHIFT, rngs=rngs)])
        self.head = nnx.Linear(2 * WIDTH, 3, rngs=rngs, **F64)

    def __call__(self, x):
        x = self.patch_embed(x).reshape(-1, SIDE, SIDE, WIDTH)
        for block in self.blocks:
            x = block(x)
        return self.head(self.downsample(x).mean((1, 2)))


class LinenWindowAttention(linen.Module):
    @linen.compact
    def __call__(self, x, mask):
        shape = (2 * WINDOW - 1) ** 2, HEADS
        table = self.param("relative_position_bias_table", linen.initializers.zeros, shape, jnp.float64)
        x = window_attention(linen.Dense(3 * WIDTH, name="qkv", **F64)(x), table, mask)
        return linen.Dense(WIDTH, name="proj", **F64)(x)


class LinenSwinBlock(linen.Module):
    shift: int

    @linen.compact
    def __call__(self, x):
        z = to_windows(jnp.roll(linen_norm(name="norm1")(x), (-self.shift, -self.shift), (1, 2)))
        z = from_windows(LinenWindowAttention(name="attn")(z, shift_mask() if self.shift else None))
        x = x + jnp.roll(z, (self.shift, self.shift), (1, 2))
        return x + LinenMlp(name="mlp")(linen_norm(name="norm2")(x))


class LinenPatchMerging(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen_norm(name="norm")(merged(x))
        return linen.Dense(2 * WIDTH, use_bias=False, name="reduction", **F64)(x)


class LinenSwin(linen.Module):
    def setup(self):
        self.patch_embed, self.downsample, self.head = LinenPatchEmbed(), LinenPatchMerging(), linen.Dense(3, **F64)
        self.blocks = [LinenSwinBlock(0), LinenSwinBlock(SHIFT)]

    def __call__(self, x):
        x = self.patch_embed(x).reshape(-1, SIDE, SIDE, WIDTH)
        for block in self.blocks:
            x = block(x)
        return self.head(self.downsample(x).mean((1, 2)))


# --- 19: ALBERT, one layer used three times ------------------------------------------------------------------


class TorchAlbertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.LayerNorm = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.LayerNorm(WIDTH)
        self.ffn, self.ffn_output = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.full_layer_layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        x = self.LayerNorm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.full_layer_layer_norm(x + self.ffn_output(F.gelu(self.ffn(x))))


class TorchAlbert(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings, self.embedding_hidden_mapping_in = nn.Embedding(9, 4), nn.Linear(4, WIDTH)
        shared = TorchAlbertLayer()
        self.layers = nn.ModuleList([shared, shared, shared])

    def forward(self, ids):
        x = self.embedding_hidden_mapping_in(self.word_embeddings(ids))
        for layer in self.layers:
            x = layer(x)
        return x


class NnxAlbertLayer(nnx.Module):
    def __init__(self, *, rngs):
        self.attention, self.LayerNorm = nnx_attention(rngs=rngs), nnx_norm(rngs=rngs)
        self.ffn = nnx.Linear(WIDTH, 16, rngs=rngs, **F64)
        self.ffn_output = nnx.Linear(16, WIDTH, rngs=rngs, **F64)
        self.full_layer_layer_norm = nnx_norm(rngs=rngs)

    def __call__(self, x):
        x = self.LayerNorm(x + self.attention(x))
        return self.full_layer_layer_norm(x + self.ffn_output(exact_gelu(self.ffn(x))))


class NnxAlbert(nnx.Module):
    def __init__(self, *, rngs):
        self.word_embeddings = nnx.Embed(9, 4, rngs=rngs, **F64)
        self.embedding_hidden_mapping_in = nnx.Linear(4, WIDTH, rngs=rngs, **F64)
        self.layer = NnxAlbertLayer(rngs=rngs)

    def __call__(self, ids):
        x = self.embedding_hidden_mapping_in(self.word_embeddings(ids))
        for _ in range(3):
            x = self.layer(x)
        return x


class LinenAlbertLayer(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen_norm(name="LayerNorm")(x + linen_attention(name="attention")(x))
        z = linen.Dense(WIDTH, name="ffn_output", **F64)(exact_gelu(linen.Dense(16, name="ffn", **F64)(x)))
        return linen_norm(name="full_layer_layer_norm")(x + z)


class LinenAlbert(linen.Module):
    @linen.compact
    def __call__(self, ids):
        x = linen.Embed(9, 4, name="word_embeddings", **F64)(ids)
        x = linen.Dense(WIDTH, name="embedding_hidden_mapping_in", **F64)(x)
        layer = LinenAlbertLayer(name="layer")
        for _ in range(3):
            x = layer(x)
        return x


# --- 20: LoRA ------------------------------------------------------------------------------------------------


class TorchLoRALinear(nn.Linear):
    """A linear layer with an adapter, as a subclass."""

    def __init__(self, inputs, outputs, rank=2):
        super().__init__(inputs, outputs)
        self.lora_A = nn.Parameter(torch.randn(rank, inputs))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        return super().forward(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * 0.5


class TorchProjections(nn.Module):
    """Attention and its output; adapters stand at q and v."""

    def __init__(self, adapted=nn.Linear):
        super().__init__()
        self.q_proj, self.v_proj = adapted(WIDTH, WIDTH), adapted(WIDTH, WIDTH)
        self.k_proj, self.o_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return x + self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TorchLayers(nn.Module):
    def __init__(self, adapted=nn.Linear):
        super().__init__()
        self.layers = nn.ModuleList([TorchProjections(adapted), TorchProjections(adapted)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class NnxProjections(nnx.Module):
    def __init__(self, adapted, *, rngs):
        self.q_proj, self.v_proj = adapted(WIDTH, WIDTH, rngs=rngs, **F64), adapted(WIDTH, WIDTH, rngs=rngs, **F64)
        self.k_proj = nnx.Linear(WIDTH, WIDTH, rngs=rngs, **F64)
        self.o_proj = nnx.Linear(WIDTH, WIDTH, rngs=rngs, **F64)

    def __call__(self, x):
        return x + self.o_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x)))


class NnxAdapted(nnx.Module):
    def __init__(self, adapted, *, rngs):
        self.layers = nnx.List([NnxProjections(adapted, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class NnxLoRALinear(nnx.Linear):
    """The torch subclass, in NNX."""

    def __init__(self, inputs, outputs, *, rngs, **options):
        super().__init__(inputs, outputs, rngs=rngs, **options)
        self.lora_A, self.lora_B = nnx.Param(jnp.zeros((2, inputs))), nnx.Param(jnp.zeros((outputs, 2)))

    def __call__(self, x):
        return super().__call__(x) + x @ self.lora_A[...].T @ self.lora_B[...].T * 0.5


class LinenLoRALinear(linen.Dense):
    """The same in Linen."""

    @linen.compact
    def __call__(self, x):
        a = self.param("lora_A", linen.initializers.zeros, (2, x.shape[-1]), jnp.float64)
        b = self.param("lora_B", linen.initializers.zeros, (self.features, 2), jnp.float64)
        return super().__call__(x) + x @ a.T @ b.T * 0.5


class LinenAdapter(linen.Module):
    """nnx.LoRA's arrays: the second one starts at zero."""

    outputs: int

    @linen.compact
    def __call__(self, x):
        a = self.param("lora_a", linen.initializers.he_uniform(), (x.shape[-1], 2), jnp.float64)
        return x @ a @ self.param("lora_b", linen.initializers.zeros, (2, self.outputs), jnp.float64)


class LinenDenseWithAdapter(linen.Dense):
    @linen.compact
    def __call__(self, x):
        return super().__call__(x) + LinenAdapter(self.features, name="lora")(x)


class LinenProjections(linen.Module):
    adapted: callable

    @linen.compact
    def __call__(self, x):
        q, v = self.adapted(WIDTH, name="q_proj", **F64)(x), self.adapted(WIDTH, name="v_proj", **F64)(x)
        k = linen.Dense(WIDTH, name="k_proj", **F64)(x)
        return x + linen.Dense(WIDTH, name="o_proj", **F64)(attend(q, k, v))


class LinenAdapted(linen.Module):
    adapted: callable

    def setup(self):
        self.layers = [LinenProjections(self.adapted) for _ in range(2)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


# --- 22: a mixture of four experts, two a token --------------------------------------------------------------


class TorchExperts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(WIDTH, 4, bias=False), nn.ModuleList([TorchMlp() for _ in range(4)])

    def forward(self, x):  # (tokens, width)
        best, chosen = self.gate(x).topk(2)
        weights, result = best.softmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            result.index_add_(0, token, weights[token, place, None] * expert(x[token]))
        return result


def mixed(scores, outputs):
    """Scores (tokens, experts), outputs (experts, tokens, width)."""
    best, chosen = jax.lax.top_k(scores, 2)
    weights = (jax.nn.one_hot(chosen, 4, dtype=scores.dtype) * jax.nn.softmax(best)[..., None]).sum(1)
    return jnp.einsum("te,etw->tw", weights, outputs)


class NnxExperts(nnx.Module):
    def __init__(self, *, rngs):
        self.gate = nnx.Linear(WIDTH, 4, use_bias=False, rngs=rngs, **F64)
        self.experts = nnx_stack(NnxMlp, 4, rngs)

    def __call__(self, x):
        outputs = nnx.vmap(lambda expert, x: expert(x), in_axes=(0, None))(self.experts, x)
        return mixed(self.gate(x), outputs)


class LinenExperts(linen.Module):
    @linen.compact
    def __call__(self, x):
        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": None, "axis_size": 4}
        outputs = linen.vmap(LinenMlp, **options)(name="experts")(x)
        return mixed(linen.Dense(4, use_bias=False, name="gate", **F64)(x), outputs)


# --- 29: MLP-Mixer -------------------------------------------------------------------------------------------


class TorchMixerBlock(nn.Module):
    def __init__(self, patches=4):
        super().__init__()
        self.norm1, self.mlp_tokens = nn.LayerNorm(WIDTH), TorchMlp(patches, 6)
        self.norm2, self.mlp_channels = nn.LayerNorm(WIDTH), TorchMlp()

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class TorchMixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = TorchPatchEmbed(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.Sequential(TorchMixerBlock(), TorchMixerBlock())

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


class NnxMixerBlock(nnx.Module):
    def __init__(self, patches=4, *, rngs):
        self.norm1, self.mlp_tokens = nnx_norm(rngs=rngs), NnxMlp(patches, 6, rngs=rngs)
        self.norm2, self.mlp_channels = nnx_norm(rngs=rngs), NnxMlp(rngs=rngs)

    def __call__(self, x):
        x = x + self.mlp_tokens(self.norm1(x).mT).mT
        return x + self.mlp_channels(self.norm2(x))


class NnxMixer(nnx.Module):
    def __init__(self, *, rngs):
        self.stem, self.norm = NnxPatchEmbed(rngs=rngs), nnx_norm(rngs=rngs)
        self.blocks = nnx.Sequential(NnxMixerBlock(rngs=rngs), NnxMixerBlock(rngs=rngs))
        self.head = nnx.Linear(WIDTH, 3, rngs=rngs, **F64)

    def __call__(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


class LinenMixerBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = x + LinenMlp(6, name="mlp_tokens")(linen_norm(name="norm1")(x).mT).mT
        return x + LinenMlp(name="mlp_channels")(linen_norm(name="norm2")(x))


class LinenMixer(linen.Module):
    def setup(self):
        self.stem, self.norm, self.head = LinenPatchEmbed(), linen_norm(), linen.Dense(3, **F64)
        self.blocks = linen.Sequential([LinenMixerBlock(), LinenMixerBlock()])

    def __call__(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


VIT = {
    "names": {"blocks.*.attn.qkv": "blocks/*/attn", "blocks.*.attn.proj": "blocks/*/attn/out"},
    "treat_as": {"blocks.*.attn.qkv": "qkv"},
}
VIT_STACKED = VIT | {
    "names": {"blocks.*": "blocks", "blocks.*.attn.qkv": "blocks/attn", "blocks.*.attn.proj": "blocks/attn/out"}
}
GPT = {"treat_as": {"h.*.*.c_*": "Conv1D"}, "ignore": ("h.*.attn.bias",), "twice": ("lm_head.weight",)}


def padded(rng):
    return [rng.normal(size=(2, 5, WIDTH)), np.arange(5) >= np.array([[5], [3]])]


STRUCTURES = {
    "ViT": Structure(TorchViT, NnxViT, LinenViT(), images(2, 3, 8, 8), images=(0,), **VIT),
    "ViT, stacked": Structure(
        lambda: TorchViT(3), NnxStackedViT, LinenStackedViT(), images(2, 3, 8, 8), images=(0,), **VIT_STACKED
    ),
    "GPT-2": Structure(TorchGPT, NnxGPT, LinenGPT(), tokens(11, 2, 6), **GPT),
    "GPT-2, stacked": Structure(
        lambda: TorchGPT(3), NnxStackedGPT, LinenStackedGPT(), tokens(11, 2, 6), names={"h.*": "blocks"}, **GPT
    ),
    "BERT": Structure(
        TorchBert, NnxBert, LinenBert(), bert_inputs, names=BERT_NAMES, ignore=("embeddings.position_ids",)
    ),
    "nn.TransformerEncoder": Structure(TorchEncoder, NnxEncoder, LinenEncoder(), padded),
    "nn.Transformer": Structure(
        TorchTranslator, NnxTranslator, LinenTranslator(),
        lambda rng: [rng.integers(0, 7, (2, 5)), rng.integers(0, 9, (2, 4))],
    ),
    "Swin": Structure(
        TorchSwin, NnxSwin, LinenSwin(), images(2, 3, 16, 16), images=(0,),
        ignore=("blocks.*.attn.relative_position_index", "blocks.*.attn_mask"),
    ),
    "ALBERT": Structure(
        TorchAlbert, NnxAlbert, LinenAlbert(), tokens(9, 2, 5), names={"layers.0": "layer"},
        twice=("layers.1", "layers.2"),
    ),
    "LoRA on a torch model": Structure(
        TorchLayers, partial(NnxAdapted, partial(nnx.LoRALinear, lora_rank=2, lora_param_dtype=jnp.float64)),
        LinenAdapted(LinenDenseWithAdapter), images(2, 5, WIDTH), keep=("layers/*/*/lora",),
    ),
    "LoRA in torch": Structure(
        lambda: TorchLayers(TorchLoRALinear), partial(NnxAdapted, NnxLoRALinear), LinenAdapted(LinenLoRALinear),
        images(2, 5, WIDTH), treat_as={"layers.*.q_proj": "Linear", "layers.*.v_proj": "Linear"},
    ),
    "mixture of experts": Structure(
        TorchExperts, NnxExperts, LinenExperts(), images(6, WIDTH), names={"experts.*": "experts"}
    ),
    "MLP-Mixer": Structure(TorchMixer, NnxMixer, LinenMixer(), images(2, 3, 8, 8), images=(0,)),
}  # fmt: skip
