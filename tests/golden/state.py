"""Writes small state dicts as PyTorch users save them: plain.pth, nested.pth, reference.pth,
channels_last.pth, legacy.pth, views.pth, types.pth, training.pth and training_legacy.pth.

    python state.py [folder]         # needs torch and numpy

Every floating-point tensor has ((7 i) mod 64) / 16 - 2 at its i-th element in logical, row-major order, exact in half precision;
running_var is that plus 3. plain: an nn.Module's state_dict, including an int64 counter. nested: a training checkpoint with
the weights under "state_dict", one of them in half precision, next to a single tensor and an optimizer's state (PyTorch's
ImageNet example). reference: the same under "model" (torchvision's training script). channels_last: a convolution's
weight with other strides. legacy: the format before zip files (PyTorch < 1.6). views: tensors that share storages, start
within them, have other strides, repeat an element, are empty or have no dimension. types: every type of number;
integers are (7 i) mod 64, bools whether i is a multiple of 3. training: other things that training scripts save with the weights
(`state_dict`, with parameters instead of tensors), in pickle protocol 4; training_legacy: the same in the older format.
"""
import argparse
import sys
from collections import OrderedDict, defaultdict, deque
from pathlib import Path

import numpy
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.bn1(self.conv1(x)).mean((2, 3)))


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
    torch.save(views(), folder / "views.pth")
    torch.save(types(), folder / "types.pth")
    checkpoint = training(net)
    torch.save(checkpoint, folder / "training.pth", pickle_protocol=4)
    torch.save(checkpoint, folder / "training_legacy.pth", _use_new_zipfile_serialization=False)


def values(*shape):
    count = torch.Size(shape).numel()
    return ((7 * torch.arange(count) % 64) / 16 - 2).reshape(shape)


def views():
    """The storages hold the values in other orders, so that each view has them in row-major order."""
    line = torch.cat([torch.full((5,), 99.0), values(6), values(4)])
    matrix = values(3, 4).t().contiguous()
    return {
        "offset": line[5:11],
        "shared": line[11:],
        "reshaped": line[5:11].view(2, 3),
        "transposed": matrix.t(),
        "channels_last": values(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "every_second": values(8).repeat_interleave(2)[::2],
        "repeated": torch.tensor(-2.0).expand(2, 3),
        "scalar": values(1)[0],
        "empty": torch.empty(0, 3),
        "tied": line[5:11],
    }


def types():
    state = {str(t)[6:]: values(2, 5).to(t) for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
    whole = (7 * torch.arange(10) % 64).reshape(2, 5)
    state.update({str(t)[6:]: whole.to(t) for t in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)})
    state["bool"] = (torch.arange(10) % 3 == 0).reshape(2, 5)
    state["complex64"] = torch.ones(2, dtype=torch.complex64)
    return state


def training(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    fill(net.state_dict())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, data=Path("images"), seed=2**40, resume=None, sync=True),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "best": numpy.float64(76.1),
        "curve": numpy.arange(3.0),
        "history": defaultdict(list, loss=[0.5, 0.25]),
        "last": deque([1, 2], maxlen=2),
        "classes": {"cat", "dog"},
        "frozen": frozenset({"stem"}),
        "note": b"raw",
        "storage": torch.arange(3.0).untyped_storage(),
        "state_dict": OrderedDict(net.named_parameters()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
