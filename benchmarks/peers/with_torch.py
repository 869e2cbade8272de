"""PyTorch with its fused optimizers: variants `eager`, `channels_last` (pictures) and `compile`."""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
import serve
import torch
from torch.nn import functional as F

warnings.filterwarnings("ignore")
torch.set_num_threads(int(os.environ["THREADS"]))
workload, variant, rows = serve.given()
given = [torch.from_numpy(array) for array in workload.parameters]


class Dense(torch.nn.Module):
    """Layers of x W + b, whose weights PyTorch holds transposed."""

    def __init__(self, values: list[torch.Tensor], activation: str) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(linear(*values[k : k + 2]) for k in range(0, len(values), 2))
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x)) if self.activation == "tanh" else F.relu(layer(x))
        return self.layers[-1](x)


def linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(*weight.shape)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    return layer


class CNN(torch.nn.Module):
    def __init__(self, values: list[torch.Tensor]) -> None:
        super().__init__()
        self.convolutions = torch.nn.ModuleList()
        for k in (0, 2, 4):
            layer = torch.nn.Conv2d(values[k].shape[1], values[k].shape[0], 3, padding=1)
            with torch.no_grad():
                layer.weight.copy_(values[k])
                layer.bias.copy_(values[k + 1])
            self.convolutions.append(layer)
        self.dense = Dense(values[6:], "relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third = self.convolutions
        x = F.max_pool2d(F.relu(second(F.relu(first(x)))), 2)
        x = F.max_pool2d(F.relu(third(x)), 2)
        return self.dense(x.flatten(1))


class LSTM(torch.nn.Module):
    """With the second of PyTorch's biases frozen at zero, so that the model is the same."""

    def __init__(self, values: list[torch.Tensor]) -> None:
        super().__init__()
        table, wx, wh, bias, *out = values
        self.tokens = torch.nn.Embedding.from_pretrained(table.clone(), freeze=False)
        self.cell = torch.nn.LSTM(wx.shape[0], wh.shape[0], batch_first=True)
        with torch.no_grad():
            for name, value in (("weight_ih_l0", wx.T), ("weight_hh_l0", wh.T), ("bias_ih_l0", bias)):
                getattr(self.cell, name).copy_(value)
            self.cell.bias_hh_l0.zero_()
        self.cell.bias_hh_l0.requires_grad_(False)
        self.out = linear(*out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(self.tokens(x))[0])


class Block(torch.nn.Module):
    HEADS = 4

    def __init__(self, values: list[torch.Tensor]) -> None:
        super().__init__()
        width = values[0].shape[0]
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        with torch.no_grad():
            for norm, k in ((self.norm1, 0), (self.norm2, 10)):
                norm.weight.copy_(values[k])
                norm.bias.copy_(values[k + 1])
        # Query, key and value by one product.
        self.inner = linear(torch.cat(values[2:8:2], 1), torch.cat(values[3:8:2]))
        self.outer = linear(*values[8:10])
        self.up, self.down = linear(*values[12:14]), linear(*values[14:16])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, places, width = x.shape
        parts = self.inner(self.norm1(x)).view(batch, places, 3, self.HEADS, width // self.HEADS)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.outer(found.transpose(1, 2).reshape(batch, places, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(torch.nn.Module):
    def __init__(self, values: list[torch.Tensor]) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding.from_pretrained(values[0].clone(), freeze=False)
        self.places = torch.nn.Parameter(values[1].clone())
        self.blocks = torch.nn.Sequential(*(Block(values[2 + 16 * k : 18 + 16 * k]) for k in range(4)))
        self.norm = torch.nn.LayerNorm(values[0].shape[1])
        with torch.no_grad():
            self.norm.weight.copy_(values[-4])
            self.norm.bias.copy_(values[-3])
        self.out = linear(*values[-2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.blocks(self.tokens(x) + self.places)))


class Volatilities(torch.nn.Module):
    def __init__(self, values: list[torch.Tensor]) -> None:
        super().__init__()
        self.v = torch.nn.Parameter(values[0].clone())

    def forward(self, strike: torch.Tensor, years: torch.Tensor) -> torch.Tensor:
        spread = self.v * torch.sqrt(years)
        d = (0.02 * years - torch.log(strike)) / spread + 0.5 * spread
        return normal(d) - strike * torch.exp(-0.02 * years) * normal(d - spread)


def normal(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def network() -> torch.nn.Module:
    made = {"cnn": CNN, "lstm": LSTM, "gpt": GPT, "elementwise": Volatilities}.get(workload.name)
    return made(given) if made else Dense(given, "tanh" if workload.name == "tiny_mlp" else "relu")


net = network()
squared = workload.name in ("tiny_mlp", "elementwise")
if variant == "channels_last":
    net = net.to(memory_format=torch.channels_last)


def tensors(arrays: list[np.ndarray]) -> list[torch.Tensor]:
    made = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    made = [one.long() if one.dtype == torch.int32 else one for one in made]
    if variant == "channels_last":
        made[0] = made[0].to(memory_format=torch.channels_last)
    return made


def loss_of(*batch: torch.Tensor) -> torch.Tensor:
    *inputs, target = batch
    out = net(*inputs)
    return F.mse_loss(out, target) if squared else F.cross_entropy(out.flatten(0, -2), target.flatten())


def optimizer() -> torch.optim.Optimizer:
    trained = [p for p in net.parameters() if p.requires_grad]
    if workload.kind == "sgd":
        return torch.optim.SGD(trained, lr=workload.rate, momentum=workload.momentum, fused=True)
    if workload.kind == "adam":
        return torch.optim.Adam(trained, lr=workload.rate, fused=True)
    return torch.optim.AdamW(trained, lr=workload.rate, weight_decay=workload.decay, fused=True)


def training() -> None:
    compute = torch.compile(loss_of) if variant == "compile" else loss_of
    steps, rng = optimizer(), np.random.default_rng(2)
    whole = tensors(workload.data)
    batch = tensors(workload.first(0))

    def step(batch: list[torch.Tensor]) -> torch.Tensor:
        steps.zero_grad(set_to_none=True)
        loss = compute(*batch)
        loss.backward()
        steps.step()
        return loss.detach()

    def many(count: int) -> None:
        if not workload.epochs:
            for _ in range(count):
                step(batch)
            return
        for _ in range(count // workload.batches):
            for chosen in workload.shuffled(rng):
                places = torch.from_numpy(chosen)
                step([array[places] for array in whole])

    serve.train(lambda k: float(step(tensors(workload.first(k)))), many)


def predicting() -> None:
    net.eval()
    inputs = tensors(workload.rows(rows)[:-1])
    compute = torch.compile(net) if variant == "compile" else net
    with torch.inference_mode():
        serve.predict(lambda: compute(*inputs).numpy())


predicting() if rows else training()
