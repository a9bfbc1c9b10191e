"""Writes resnet.json: torchvision's ResNet-18 and -50 in float64 against which ours is checked, and how far PyTorch's own
float32 is from it.

    python resnet.py         # needs numpy, torch, torchvision

Nothing big is stored: weights, inputs and what is looked at follow from names, by a counter hash (hash.rs has it too).

    h(name)        FNV-1a 64 of the name's bytes
    word(name, k)  splitmix64(h(name) + k): the output of SplitMix64 whose state was that (all modulo 2^64)
    u(name, i)     (word(name, i) >> 11) / 2^53, in [0, 1); v = 2u - 1
    convolution    v * sqrt(3) * sqrt(2 / fan_in), fan_in = C*R*S      fc.weight    v * sqrt(3 / fan_in)
    norm weight    1 + .1 v, * .3 for the last norm of a block         any bias     .1 v
    running_mean   .1 v                                                running_var  1 + .2 v
    input          2 v ("input", "input1", "input2"), [N, 3, H, W]     logits_gradient  v / N, [N, 1000]

each computed in f64 and rounded to f32; element i is counted in torchvision's order (KCRS, NCHW).

Per tensor t, under its own name (below): norm = |t|_2; samples[j] = t[word(name, 2^32 + j) mod len], 64 of them, 16 of a
gradient or statistic; projections[p] = sum of +t[i] where word(name, 2^40 (p+1) + i) is odd, else -t[i], four of them;
f32_error = |PyTorch f32 - f64| / |f64| over the whole tensor.

    evaluate   "evaluate.c3|c4|c5|logits": outputs of layer2, 3, 4, fc with the running statistics, for "input"
    train      "train.c3|c4|c5|logits": the same in training mode; "gradient.<parameter>": of sum(logits * logits_gradient);
               "<buffer>" (running_mean, running_var): after training-mode forwards of input, input1, input2, momentum .1
"""
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchvision

MASK = (1 << 64) - 1
CASES = [("resnet18", "bn2", 3, 65, 47), ("resnet50", "bn3", 4, 64, 96)]


def fnv1a(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def words(name, offset, count):
    """u64 [count]: word(name, offset + i)."""
    with np.errstate(over="ignore"):
        z = np.uint64((fnv1a(name) + offset) & MASK) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream(name, count):
    return (words(name, 0, count) >> np.uint64(11)).astype(np.float64) / 2.0**53


def signed(name, count):
    return 2.0 * stream(name, count) - 1.0


def parameter(name, shape, last_norm):
    fan_in = math.prod(shape[1:])
    if len(shape) == 4:
        center, spread = 0.0, math.sqrt(3.0) * math.sqrt(2.0 / fan_in)
    elif len(shape) == 2:
        center, spread = 0.0, math.sqrt(3.0 / fan_in)
    elif name.endswith(".running_var"):
        center, spread = 1.0, 0.2
    elif name.endswith(".weight"):
        center, spread = 1.0, 0.1
    else:
        center, spread = 0.0, 0.1
    scale = 0.3 if name.endswith(f".{last_norm}.weight") else 1.0
    return ((center + spread * signed(name, math.prod(shape))) * scale).astype(np.float32).reshape(shape)


def image(name, shape):
    return (signed(name, math.prod(shape)) * 2.0).astype(np.float32).reshape(shape)


def logits_gradient(n, classes):
    return (signed("logits_gradient", n * classes) / n).astype(np.float32).reshape(n, classes)


def run(architecture, last_norm, shape, dtype):
    """{name: float64 array} of everything that is looked at."""
    net = getattr(torchvision.models, architecture)().to(dtype)
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    load = lambda: net.load_state_dict(
        {k: torch.tensor(parameter(k, tuple(v.shape), last_norm)) for k, v in state.items()}, strict=False)
    tensor = lambda array: torch.tensor(array).to(dtype)
    features = {}
    for name, layer in (("c3", net.layer2), ("c4", net.layer3), ("c5", net.layer4), ("logits", net.fc)):
        layer.register_forward_hook(lambda _, __, out, name=name: features.__setitem__(name, out))
    seen = {}
    keep = lambda name, t: seen.__setitem__(name, t.detach().to(torch.float64).numpy().ravel().copy())

    load()
    with torch.no_grad():
        net.eval()(tensor(image("input", shape)))
    for name, t in features.items():
        keep(f"evaluate.{name}", t)

    net.train()
    logits = net(tensor(image("input", shape)))
    for name, t in features.items():
        keep(f"train.{name}", t)
    (logits * tensor(logits_gradient(*logits.shape))).sum().backward()
    for name, p in net.named_parameters():
        keep(f"gradient.{name}", p.grad)
    with torch.no_grad():
        for name in ("input1", "input2"):
            net(tensor(image(name, shape)))
    for name, t in net.named_buffers():
        if not name.endswith("num_batches_tracked"):
            keep(name, t)
    return seen


def digits(values, count=9):
    return [float(f"{v:.{count}g}") for v in np.atleast_1d(values)]


def projections(name, t):
    odd = lambda p: (words(name, (1 << 40) * (p + 1), t.size) & np.uint64(1)).astype(bool)
    return [float(np.where(odd(p), t, -t).sum()) for p in range(4)]


def looked_at(name, t, f32):
    count = 64 if name.split(".")[0] in ("evaluate", "train") else 16
    index = words(name, 1 << 32, count) % np.uint64(t.size)
    norm = np.linalg.norm(t)
    return dict(name=name, len=t.size, norm=digits(norm)[0], samples=digits(t[index]), projections=digits(projections(name, t)),
                f32_error=digits(np.linalg.norm(f32 - t) / norm, 3)[0])


def hash_sample():
    """First values of everything, for the test in hash.rs."""
    name = "layer1.0.conv1.weight"
    parameters = []
    for of, shape in ((name, (64, 64, 1, 1)), ("layer1.0.bn3.weight", (256,)), ("bn1.running_var", (64,)), ("bn1.running_mean", (64,)),
                      ("fc.weight", (10, 64)), ("fc.bias", (10,)), ("conv1.weight", (64, 3, 7, 7))):
        values = parameter(of, shape, "bn3").ravel()
        parameters.append(dict(name=of, shape=shape, first=values[:6].astype(float).tolist(),
                               projections=projections(of, values.astype(np.float64))))
    return dict(name=name, fnv1a=str(fnv1a(name)), splitmix64=[str(w) for w in words(name, 0, 4)], stream=stream(name, 8).tolist(),
                length=4096, sample_indices=(words(name, 1 << 32, 8) % np.uint64(4096)).astype(float).tolist(), parameters=parameters,
                input=image("input", (4,)).astype(float).tolist(), logits_gradient=logits_gradient(4, 1).ravel().astype(float).tolist())


def main():
    golden = dict(python=sys.version.split()[0], versions={p: version(p) for p in ("numpy", "torch", "torchvision")},
                  threads=torch.get_num_threads(), hash=hash_sample(), cases=[])
    for architecture, last_norm, n, h, w in CASES:
        f64 = run(architecture, last_norm, (n, 3, h, w), torch.float64)
        f32 = run(architecture, last_norm, (n, 3, h, w), torch.float32)
        tensors = [looked_at(name, t, f32[name]) for name, t in f64.items()]
        golden["cases"].append(dict(architecture=architecture, last_norm=last_norm, input=[n, 3, h, w], tensors=tensors))
        for kind in ("evaluate", "train", "gradient", "layer"):
            errors = [t["f32_error"] for t in tensors if t["name"].startswith(kind)]
            print(architecture, kind, len(errors), "f32 error: median", np.median(errors), "largest", max(errors))
        print([(t["name"], t["norm"] / math.sqrt(t["len"])) for t in tensors[:8]])
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
