"""Writes small state dicts as PyTorch users save them: plain.pth, nested.pth, reference.pth,
channels_last.pth, legacy.pth.

    python state.py [folder]         # needs torch

Every floating tensor holds ((7 i) mod 64) / 16 - 2 at its i-th element in logical, row-major order, exact in half precision;
running_var is that plus 3. plain: an nn.Module's state_dict, int64 counter included. nested: a training checkpoint with
the weights under "state_dict", one of them in half precision, beside a lone tensor and an optimizer's state (PyTorch's
ImageNet example). reference: the same under "model" (torchvision's training script). channels_last: a convolution's
weight with other strides. legacy: the format before zip files (PyTorch < 1.6).
"""
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)


def fill(state):
    for name, tensor in state.items():
        if tensor.is_floating_point():
            values = (7 * torch.arange(tensor.numel()) % 64) / 16 - 2 + (3 if name.endswith("running_var") else 0)
            tensor.copy_(values.reshape(tensor.shape))
    return state


def main(folder):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    state = fill(net.state_dict())
    torch.save(state, folder / "plain.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    half = OrderedDict((k, v.half() if k == "fc.weight" else v) for k, v in state.items())
    checkpoint = {"epoch": 3, "arch": "net", "best_acc1": torch.tensor(76.1), "optimizer": optimizer.state_dict()}
    torch.save({**checkpoint, "state_dict": half}, folder / "nested.pth")
    torch.save({**checkpoint, "model": half}, folder / "reference.pth")
    strided = {"conv1.weight": state["conv1.weight"].to(memory_format=torch.channels_last)}
    torch.save(strided, folder / "channels_last.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
