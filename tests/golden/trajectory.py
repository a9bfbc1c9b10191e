"""Writes trajectory.json: a small network's parameters after 100 steps of PyTorch's SGD and AdamW, to check ours against.

    python trajectory.py     # needs numpy, torch, torchvision (which resnet.py imports)

conv1 3x3 stride 2, bn1, ReLU, layer1.0.conv2 3x3, layer1.0.bn2, ReLU, mean, fc: with torchvision's names, so that resnet.py's
counter hash initialises them (last norm "bn2"). Batch t, t = step mod 4:

    images   u8 [N, H, W, 3]: word("trajectory.images.<t>", i) >> 56, then (x / 255 - mean) / deviation, ImageNet's
    classes  word("trajectory.classes.<t>", i) mod 6, less 1: -1 is unlabelled
    loss     WEIGHT * cross-entropy / ln 5, the mean over labelled images

Norms and biases have no weight decay; fc's learning rate is HEAD times the others'; the gradient's norm is clipped; the rate
falls by a tenth at steps 60 and 85. Parameters and running statistics are written after f64 steps, rounded; f32_error is
the largest distance of PyTorch's own f32 from the parameters, and clipped is the number of clipped steps.
"""
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from resnet import parameter, words

STEPS, N, H, W, CLASSES = 100, 6, 9, 7, 5
WEIGHT, HEAD, MILESTONES, GAMMA = 0.7, 2.0, [60, 85], 0.1
CASES = [
    dict(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, clip_norm=0.3),
    dict(optimizer="adamw", lr=0.003, momentum=0.0, weight_decay=0.05, clip_norm=0.3),
]
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Second(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2 = torch.nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(8)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.layer1 = torch.nn.ModuleList([Second()])
        self.fc = torch.nn.Linear(8, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.layer1[0].bn2(self.layer1[0].conv2(x)))
        return self.fc(x.mean((2, 3)))


def batch(step, dtype):
    t = step % 4
    pixels = (words(f"trajectory.images.{t}", 0, N * H * W * 3) >> np.uint64(56)).astype(np.float64).reshape(N, H, W, 3)
    classes = (words(f"trajectory.classes.{t}", 0, N) % np.uint64(CLASSES + 1)).astype(np.int64) - 1
    x = (torch.tensor(pixels) / 255.0 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return x.permute(0, 3, 1, 2).to(dtype), torch.tensor(classes)


def run(case, dtype):
    net = Network().to(dtype).train()
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    net.load_state_dict({k: torch.tensor(parameter(k, tuple(v.shape), "bn2")) for k, v in state.items()}, strict=False)
    groups = [
        dict(params=[p], lr=case["lr"] * (HEAD if k.startswith("fc") else 1.0), weight_decay=case["weight_decay"] * (p.dim() > 1))
        for k, p in net.named_parameters()
    ]
    if case["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=case["momentum"])
    else:
        optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, MILESTONES, GAMMA)
    losses, clipped = [], 0
    for step in range(STEPS):
        x, classes = batch(step, dtype)
        loss = torch.nn.functional.cross_entropy(net(x), classes, ignore_index=-1) / math.log(CLASSES)
        optimizer.zero_grad()
        (WEIGHT * loss).backward()
        clipped += int(torch.nn.utils.clip_grad_norm_(net.parameters(), case["clip_norm"]) > case["clip_norm"])
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    tensors = {k: v.double().numpy() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    return tensors, losses, clipped


def main():
    golden = dict(python=sys.version.split()[0], versions={p: version(p) for p in ("numpy", "torch")}, steps=STEPS,
                  shape=[N, H, W, 3], classes=CLASSES, weight=WEIGHT, head=HEAD, milestones=MILESTONES, gamma=GAMMA, cases=[])
    for case in CASES:
        tensors, losses, clipped = run(case, torch.float64)
        f32, *_ = run(case, torch.float32)
        error = max(float(np.abs(tensors[k] - f32[k]).max()) for k in tensors if "running" not in k)
        golden["cases"].append(dict(case, losses=[losses[0], losses[-1]], clipped=clipped, f32_error=error,
                                    tensors={k: [float(f"{x:.9g}") for x in v.flatten()] for k, v in tensors.items()}))
        print(case, losses[0], losses[-1], "clipped", clipped, "f32 error", error)
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
