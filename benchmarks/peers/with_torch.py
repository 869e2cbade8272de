"""PyTorch, eager, with its fused optimizer where it has one."""

from __future__ import annotations

import os
import sys

import torch
from peers.serve import serve
from workloads import named

torch.set_num_threads(int(os.environ["THREADS"]))
workload = named(sys.argv[1])
dense = workload.dense
assert dense
x, y = (torch.from_numpy(array) for array in workload.first_batch())
y = y.long() if dense.loss == "cross_entropy" else y
modules: list[torch.nn.Module] = []
given = list(workload.parameters().values())
for k in range(0, len(given), 2):
    layer = torch.nn.Linear(*given[k].shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(given[k].T.copy()))
        layer.bias.copy_(torch.from_numpy(given[k + 1]))
    modules += [layer, torch.nn.Tanh() if dense.activation == "tanh" else torch.nn.ReLU()]
net = torch.nn.Sequential(*modules[:-1])
measure = torch.nn.CrossEntropyLoss() if dense.loss == "cross_entropy" else torch.nn.MSELoss()
if dense.optimizer == "adam":
    optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=dense.rate, fused=True)
else:
    optimizer = torch.optim.SGD(net.parameters(), lr=dense.rate, fused=True)


def train(count: int) -> float:
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        loss = measure(net(x), y)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


serve(train)
