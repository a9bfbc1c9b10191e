"""Writes resnet.json: results of torchvision's ResNet-18, -50 and -101 in float64, to check ours against, and the error of
PyTorch's own float32.

    python resnet.py         # needs numpy, torch, torchvision

Nothing big is stored: a counter hash derives weights, inputs and the stored entries from names (hash.rs implements it too).

    h(name)        FNV-1a 64 of the name's bytes
    word(name, k)  splitmix64(h(name) + k): the output of SplitMix64 whose state was that (all modulo 2^64)
    u(name, i)     (word(name, i) >> 11) / 2^53, in [0, 1); v = 2u - 1
    convolution    v * sqrt(3) * sqrt(2 / fan_in), fan_in = C*R*S      fc.weight  v * sqrt(3) * sqrt(1 / fan_in)
    norm weight    1 + .1 v, * .3 for the last norm of a block and for downsample.1
    norm bias      -2.5 (v < 0) or 2.5, + .1 v; last norm of a block: .75 in a stage's first block, else .3, + .1 v;
                   downsample.1 and fc.bias: .1 v
    running_mean   .1 v                                                running_var  1 + .2 v
    input          2 v (three names, `inputs` of the case), [N, 3, H, W]    logits_gradient  v / N, [N, 1000]

each computed in f64 and rounded to f32; element i is counted in torchvision's order (KCRS, NCHW).

Per tensor t, under its own name (below): norm = |t|_2; samples[j] = t[word(name, 2^32 + j) mod len], 64 of them, 16 of a
gradient or statistic; projections[p] = sum of +t[i] where word(name, 2^40 (p+1) + i) is odd, else -t[i], four of them;
f32_error = |PyTorch f32 - f64| / |f64| over the whole tensor.

In f32 a ReLU gate or a max-pool choice may go the other way. That changes the gradients by one per cent in any implementation
and hides real errors. So the norms' biases keep most gates away from zero, and among many inputs one was chosen whose closest
gate, in training mode, is several times PyTorch-f32's own error away (`gate_margin`: smallest |input of a ReLU| / rms error of
its layer; `pool_margin`: smallest lead of a maximum / twice the largest error).

    evaluate   "evaluate.c3|c4|c5|logits": outputs of layer2, 3, 4, fc with the running statistics, for inputs[0]; a case without
               training has only this (`parameters`: its number of trainable parameters)
    train      "train.c3|c4|c5|logits": the same in training mode; "gradient.<parameter>": of sum(logits * logits_gradient);
               "<buffer>" (running_mean, running_var): after training-mode forwards of the three inputs, momentum .1
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
CASES = [("resnet18", "bn2", [3, 3, 65, 47], "input.6"), ("resnet50", "bn3", [4, 3, 64, 96], "input.29")]
# Deeper, with the same blocks: only its names and its forward pass are checked.
EVALUATED = [("resnet101", "bn3", [2, 3, 64, 64], "input.0")]


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
    v = signed(name, math.prod(shape))
    last = f".{last_norm}." in name
    downsample = ".downsample.1." in name
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        value = v * (math.sqrt(3.0) * math.sqrt((2.0 if len(shape) == 4 else 1.0) / fan_in))
    elif name.endswith(".running_var"):
        value = 1.0 + 0.2 * v
    elif name.endswith(".weight"):
        value = (1.0 + 0.1 * v) * (0.3 if last or downsample else 1.0)
    elif name.endswith(".running_mean") or name == "fc.bias" or downsample:
        value = 0.1 * v
    elif last:
        value = (0.75 if ".0." in name else 0.3) + 0.1 * v
    else:
        value = np.where(v < 0.0, -2.5, 2.5) + 0.1 * v
    return value.astype(np.float32).reshape(shape)


def image(name, shape):
    return (signed(name, math.prod(shape)) * 2.0).astype(np.float32).reshape(shape)


def logits_gradient(n, classes):
    return (signed("logits_gradient", n * classes) / n).astype(np.float32).reshape(n, classes)


def network(architecture, last_norm, dtype):
    net = getattr(torchvision.models, architecture)().to(dtype)
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    net.load_state_dict({k: torch.tensor(parameter(k, tuple(v.shape), last_norm)) for k, v in state.items()}, strict=False)
    return net


def margins(architecture, last_norm, shape, mode=torch.nn.Module.train):
    """name -> (gate margin, pool margin) of an input, for a network in a mode."""
    nets, inputs = [], {torch.float64: [], torch.float32: []}
    for dtype, seen in inputs.items():
        net = network(architecture, last_norm, dtype)
        mode(net)
        for module in net.modules():
            if isinstance(module, (torch.nn.ReLU, torch.nn.MaxPool2d)):
                module.register_forward_pre_hook(lambda m, a, seen=seen: seen.append((m, a[0].double().clone())))
        nets.append(net)

    def of(name):
        for net, (dtype, seen) in zip(nets, inputs.items()):
            seen.clear()
            with torch.no_grad():
                net(torch.tensor(image(name, shape)).to(dtype))
        gate = pool = math.inf
        for (module, z), (_, f32) in zip(*inputs.values()):
            if isinstance(module, torch.nn.ReLU):
                gate = min(gate, float(z.abs().min() / (z - f32).square().mean().sqrt()))
                continue
            windows = torch.nn.functional.unfold(z.flatten(0, 1)[:, None], 3, padding=1, stride=2)
            best = windows.topk(2, 1).values
            lead = (best[:, 0] - best[:, 1])[best[:, 0] > 0]  # a tie at zero sends no gradient through the ReLU before
            pool = min(pool, float(lead.min() / (2 * (z - f32).abs().max())))
        return gate, pool

    return of


def run(architecture, last_norm, shape, inputs, dtype, train=True):
    """{name: float64 array} of everything that is compared."""
    net = network(architecture, last_norm, dtype)
    tensor = lambda array: torch.tensor(array).to(dtype)
    features = {}
    for name, layer in (("c3", net.layer2), ("c4", net.layer3), ("c5", net.layer4), ("logits", net.fc)):
        layer.register_forward_hook(lambda _, __, out, name=name: features.__setitem__(name, out))
    seen = {}
    keep = lambda name, t: seen.__setitem__(name, t.detach().to(torch.float64).numpy().ravel().copy())

    with torch.no_grad():
        net.eval()(tensor(image(inputs[0], shape)))
    for name, t in features.items():
        keep(f"evaluate.{name}", t)
    if not train:
        return seen

    net.train()
    logits = net(tensor(image(inputs[0], shape)))
    for name, t in features.items():
        keep(f"train.{name}", t)
    (logits * tensor(logits_gradient(*logits.shape))).sum().backward()
    for name, p in net.named_parameters():
        keep(f"gradient.{name}", p.grad)
    with torch.no_grad():
        for name in inputs[1:]:
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
    """First values of every stream, for the test in hash.rs."""
    name = "layer1.0.conv1.weight"
    parameters = []
    for of, shape in ((name, (64, 64, 1, 1)), ("layer1.0.bn3.weight", (256,)), ("layer1.0.bn3.bias", (256,)),
                      ("layer1.1.bn3.bias", (256,)), ("layer1.1.bn2.bias", (64,)), ("layer1.0.downsample.1.weight", (256,)),
                      ("layer1.0.downsample.1.bias", (256,)), ("bn1.running_var", (64,)), ("bn1.running_mean", (64,)),
                      ("fc.weight", (10, 64)), ("fc.bias", (10,)), ("conv1.weight", (64, 3, 7, 7))):
        values = parameter(of, shape, "bn3").ravel()
        parameters.append(dict(name=of, shape=shape, first=values[:6].astype(float).tolist(),
                               projections=projections(of, values.astype(np.float64))))
    return dict(name=name, fnv1a=str(fnv1a(name)), splitmix64=[str(w) for w in words(name, 0, 4)], stream=stream(name, 8).tolist(),
                length=4096, sample_indices=(words(name, 1 << 32, 8) % np.uint64(4096)).astype(float).tolist(), parameters=parameters,
                input=image("input", (4,)).astype(float).tolist(), logits_gradient=logits_gradient(4, 1).ravel().astype(float).tolist())


def search(architecture, count):
    """Prints the margins of some inputs: `python resnet.py search resnet50 100`."""
    of = next(margins(a, last_norm, shape) for a, last_norm, shape, _ in CASES if a == architecture)
    for i in range(int(count)):
        print(f"input.{i}", *of(f"input.{i}"), flush=True)


def main():
    golden = dict(python=sys.version.split()[0], versions={p: version(p) for p in ("numpy", "torch", "torchvision")},
                  threads=torch.get_num_threads(), hash=hash_sample(), cases=[])
    for architecture, last_norm, shape, first in CASES:
        inputs = [first, "input1", "input2"]
        f64 = run(architecture, last_norm, shape, inputs, torch.float64)
        f32 = run(architecture, last_norm, shape, inputs, torch.float32)
        tensors = [looked_at(name, t, f32[name]) for name, t in f64.items()]
        gate, pool = margins(architecture, last_norm, shape)(first)
        golden["cases"].append(dict(architecture=architecture, last_norm=last_norm, shape=shape, inputs=inputs, gate_margin=gate,
                                    pool_margin=pool, tensors=tensors))
        print(architecture, "margins", gate, pool)
        for kind in ("evaluate", "train", "gradient", "layer"):
            errors = [t["f32_error"] for t in tensors if t["name"].startswith(kind)]
            print(architecture, kind, len(errors), "f32 error: median", np.median(errors), "largest", max(errors))
        print([(t["name"], t["norm"] / math.sqrt(t["len"])) for t in tensors[:8]])
    for architecture, last_norm, shape, first in EVALUATED:
        f64, f32 = (run(architecture, last_norm, shape, [first], dtype, train=False) for dtype in (torch.float64, torch.float32))
        count = sum(p.numel() for p in network(architecture, last_norm, torch.float32).parameters())
        golden["cases"].append(dict(architecture=architecture, last_norm=last_norm, shape=shape, inputs=[first], parameters=count,
                                    tensors=[looked_at(name, t, f32[name]) for name, t in f64.items()]))
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    search(*sys.argv[2:]) if sys.argv[1:2] == ["search"] else main()
