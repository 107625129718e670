"""Models that make or judge images: autoencoders, a pair of adversaries, a step of diffusion, a critic."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from flax import linen, nnx
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.structures.convolutions import flatten_as_torch, linen_layers
from tests.structures.structure import F64, Structure, exact_attention, images


def leaky(x):
    return jax.nn.leaky_relu(x, 0.2)


# --- 15: an autoencoder --------------------------------------------------------------------------------------


class TorchAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
            nn.Conv2d(4, 1, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return self.decoder(self.encoder(x))


UP = {"strides": (2, 2), "padding": ((1, 2), (1, 2))}  # 3 - 1 - 1, and one more at the end


class NnxAutoencoder(nnx.Module):
    def __init__(self, *, rngs):
        down = partial(nnx.Conv, kernel_size=(3, 3), strides=2, padding=1, rngs=rngs, **F64)
        up = partial(nnx.ConvTranspose, kernel_size=(3, 3), rngs=rngs, **UP, **F64)
        last = nnx.Conv(4, 1, (1, 1), rngs=rngs, **F64)
        self.encoder = nnx.Sequential(down(1, 4), nnx.relu, down(4, 6))
        self.decoder = nnx.Sequential(up(6, 4), nnx.relu, up(4, 4), nnx.relu, last, nnx.sigmoid)

    def __call__(self, x):
        return self.decoder(self.encoder(x))


class LinenAutoencoder(linen.Module):
    def setup(self):
        down = partial(linen.Conv, kernel_size=(3, 3), strides=2, padding=1, **F64)
        up, relu = partial(linen.ConvTranspose, kernel_size=(3, 3), **UP, **F64), linen.relu
        self.encoder = linen.Sequential([down(4), relu, down(6)])
        self.decoder = linen.Sequential([up(4), relu, up(4), relu, linen.Conv(1, (1, 1), **F64), linen.sigmoid])

    def __call__(self, x):
        return self.decoder(self.encoder(x))


# --- 27: VAE, its noise an input -----------------------------------------------------------------------------


class TorchVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(9, 6), nn.Linear(6, 2), nn.Linear(6, 2)
        self.fc3, self.fc4 = nn.Linear(2, 6), nn.Linear(6, 9)

    def forward(self, x, noise):
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + noise * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


class NnxVAE(nnx.Module):
    def __init__(self, *, rngs):
        linear = partial(nnx.Linear, rngs=rngs, **F64)
        self.fc1, self.fc21, self.fc22, self.fc3, self.fc4 = (
            linear(9, 6), linear(6, 2), linear(6, 2), linear(2, 6), linear(6, 9),
        )  # fmt: skip

    def __call__(self, x, noise):
        h = nnx.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + noise * jnp.exp(0.5 * logvar)
        return nnx.sigmoid(self.fc4(nnx.relu(self.fc3(z)))), mu, logvar


class LinenVAE(linen.Module):
    @linen.compact
    def __call__(self, x, noise):
        dense = partial(linen.Dense, **F64)
        h = linen.relu(dense(6, name="fc1")(x))
        mu, logvar = dense(2, name="fc21")(h), dense(2, name="fc22")(h)
        h = linen.relu(dense(6, name="fc3")(mu + noise * jnp.exp(0.5 * logvar)))
        return linen.sigmoid(dense(9, name="fc4")(h)), mu, logvar


# --- 28: a generator and its discriminator -------------------------------------------------------------------


class TorchGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(5, 4, 4, 1, 0, bias=False), nn.BatchNorm2d(4), nn.ReLU(True),
            nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(True),
            nn.ConvTranspose2d(3, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z):
        return self.main(z)


class TorchDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 3, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(3, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return self.main(x).view(-1)


class TorchGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.netG, self.netD = TorchGenerator(), TorchDiscriminator()

    def forward(self, z, real):
        fake = self.netG(z)
        return fake, self.netD(real), self.netD(fake)


class NnxGenerator(nnx.Module):
    def __init__(self, *, rngs):
        up = partial(nnx.ConvTranspose, kernel_size=(4, 4), use_bias=False, rngs=rngs, **F64)
        norm, two = partial(nnx.BatchNorm, momentum=0.9, rngs=rngs, **F64), {"strides": (2, 2), "padding": 2}
        self.main = nnx.Sequential(
            up(5, 4, padding="VALID"), norm(4), nnx.relu, up(4, 3, **two), norm(3), nnx.relu, up(3, 1, **two), jnp.tanh
        )

    def __call__(self, z):
        return self.main(z)


class NnxDiscriminator(nnx.Module):
    def __init__(self, *, rngs):
        conv = partial(nnx.Conv, kernel_size=(4, 4), use_bias=False, rngs=rngs, **F64)
        norm, two = nnx.BatchNorm(4, momentum=0.9, rngs=rngs, **F64), {"strides": 2, "padding": 1}
        last = conv(4, 1, padding="VALID")
        self.main = nnx.Sequential(conv(1, 3, **two), leaky, conv(3, 4, **two), norm, leaky, last, nnx.sigmoid)

    def __call__(self, x):
        return self.main(x).reshape(-1)


class NnxGAN(nnx.Module):
    def __init__(self, *, rngs):
        self.netG, self.netD = NnxGenerator(rngs=rngs), NnxDiscriminator(rngs=rngs)

    def __call__(self, z, real):
        fake = self.netG(z)
        return fake, self.netD(real), self.netD(fake)


class LinenGenerator(linen.Module):
    train: bool

    def setup(self):
        up = partial(linen.ConvTranspose, kernel_size=(4, 4), use_bias=False, **F64)
        norm, two, relu = linen_layers(self.train)[1], {"strides": (2, 2), "padding": 2}, linen.relu
        first = up(4, padding="VALID")
        self.main = linen.Sequential([first, norm(), relu, up(3, **two), norm(), relu, up(1, **two), jnp.tanh])

    def __call__(self, z):
        return self.main(z)


class LinenDiscriminator(linen.Module):
    train: bool

    def setup(self):
        conv = partial(linen.Conv, kernel_size=(4, 4), use_bias=False, **F64)
        norm, two = linen_layers(self.train)[1], {"strides": 2, "padding": 1}
        last = conv(1, padding="VALID")
        self.main = linen.Sequential([conv(3, **two), leaky, conv(4, **two), norm(), leaky, last, linen.sigmoid])

    def __call__(self, x):
        return self.main(x).reshape(-1)


class LinenGAN(linen.Module):
    train: bool = False

    def setup(self):
        self.netG, self.netD = LinenGenerator(self.train), LinenDiscriminator(self.train)

    def __call__(self, z, real):
        fake = self.netG(z)
        return fake, self.netD(real), self.netD(fake)


# --- 23: a small U-Net of diffusion --------------------------------------------------------------------------

CHANNELS, TIME = 8, 12


def frequencies():
    return [math.exp(-math.log(10_000) * k / 4) for k in range(4)]


class TorchTimeEmbedding(nn.Module):
    def forward(self, t):
        angles = t[:, None] * torch.tensor(frequencies(), dtype=t.dtype)
        return torch.cat([angles.sin(), angles.cos()], -1)


class TorchResnetBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(TIME, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(2, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x, t):
        z = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(t))[:, :, None, None]
        z = self.conv2(F.silu(self.norm2(z)))
        return z + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class TorchSpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(2, CHANNELS), nn.Conv2d(CHANNELS, 3 * CHANNELS, 1)
        self.proj_out = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
        z = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(z)


class TorchDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time_mlp = nn.Sequential(TorchTimeEmbedding(), nn.Linear(8, TIME), nn.SiLU(), nn.Linear(TIME, TIME))
        self.conv_in, self.down = nn.Conv2d(3, 4, 3, padding=1), TorchResnetBlock(4, CHANNELS)
        self.downsample, self.attention = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), TorchSpatialAttention()
        self.mid, self.up = TorchResnetBlock(CHANNELS, CHANNELS), TorchResnetBlock(2 * CHANNELS, 4)
        self.upsample = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))
        self.norm_out, self.conv_out = nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x, t):
        t = self.time_mlp(t)
        skip = self.down(self.conv_in(x), t)
        x = self.mid(self.attention(self.downsample(skip)), t)
        x = self.up(torch.cat([self.upsample(x), skip], 1), t)
        return self.conv_out(F.silu(self.norm_out(x)))


def time_embedding(t):
    angles = t[:, None] * jnp.array(frequencies())
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def enlarge(x):
    return x.repeat(2, 1).repeat(2, 2)


def attend_in_space(qkv):
    q, k, v = jnp.split(qkv.reshape(len(qkv), -1, 1, qkv.shape[-1]), 3, -1)
    return exact_attention(q, k, v).reshape(*qkv.shape[:3], -1)


class NnxResnetBlock(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        norm = partial(nnx.GroupNorm, num_groups=2, epsilon=1e-5, rngs=rngs, **F64)
        conv = partial(nnx.Conv, rngs=rngs, **F64)
        self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs, (3, 3))
        self.time_emb_proj = nnx.Linear(TIME, outputs, rngs=rngs, **F64)
        self.norm2, self.conv2 = norm(outputs), conv(outputs, outputs, (3, 3))
        self.conv_shortcut = conv(inputs, outputs, (1, 1)) if inputs != outputs else None

    def __call__(self, x, t):
        z = self.conv1(nnx.silu(self.norm1(x))) + self.time_emb_proj(nnx.silu(t))[:, None, None]
        z = self.conv2(nnx.silu(self.norm2(z)))
        return z + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class NnxSpatialAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.GroupNorm(CHANNELS, 2, epsilon=1e-5, rngs=rngs, **F64)
        self.qkv = nnx.Conv(CHANNELS, 3 * CHANNELS, (1, 1), rngs=rngs, **F64)
        self.proj_out = nnx.Conv(CHANNELS, CHANNELS, (1, 1), rngs=rngs, **F64)

    def __call__(self, x):
        return x + self.proj_out(attend_in_space(self.qkv(self.norm(x))))


class NnxDenoiser(nnx.Module):
    def __init__(self, *, rngs):
        conv, block = partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs, **F64), partial(NnxResnetBlock, rngs=rngs)
        one, two = nnx.Linear(8, TIME, rngs=rngs, **F64), nnx.Linear(TIME, TIME, rngs=rngs, **F64)
        self.time_mlp = nnx.Sequential(time_embedding, one, nnx.silu, two)
        self.conv_in, self.down = conv(3, 4), block(4, CHANNELS)
        self.downsample = conv(CHANNELS, CHANNELS, strides=2, padding=1)
        self.attention, self.mid, self.up = NnxSpatialAttention(rngs=rngs), block(CHANNELS, CHANNELS), block(16, 4)
        self.upsample = nnx.Sequential(enlarge, conv(CHANNELS, CHANNELS))
        self.norm_out, self.conv_out = nnx.GroupNorm(4, 2, epsilon=1e-5, rngs=rngs, **F64), conv(4, 3)

    def __call__(self, x, t):
        t = self.time_mlp(t)
        skip = self.down(self.conv_in(x), t)
        x = self.mid(self.attention(self.downsample(skip)), t)
        x = self.up(jnp.concatenate([self.upsample(x), skip], -1), t)
        return self.conv_out(nnx.silu(self.norm_out(x)))


linen_group_norm = partial(linen.GroupNorm, 2, epsilon=1e-5, **F64)


class LinenResnetBlock(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x, t):
        conv = partial(linen.Conv, self.outputs, **F64)
        z = conv((3, 3), name="conv1")(linen.silu(linen_group_norm(name="norm1")(x)))
        z = z + linen.Dense(self.outputs, name="time_emb_proj", **F64)(linen.silu(t))[:, None, None]
        z = conv((3, 3), name="conv2")(linen.silu(linen_group_norm(name="norm2")(z)))
        return z + (x if x.shape[-1] == self.outputs else conv((1, 1), name="conv_shortcut")(x))


class LinenSpatialAttention(linen.Module):
    @linen.compact
    def __call__(self, x):
        qkv = linen.Conv(3 * CHANNELS, (1, 1), name="qkv", **F64)(linen_group_norm(name="norm")(x))
        return x + linen.Conv(CHANNELS, (1, 1), name="proj_out", **F64)(attend_in_space(qkv))


class LinenDenoiser(linen.Module):
    def setup(self):
        conv, dense = partial(linen.Conv, kernel_size=(3, 3), **F64), partial(linen.Dense, TIME, **F64)
        self.time_mlp = linen.Sequential([time_embedding, dense(), linen.silu, dense()])
        self.conv_in, self.down = conv(4), LinenResnetBlock(CHANNELS)
        self.downsample = conv(CHANNELS, strides=2, padding=1)
        self.attention, self.mid, self.up = LinenSpatialAttention(), LinenResnetBlock(CHANNELS), LinenResnetBlock(4)
        self.upsample = linen.Sequential([enlarge, conv(CHANNELS)])
        self.norm_out, self.conv_out = linen_group_norm(), conv(3)

    def __call__(self, x, t):
        t = self.time_mlp(t)
        skip = self.down(self.conv_in(x), t)
        x = self.mid(self.attention(self.downsample(skip)), t)
        x = self.up(jnp.concatenate([self.upsample(x), skip], -1), t)
        return self.conv_out(linen.silu(self.norm_out(x)))


# --- 32: a critic, its spectral norm removed -----------------------------------------------------------------


class TorchCritic(nn.Module):
    def __init__(self):
        super().__init__()
        norm = parametrizations.spectral_norm
        self.net = nn.Sequential(
            norm(nn.Conv2d(1, 3, 3, 1, 1)), nn.LeakyReLU(0.2), norm(nn.Conv2d(3, 3, 4, 2, 1)), nn.LeakyReLU(0.2)
        )
        self.fc = norm(nn.Linear(3 * 3 * 3, 1))

    def forward(self, x):
        return self.fc(self.net(x).flatten(1))


def torch_critic():
    critic = TorchCritic().eval()  # in training mode every look at a weight is a step of the power iteration
    for layer in (critic.net[0], critic.net[2], critic.fc):
        parametrize.remove_parametrizations(layer, "weight")
    return critic


class NnxCritic(nnx.Module):
    def __init__(self, *, rngs):
        one = nnx.Conv(1, 3, (3, 3), padding=1, rngs=rngs, **F64)
        two = nnx.Conv(3, 3, (4, 4), strides=2, padding=1, rngs=rngs, **F64)
        self.net, self.fc = nnx.Sequential(one, leaky, two, leaky), nnx.Linear(27, 1, rngs=rngs, **F64)

    def __call__(self, x):
        return self.fc(flatten_as_torch(self.net(x)))


class LinenCritic(linen.Module):
    def setup(self):
        one, two = linen.Conv(3, (3, 3), padding=1, **F64), linen.Conv(3, (4, 4), 2, padding=1, **F64)
        self.net, self.fc = linen.Sequential([one, leaky, two, leaky]), linen.Dense(1, **F64)

    def __call__(self, x):
        return self.fc(flatten_as_torch(self.net(x)))


STRUCTURES = {
    "autoencoder": Structure(
        TorchAutoencoder, NnxAutoencoder, LinenAutoencoder(), images(2, 1, 8, 8), images=(0,), image_outputs=(0,)
    ),
    "VAE": Structure(TorchVAE, NnxVAE, LinenVAE(), lambda rng: [rng.normal(size=(3, 9)), rng.normal(size=(3, 2))]),
    "GAN": Structure(
        TorchGAN, NnxGAN, LinenGAN(), lambda rng: [rng.normal(size=(3, 5, 1, 1)), rng.normal(size=(3, 1, 16, 16))],
        images=(0, 1), image_outputs=(0,),
    ),
    "diffusion": Structure(
        TorchDenoiser, NnxDenoiser, LinenDenoiser(),
        lambda rng: [rng.normal(size=(2, 3, 8, 8)), rng.uniform(0, 1000, 2)], images=(0,), image_outputs=(0,),
    ),
    "spectral norm, removed": Structure(torch_critic, NnxCritic, LinenCritic(), images(2, 1, 6, 6), images=(0,)),
}  # fmt: skip
