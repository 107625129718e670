"""Convolutional networks: residual, inverted, depthwise, with skips, dilated and causal, over points."""

from functools import partial

import jax.numpy as jnp
import torch
import torch.nn.functional as F
from flax import linen, nnx
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.structures.structure import F64, Structure, images

# --- 1, 2: ResNet and ResNeXt --------------------------------------------------------------------------------


class TorchBasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        z = F.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(z))
        return F.relu(z + (x if self.downsample is None else self.downsample(x)))


class TorchBottleneck(nn.Module):
    def __init__(self, inputs, outputs, stride=1, groups=2):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        z = self.relu(self.bn1(self.conv1(x)))
        z = self.relu(self.bn2(self.conv2(z)))
        z = self.bn3(self.conv3(z))
        return self.relu(z + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(block(4, 4), block(4, 4))
        self.layer2 = nn.Sequential(block(4, 8, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


def nnx_conv_norm(inputs, outputs, kernel, rngs, **options):
    conv = nnx.Conv(inputs, outputs, (kernel, kernel), use_bias=False, rngs=rngs, **options, **F64)
    return conv, nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs, **F64)


class NnxBasicBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride=1, *, rngs):
        self.conv1, self.bn1 = nnx_conv_norm(inputs, outputs, 3, rngs, strides=stride, padding=1)
        self.conv2, self.bn2 = nnx_conv_norm(outputs, outputs, 3, rngs, padding=1)
        shortcut = nnx_conv_norm(inputs, outputs, 1, rngs, strides=stride) if stride > 1 else ()
        self.downsample = nnx.Sequential(*shortcut) if shortcut else None

    def __call__(self, x):
        z = nnx.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(z))
        return nnx.relu(z + (x if self.downsample is None else self.downsample(x)))


class NnxBottleneck(nnx.Module):
    def __init__(self, inputs, outputs, stride=1, groups=2, *, rngs):
        self.conv1, self.bn1 = nnx_conv_norm(inputs, 4, 1, rngs)
        self.conv2, self.bn2 = nnx_conv_norm(4, 4, 3, rngs, strides=stride, padding=1, feature_group_count=groups)
        self.conv3, self.bn3 = nnx_conv_norm(4, outputs, 1, rngs)
        shortcut = nnx_conv_norm(inputs, outputs, 1, rngs, strides=stride) if stride > 1 else ()
        self.downsample = nnx.Sequential(*shortcut) if shortcut else None

    def __call__(self, x):
        z = nnx.relu(self.bn1(self.conv1(x)))
        z = nnx.relu(self.bn2(self.conv2(z)))
        z = self.bn3(self.conv3(z))
        return nnx.relu(z + (x if self.downsample is None else self.downsample(x)))


class NnxResNet(nnx.Module):
    def __init__(self, block, *, rngs):
        self.conv1, self.bn1 = nnx_conv_norm(3, 4, 7, rngs, strides=2, padding=3)
        self.layer1 = nnx.Sequential(block(4, 4, rngs=rngs), block(4, 4, rngs=rngs))
        self.layer2 = nnx.Sequential(block(4, 8, stride=2, rngs=rngs))
        self.fc = nnx.Linear(8, 5, rngs=rngs, **F64)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return self.fc(self.layer2(self.layer1(x)).mean((1, 2)))


def linen_layers(train):
    conv = partial(linen.Conv, use_bias=False, **F64)
    return conv, partial(linen.BatchNorm, use_running_average=not train, momentum=0.9, **F64)


class LinenBasicBlock(linen.Module):
    outputs: int
    stride: int = 1
    train: bool = False

    def setup(self):
        conv, norm = linen_layers(self.train)
        self.conv1, self.bn1 = conv(self.outputs, (3, 3), self.stride, padding=1), norm()
        self.conv2, self.bn2 = conv(self.outputs, (3, 3), padding=1), norm()
        if self.stride > 1:
            self.downsample = linen.Sequential([conv(self.outputs, (1, 1), self.stride), norm()])

    def __call__(self, x):
        z = linen.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(z))
        return linen.relu(z + (self.downsample(x) if self.stride > 1 else x))


class LinenBottleneck(linen.Module):
    outputs: int
    stride: int = 1
    train: bool = False
    groups: int = 2

    def setup(self):
        conv, norm = linen_layers(self.train)
        self.conv1, self.bn1 = conv(4, (1, 1)), norm()
        self.conv2 = conv(4, (3, 3), self.stride, padding=1, feature_group_count=self.groups)
        self.bn2 = norm()
        self.conv3, self.bn3 = conv(self.outputs, (1, 1)), norm()
        if self.stride > 1:
            self.downsample = linen.Sequential([conv(self.outputs, (1, 1), self.stride), norm()])

    def __call__(self, x):
        z = linen.relu(self.bn1(self.conv1(x)))
        z = linen.relu(self.bn2(self.conv2(z)))
        z = self.bn3(self.conv3(z))
        return linen.relu(z + (self.downsample(x) if self.stride > 1 else x))


class LinenResNet(linen.Module):
    block: type[linen.Module]
    train: bool = False

    def setup(self):
        conv, norm = linen_layers(self.train)
        block = partial(self.block, train=self.train)
        self.conv1, self.bn1 = conv(4, (7, 7), 2, padding=3), norm()
        self.layer1, self.layer2 = linen.Sequential([block(4), block(4)]), linen.Sequential([block(8, stride=2)])
        self.fc = linen.Dense(5, **F64)

    def __call__(self, x):
        x = linen.relu(self.bn1(self.conv1(x)))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return self.fc(self.layer2(self.layer1(x)).mean((1, 2)))


# --- 3: MobileNet --------------------------------------------------------------------------------------------


def torch_conv_norm(inputs, outputs, kernel=3, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class TorchInvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        self.use_res_connect = stride == 1 and inputs == outputs
        hidden = inputs * expand
        self.conv = nn.Sequential(
            torch_conv_norm(inputs, hidden, 1),
            torch_conv_norm(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class TorchMobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = TorchInvertedResidual(4, 6, 2, 2), TorchInvertedResidual(6, 6, 1, 2)
        self.features = nn.Sequential(torch_conv_norm(3, 4, 3, 2), *blocks, torch_conv_norm(6, 8, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(8, 5))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


def nnx_conv_norm_relu(*sizes, rngs, **options):
    return nnx.Sequential(*nnx_conv_norm(*sizes, rngs, **options), nnx.relu6)


class NnxInvertedResidual(nnx.Module):
    def __init__(self, inputs, outputs, stride, expand, *, rngs):
        self.residual, hidden = stride == 1 and inputs == outputs, inputs * expand
        depthwise = {"strides": stride, "padding": 1, "feature_group_count": hidden}
        self.conv = nnx.Sequential(
            nnx_conv_norm_relu(inputs, hidden, 1, rngs=rngs),
            nnx_conv_norm_relu(hidden, hidden, 3, rngs=rngs, **depthwise),
            *nnx_conv_norm(hidden, outputs, 1, rngs),
        )

    def __call__(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class NnxMobileNet(nnx.Module):
    def __init__(self, *, rngs):
        self.features = nnx.Sequential(
            nnx_conv_norm_relu(3, 4, 3, rngs=rngs, strides=2, padding=1),
            NnxInvertedResidual(4, 6, 2, 2, rngs=rngs),
            NnxInvertedResidual(6, 6, 1, 2, rngs=rngs),
            nnx_conv_norm_relu(6, 8, 1, rngs=rngs),
        )
        self.classifier = nnx.Sequential(nnx.Dropout(0.0, rngs=rngs), nnx.Linear(8, 5, rngs=rngs, **F64))

    def __call__(self, x):
        return self.classifier(self.features(x).mean((1, 2)))


def linen_conv_norm_relu(train, outputs, kernel, *arguments, **options):
    conv, norm = linen_layers(train)
    return linen.Sequential([conv(outputs, (kernel, kernel), *arguments, **options), norm(), linen.relu6])


class LinenInvertedResidual(linen.Module):
    inputs: int
    outputs: int
    stride: int
    expand: int
    train: bool

    def setup(self):
        (conv, norm), hidden = linen_layers(self.train), self.inputs * self.expand
        self.conv = linen.Sequential([
            linen_conv_norm_relu(self.train, hidden, 1),
            linen_conv_norm_relu(self.train, hidden, 3, self.stride, padding=1, feature_group_count=hidden),
            conv(self.outputs, (1, 1)),
            norm(),
        ])  # fmt: skip

    def __call__(self, x):
        return x + self.conv(x) if self.stride == 1 and self.inputs == self.outputs else self.conv(x)


class LinenMobileNet(linen.Module):
    train: bool = False

    def setup(self):
        self.features = linen.Sequential([
            linen_conv_norm_relu(self.train, 4, 3, 2, padding=1),
            LinenInvertedResidual(4, 6, 2, 2, self.train),
            LinenInvertedResidual(6, 6, 1, 2, self.train),
            linen_conv_norm_relu(self.train, 8, 1),
        ])  # fmt: skip
        drop = linen.Dropout(0.0, deterministic=not self.train)
        self.classifier = linen.Sequential([drop, linen.Dense(5, **F64)])

    def __call__(self, x):
        return self.classifier(self.features(x).mean((1, 2)))


# --- 4: ConvNeXt ---------------------------------------------------------------------------------------------


class TorchChannelsFirstLayerNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class TorchConvNextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x):
        z = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        z = self.gamma * self.pwconv2(F.gelu(self.pwconv1(z)))
        return x + z.permute(0, 3, 1, 2)


class TorchConvNext(nn.Module):
    def __init__(self, a=4, b=6):
        super().__init__()
        norm = TorchChannelsFirstLayerNorm
        self.downsample_layers = nn.ModuleList([
            nn.Sequential(nn.Conv2d(3, a, 4, stride=4), norm(a)),
            nn.Sequential(norm(a), nn.Conv2d(a, b, 2, stride=2)),
        ])  # fmt: skip
        self.stages = nn.ModuleList([nn.Sequential(TorchConvNextBlock(a)), nn.Sequential(TorchConvNextBlock(b))])
        self.norm, self.head = nn.LayerNorm(b, eps=1e-6), nn.Linear(b, 5)

    def forward(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean([-2, -1])))


class NnxConvNextBlock(nnx.Module):
    def __init__(self, width, *, rngs):
        self.dwconv = nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs, **F64)
        self.norm = nnx.LayerNorm(width, rngs=rngs, **F64)
        self.pwconv1 = nnx.Linear(width, 4 * width, rngs=rngs, **F64)
        self.pwconv2 = nnx.Linear(4 * width, width, rngs=rngs, **F64)
        self.gamma = nnx.Param(jnp.full(width, 1e-6))

    def __call__(self, x):
        z = self.pwconv1(self.norm(self.dwconv(x)))
        return x + self.gamma[...] * self.pwconv2(nnx.gelu(z, approximate=False))


class NnxConvNext(nnx.Module):
    def __init__(self, a=4, b=6, *, rngs):
        patch = partial(nnx.Conv, padding="VALID", rngs=rngs, **F64)
        norm = partial(nnx.LayerNorm, rngs=rngs, **F64)
        stem = nnx.Sequential(patch(3, a, (4, 4), strides=4), norm(a))
        self.downsample_layers = nnx.List([stem, nnx.Sequential(norm(a), patch(a, b, (2, 2), strides=2))])
        self.stages = nnx.List([nnx.Sequential(NnxConvNextBlock(width, rngs=rngs)) for width in (a, b)])
        self.norm, self.head = norm(b), nnx.Linear(b, 5, rngs=rngs, **F64)

    def __call__(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean((1, 2))))


class LinenConvNextBlock(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        z = linen.Conv(self.width, (7, 7), feature_group_count=self.width, name="dwconv", **F64)(x)
        z = linen.Dense(4 * self.width, name="pwconv1", **F64)(linen.LayerNorm(name="norm", **F64)(z))
        z = linen.Dense(self.width, name="pwconv2", **F64)(linen.gelu(z, approximate=False))
        return x + self.param("gamma", linen.initializers.constant(1e-6), (self.width,), jnp.float64) * z


class LinenConvNext(linen.Module):
    a: int = 4
    b: int = 6

    def setup(self):
        patch, norm = partial(linen.Conv, padding="VALID", **F64), partial(linen.LayerNorm, **F64)
        self.downsample_layers = [
            linen.Sequential([patch(self.a, (4, 4), 4), norm()]),
            linen.Sequential([norm(), patch(self.b, (2, 2), 2)]),
        ]
        self.stages = [linen.Sequential([LinenConvNextBlock(width)]) for width in (self.a, self.b)]
        self.norm, self.head = norm(), linen.Dense(5, **F64)

    def __call__(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean((1, 2))))


# --- 5: U-Net ------------------------------------------------------------------------------------------------


class TorchDoubleConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x):
        return self.double_conv(x)


class TorchDown(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), TorchDoubleConv(inputs, outputs))

    def forward(self, x):
        return self.maxpool_conv(x)


class TorchUp(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.conv = TorchDoubleConv(inputs, outputs)

    def forward(self, x, skip):
        x = self.up(x)
        dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class TorchOutConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(x)


class TorchUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc, self.down1, self.down2 = TorchDoubleConv(1, 2), TorchDown(2, 4), TorchDown(4, 8)
        self.up1, self.up2, self.outc = TorchUp(8, 4), TorchUp(4, 2), TorchOutConv(2, 3)

    def forward(self, x):
        one = self.inc(x)
        two = self.down1(one)
        x = self.up1(self.down2(two), two)
        return self.outc(self.up2(x, one))


class NnxDoubleConv(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        first = nnx_conv_norm(inputs, outputs, 3, rngs)
        self.double_conv = nnx.Sequential(*first, nnx.relu, *nnx_conv_norm(outputs, outputs, 3, rngs), nnx.relu)

    def __call__(self, x):
        return self.double_conv(x)


def halve(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


class NnxDown(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.maxpool_conv = nnx.Sequential(halve, NnxDoubleConv(inputs, outputs, rngs=rngs))

    def __call__(self, x):
        return self.maxpool_conv(x)


def pad_and_join(x, skip):
    dy, dx = skip.shape[1] - x.shape[1], skip.shape[2] - x.shape[2]
    x = jnp.pad(x, ((0, 0), (dy // 2, dy - dy // 2), (dx // 2, dx - dx // 2), (0, 0)))
    return jnp.concatenate([skip, x], -1)


class NnxUp(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.up = nnx.ConvTranspose(inputs, inputs // 2, (2, 2), 2, padding="VALID", rngs=rngs, **F64)
        self.conv = NnxDoubleConv(inputs, outputs, rngs=rngs)

    def __call__(self, x, skip):
        return self.conv(pad_and_join(self.up(x), skip))


class NnxOutConv(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.conv = nnx.Conv(inputs, outputs, (1, 1), rngs=rngs, **F64)

    def __call__(self, x):
        return self.conv(x)


class NnxUNet(nnx.Module):
    def __init__(self, *, rngs):
        self.inc = NnxDoubleConv(1, 2, rngs=rngs)
        self.down1, self.down2 = NnxDown(2, 4, rngs=rngs), NnxDown(4, 8, rngs=rngs)
        self.up1, self.up2 = NnxUp(8, 4, rngs=rngs), NnxUp(4, 2, rngs=rngs)
        self.outc = NnxOutConv(2, 3, rngs=rngs)

    def __call__(self, x):
        one = self.inc(x)
        two = self.down1(one)
        x = self.up1(self.down2(two), two)
        return self.outc(self.up2(x, one))


class LinenDoubleConv(linen.Module):
    outputs: int
    train: bool

    def setup(self):
        (conv, norm), relu = linen_layers(self.train), linen.relu
        one, two = conv(self.outputs, (3, 3)), conv(self.outputs, (3, 3))
        self.double_conv = linen.Sequential([one, norm(), relu, two, norm(), relu])

    def __call__(self, x):
        return self.double_conv(x)


class LinenDown(linen.Module):
    outputs: int
    train: bool

    def setup(self):
        self.maxpool_conv = linen.Sequential([halve, LinenDoubleConv(self.outputs, self.train)])

    def __call__(self, x):
        return self.maxpool_conv(x)


class LinenUp(linen.Module):
    inputs: int
    outputs: int
    train: bool

    @linen.compact
    def __call__(self, x, skip):
        x = linen.ConvTranspose(self.inputs // 2, (2, 2), (2, 2), padding="VALID", name="up", **F64)(x)
        return LinenDoubleConv(self.outputs, self.train, name="conv")(pad_and_join(x, skip))


class LinenOutConv(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x):
        return linen.Conv(self.outputs, (1, 1), name="conv", **F64)(x)


class LinenUNet(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        one = LinenDoubleConv(2, self.train, name="inc")(x)
        two = LinenDown(4, self.train, name="down1")(one)
        x = LinenDown(8, self.train, name="down2")(two)
        x = LinenUp(8, 4, self.train, name="up1")(x, two)
        return LinenOutConv(3, name="outc")(LinenUp(4, 2, self.train, name="up2")(x, one))


# --- 14: WaveNet ---------------------------------------------------------------------------------------------


class TorchCausalConv(nn.Conv1d):
    """Pads in its forward: a layer of another class."""

    def forward(self, x):
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class TorchWaveNet(nn.Module):
    def __init__(self, width=4, levels=3):
        super().__init__()
        self.causal = TorchCausalConv(1, width, 2)
        self.filters, self.gates, self.residuals, self.skips = (nn.ModuleList() for _ in range(4))
        for level in range(levels):
            self.filters.append(TorchCausalConv(width, width, 2, dilation=2**level))
            self.gates.append(TorchCausalConv(width, width, 2, dilation=2**level))
            self.residuals.append(nn.Conv1d(width, width, 1))
            self.skips.append(nn.Conv1d(width, 6, 1))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(6, 6, 1), nn.ReLU(), nn.Conv1d(6, 8, 1))

    def forward(self, x):
        x, total = self.causal(x), 0
        for filters, gate, residual, skip in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
            z = torch.tanh(filters(x)) * torch.sigmoid(gate(x))
            x, total = x + residual(z), total + skip(z)
        return self.end(total)


class NnxWaveNet(nnx.Module):
    def __init__(self, width=4, levels=3, *, rngs):
        conv = partial(nnx.Conv, padding="CAUSAL", rngs=rngs, **F64)
        self.causal = conv(1, width, (2,))
        self.filters = nnx.List([conv(width, width, (2,), kernel_dilation=2**k) for k in range(levels)])
        self.gates = nnx.List([conv(width, width, (2,), kernel_dilation=2**k) for k in range(levels)])
        self.residuals = nnx.List([conv(width, width, (1,)) for _ in range(levels)])
        self.skips = nnx.List([conv(width, 6, (1,)) for _ in range(levels)])
        self.end = nnx.Sequential(nnx.relu, conv(6, 6, (1,)), nnx.relu, conv(6, 8, (1,)))

    def __call__(self, x):
        x, total = self.causal(x), 0
        for filters, gate, residual, skip in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
            z = jnp.tanh(filters(x)) * nnx.sigmoid(gate(x))
            x, total = x + residual(z), total + skip(z)
        return self.end(total)


class LinenWaveNet(linen.Module):
    width: int = 4
    levels: int = 3

    def setup(self):
        conv, levels = partial(linen.Conv, padding="CAUSAL", **F64), range(self.levels)
        self.causal = conv(self.width, (2,))
        self.filters = [conv(self.width, (2,), kernel_dilation=2**k) for k in levels]
        self.gates = [conv(self.width, (2,), kernel_dilation=2**k) for k in levels]
        self.residuals, self.skips = [conv(self.width, (1,)) for _ in levels], [conv(6, (1,)) for _ in levels]
        self.end = linen.Sequential([linen.relu, conv(6, (1,)), linen.relu, conv(8, (1,))])

    def __call__(self, x):
        x, total = self.causal(x), 0
        for filters, gate, residual, skip in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
            z = jnp.tanh(filters(x)) * linen.sigmoid(gate(x))
            x, total = x + residual(z), total + skip(z)
        return self.end(total)


# --- 17: PReLU, one slope and one for every channel ----------------------------------------------------------


class TorchPReLUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.PReLU(4))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 2 * 2, 5), nn.PReLU(), nn.Linear(5, 3))

    def forward(self, x):
        return self.head(self.features(x))


class NnxChannelPReLU(nnx.Module):
    def __init__(self, width):
        self.negative_slope = nnx.Param(jnp.full(width, 0.25))

    def __call__(self, x):
        return jnp.where(x >= 0, x, self.negative_slope[...] * x)


def flatten_as_torch(x):
    return jnp.moveaxis(x, -1, 1).reshape(len(x), -1)


class NnxPReLUNet(nnx.Module):
    def __init__(self, *, rngs):
        conv = partial(nnx.Conv, padding="VALID", rngs=rngs, **F64)
        one = nnx.PReLU(param_dtype=jnp.float64)
        self.features = nnx.Sequential(conv(1, 4, (3, 3)), one, conv(4, 4, (3, 3), 2), NnxChannelPReLU(4))
        one, two = nnx.Linear(16, 5, rngs=rngs, **F64), nnx.Linear(5, 3, rngs=rngs, **F64)
        self.head = nnx.Sequential(flatten_as_torch, one, nnx.PReLU(param_dtype=jnp.float64), two)

    def __call__(self, x):
        return self.head(self.features(x))


class LinenChannelPReLU(linen.Module):
    @linen.compact
    def __call__(self, x):
        slope = self.param("negative_slope", linen.initializers.constant(0.25), x.shape[-1:], jnp.float64)
        return jnp.where(x >= 0, x, slope * x)


class LinenPReLUNet(linen.Module):
    def setup(self):
        conv = partial(linen.Conv, padding="VALID", **F64)
        one, two = conv(4, (3, 3)), conv(4, (3, 3), 2)
        self.features = linen.Sequential([one, linen.PReLU(**F64), two, LinenChannelPReLU()])
        one, two = linen.Dense(5, **F64), linen.Dense(3, **F64)
        self.head = linen.Sequential([flatten_as_torch, one, linen.PReLU(**F64), two])

    def __call__(self, x):
        return self.head(self.features(x))


# --- 21: weight normalisation, removed -----------------------------------------------------------------------


class TorchTemporalNet(nn.Module):
    """Two dilated convolutions and a shortcut: a block of a temporal convolutional network."""

    def __init__(self):
        super().__init__()
        self.conv1 = parametrizations.weight_norm(nn.Conv1d(3, 5, 3, padding=2))
        self.conv2 = parametrizations.weight_norm(nn.Conv1d(5, 5, 3, padding=4, dilation=2))
        self.downsample, self.linear = nn.Conv1d(3, 5, 1), parametrizations.weight_norm(nn.Linear(5, 2))

    def forward(self, x):
        z = F.relu(self.conv1(x)[..., :-2])
        z = F.relu(self.conv2(z)[..., :-4])
        return self.linear(F.relu(z + self.downsample(x))[..., -1])


def torch_temporal_net():
    net = TorchTemporalNet()
    for layer in (net.conv1, net.conv2, net.linear):
        parametrize.remove_parametrizations(layer, "weight")
    return net


class NnxTemporalNet(nnx.Module):
    def __init__(self, *, rngs):
        conv = partial(nnx.Conv, padding="CAUSAL", rngs=rngs, **F64)
        self.conv1, self.conv2 = conv(3, 5, (3,)), conv(5, 5, (3,), kernel_dilation=2)
        self.downsample, self.linear = conv(3, 5, (1,)), nnx.Linear(5, 2, rngs=rngs, **F64)

    def __call__(self, x):
        z = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return self.linear(nnx.relu(z + self.downsample(x))[:, -1])


class LinenTemporalNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        conv = partial(linen.Conv, 5, padding="CAUSAL", **F64)
        z = linen.relu(conv(kernel_size=(3,), name="conv1")(x))
        z = linen.relu(conv(kernel_size=(3,), kernel_dilation=2, name="conv2")(z))
        z = linen.relu(z + conv(kernel_size=(1,), name="downsample")(x))
        return linen.Dense(2, name="linear", **F64)(z[:, -1])


# --- 25: PointNet --------------------------------------------------------------------------------------------


class TorchTNet(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(k, 4, 1), nn.Conv1d(4, 6, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(4), nn.BatchNorm1d(6)
        self.fc1, self.fc2, self.bn3 = nn.Linear(6, 5), nn.Linear(5, k * k), nn.BatchNorm1d(5)
        self.k = k

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = torch.max(x, 2)[0]
        x = self.fc2(F.relu(self.bn3(self.fc1(x)))).view(-1, self.k, self.k)
        return x + torch.eye(self.k, dtype=x.dtype)


class TorchPointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stn = TorchTNet()
        self.conv1, self.conv2 = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 6, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(4), nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):  # (B, 3, points)
        x = torch.bmm(x.transpose(2, 1), self.stn(x)).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.max(self.bn2(self.conv2(x)), 2)[0])


def nnx_points(inputs, outputs, rngs):
    conv = nnx.Conv(inputs, outputs, (1,), rngs=rngs, **F64)
    return conv, nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs, **F64)


class NnxTNet(nnx.Module):
    def __init__(self, k=3, *, rngs):
        (self.conv1, self.bn1), (self.conv2, self.bn2) = nnx_points(k, 4, rngs), nnx_points(4, 6, rngs)
        self.fc1, self.fc2 = nnx.Linear(6, 5, rngs=rngs, **F64), nnx.Linear(5, k * k, rngs=rngs, **F64)
        self.bn3, self.k = nnx.BatchNorm(5, momentum=0.9, rngs=rngs, **F64), k

    def __call__(self, x):
        x = nnx.relu(self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))).max(1)
        return self.fc2(nnx.relu(self.bn3(self.fc1(x)))).reshape(-1, self.k, self.k) + jnp.eye(self.k)


class NnxPointNet(nnx.Module):
    def __init__(self, *, rngs):
        self.stn = NnxTNet(rngs=rngs)
        (self.conv1, self.bn1), (self.conv2, self.bn2) = nnx_points(3, 4, rngs), nnx_points(4, 6, rngs)
        self.fc = nnx.Linear(6, 2, rngs=rngs, **F64)

    def __call__(self, x):  # (B, points, 3)
        x = nnx.relu(self.bn1(self.conv1(x @ self.stn(x))))
        return self.fc(self.bn2(self.conv2(x)).max(1))


class LinenTNet(linen.Module):
    train: bool
    k: int = 3

    @linen.compact
    def __call__(self, x):
        conv, norm = partial(linen.Conv, kernel_size=(1,), **F64), linen_layers(self.train)[1]
        x = linen.relu(norm(name="bn1")(conv(4, name="conv1")(x)))
        x = linen.relu(norm(name="bn2")(conv(6, name="conv2")(x))).max(1)
        x = linen.relu(norm(name="bn3")(linen.Dense(5, name="fc1", **F64)(x)))
        return linen.Dense(self.k**2, name="fc2", **F64)(x).reshape(-1, self.k, self.k) + jnp.eye(self.k)


class LinenPointNet(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        conv, norm = partial(linen.Conv, kernel_size=(1,), **F64), linen_layers(self.train)[1]
        x = x @ LinenTNet(self.train, name="stn")(x)
        x = linen.relu(norm(name="bn1")(conv(4, name="conv1")(x)))
        return linen.Dense(2, name="fc", **F64)(norm(name="bn2")(conv(6, name="conv2")(x)).max(1))


STRUCTURES = {
    "ResNet": Structure(
        lambda: TorchResNet(TorchBasicBlock), partial(NnxResNet, NnxBasicBlock), LinenResNet(LinenBasicBlock),
        images(2, 3, 16, 16), images=(0,),
    ),
    "ResNeXt": Structure(
        lambda: TorchResNet(TorchBottleneck), partial(NnxResNet, NnxBottleneck), LinenResNet(LinenBottleneck),
        images(2, 3, 16, 16), images=(0,),
    ),
    "MobileNet": Structure(TorchMobileNet, NnxMobileNet, LinenMobileNet(), images(2, 3, 8, 8), images=(0,)),
    "ConvNeXt": Structure(
        TorchConvNext, NnxConvNext, LinenConvNext(), images(2, 3, 16, 16), images=(0,),
        treat_as={"downsample_layers.0.1": "Norm", "downsample_layers.1.0": "Norm"},
    ),
    "U-Net": Structure(
        TorchUNet, NnxUNet, LinenUNet(), images(2, 1, 9, 10), images=(0,), image_outputs=(0,)
    ),
    "WaveNet": Structure(
        TorchWaveNet, NnxWaveNet, LinenWaveNet(), images(2, 1, 12), images=(0,), image_outputs=(0,),
        treat_as={"causal": "Conv", "filters.*": "Conv", "gates.*": "Conv"},
    ),
    "PReLU net": Structure(TorchPReLUNet, NnxPReLUNet, LinenPReLUNet(), images(2, 1, 8, 8), images=(0,)),
    "weight norm, removed": Structure(
        torch_temporal_net, NnxTemporalNet, LinenTemporalNet(), images(2, 3, 9), images=(0,)
    ),
    "PointNet": Structure(TorchPointNet, NnxPointNet, LinenPointNet(), images(4, 3, 7), images=(0,)),
}  # fmt: skip
