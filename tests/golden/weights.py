"""Writes weights.pth, a plain PyTorch state dict, and weights_nested.pth, the same under "state_dict": what `--weights` reads.

    python weights.py        # needs torch
"""
from pathlib import Path

import torch

state = {
    "conv1.weight": torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2),
    "bn1.running_mean": torch.tensor([0.5, -1.5], dtype=torch.float64),
    "fc.weight": torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float16),
    "bn1.num_batches_tracked": torch.tensor(7),
}
here = Path(__file__).parent
torch.save(state, here / "weights.pth")
torch.save({"epoch": 3, "state_dict": state}, here / "weights_nested.pth")
