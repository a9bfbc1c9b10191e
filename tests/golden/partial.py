"""Writes partial.json: gradients of torchvision's ResNet-18 in float64 with a part of it frozen, or with two batches accumulated
before an update. Weights, inputs and the stored entries are those of resnet.py.

    python partial.py         # needs numpy, torch, torchvision

    batch_norm    every norm uses its running statistics (net.eval()), convolutions and fc learn
    stages        conv1, bn1 and layer1 frozen and in evaluation mode, the rest in training mode
    middle        layer2 alone frozen and in evaluation mode: gradients pass through it
    accumulated   two batches in training mode, each normalised separately, gradients added up

In layers that normalise by running statistics, the norms' scales and shifts do not learn.
"""
import json
from pathlib import Path

import torch

from resnet import image, logits_gradient, looked_at, margins, network

ARCHITECTURE, LAST_NORM, SHAPE = "resnet18", "bn2", [3, 3, 65, 47]


def frozen(*names):
    def mode(net):
        net.train()
        for name in names:
            net.get_submodule(name).eval()
            for p in net.get_submodule(name).parameters():
                p.requires_grad_(False)

    return mode


def running(net):
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for p in module.parameters():
                p.requires_grad_(False)


CASES = [("batch_norm", running, 1), ("stages", frozen("conv1", "bn1", "layer1"), 1), ("middle", frozen("layer2"), 1),
         ("accumulated", torch.nn.Module.train, 2)]


def run(mode, inputs, dtype):
    net = network(ARCHITECTURE, LAST_NORM, dtype)
    mode(net)
    for name in inputs:
        logits = net(torch.tensor(image(name, SHAPE)).to(dtype))
        (logits * torch.tensor(logits_gradient(*logits.shape)).to(dtype)).sum().backward()
    gradients = {f"gradient.{name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {name: g.double().numpy().ravel().copy() for name, g in gradients.items()}


def main():
    cases = []
    for kind, mode, count in CASES:
        of = margins(ARCHITECTURE, LAST_NORM, SHAPE, mode)
        # The inputs whose gates and choices have the largest margins.
        judged = sorted(((min(gate, 20 * pool), f"input.{i}") for i in range(40) for gate, pool in [of(f"input.{i}")]), reverse=True)
        inputs = [name for _, name in judged[:count]]
        f64, f32 = run(mode, inputs, torch.float64), run(mode, inputs, torch.float32)
        tensors = [looked_at(name, t, f32[name]) for name, t in f64.items()]
        print(kind, judged[:count], len(tensors), "f32 error", max(t["f32_error"] for t in tensors))
        cases.append(dict(kind=kind, architecture=ARCHITECTURE, last_norm=LAST_NORM, shape=SHAPE, inputs=inputs, tensors=tensors))
    Path(__file__).with_suffix(".json").write_text(json.dumps(dict(cases=cases), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
