"""Writes balance.json: weights of balancing methods by TorchJD, SciPy and PyTorch's autograd, in float64.

    python balance.py        # needs numpy, scipy, cvxpy, ecos, clarabel, quadprog, qpsolvers, torch, torchjd 0.18

gramians     cases of a few gradients [K, D] with few decimals; the Gramian is scale * gradients @ gradients.T. Raw weights:
             `mgda` and the products G @ v of `upgrad`, `dualproj` by SciPy's nnls, which is exact (TorchJD stops MGDA at a step of 1e-3 and
             adds 1e-4 to the diagonal for the projections); `upgrad_torchjd`, `dualproj_torchjd` are TorchJD's own with nothing added, if
             quadprog accepts the Gramian. `cagrad`: the binding gradients by cvxpy's CLARABEL, then the level by SciPy's
             root finder; `cagrad_torchjd` is TorchJD's with norm_eps 1e-14, accurate to 1e-4. `nash`, `fairgrad` by SciPy's root finder started at
             TorchJD's FairGrad (nash is alpha = 1), whose own answer is kept as `fairgrad_torchjd`; `nash_torchjd` is TorchJD's
             NashMTL, which often stops far from the solution. `imtl_g`, `aligned`, `pcgrad` (order: ascending) by TorchJD. null if
             a reference has no solution: nash and fairgrad of dependent gradients, quadprog of a singular Gramian.
sequences    steps of methods with a state, by TorchJD (gradvac and pcd from Gramians, modo and sdmgrad from products of two batches,
             excess, smooth around aligned, dwa, famo), by autograd and torch.optim.Adam (gradnorm) or by the paper's formula (db with beta 0).
losses       gradients of the scalarised losses by autograd.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import cvxpy as cp
import numpy as np
import torch
import torchjd.scalarization as scalarization
from scipy.optimize import brentq, nnls, root
from torchjd.aggregation import (AlignedMTL, CAGrad, CRMOGMWeighting, DualProj, ExcessMTL, FairGrad, GradVac, IMTLG, MoDoWeighting,
                                 NashMTL, PCD, PCGrad, SDMGradWeighting, UPGrad)
from torchjd.aggregation._aligned_mtl import AlignedMTLWeighting
from torchjd._linalg import QuadprogProjector

SEED = 20262
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def rounded(value, digits=12):
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return value if not isinstance(value, float) or value == 0 else float(f"{value:.{digits}g}")


def ascending(n):
    """Replaces torch.randperm, so that PCGrad and GradVac visit the other tasks in ascending order."""
    return torch.arange(n)


def gradients(rng):
    """Named gradients [K, D]."""
    for k in [2, 3, 8, 16]:
        random = np.round(rng.normal(0, 1, (k, k + 4)), 2)
        yield f"random {k}", random, 1.
        # All conflict: most of the mean is subtracted.
        yield f"conflicting {k}", np.round(random - 0.95 * random.mean(0), 2), 1.
        yield f"uneven {k}", random * np.round(10. ** np.linspace(-1, 1, k), 2)[:, None], 1.
        yield f"large {k}", random, 1e12
        yield f"small {k}", random, 1e-12
        direction = np.round(rng.normal(0, 1, (1, 5)), 2)
        yield f"parallel {k}", np.arange(1., k + 1)[:, None] * direction, 1.
        signs = np.where(np.arange(k) % 2, -1., 1.)[:, None]
        yield f"opposite {k}", signs * direction, 1.
        yield f"rank one {k}", np.round(rng.normal(0, 1, (k, 1)), 2) * direction, 1.
        if k > 2:
            yield f"rank two {k}", np.round(rng.normal(0, 1, (k, 2)), 2), 1.
        yield f"zero {k}", np.zeros((k, 3)), 1.


def attempt(f):
    try:
        value = f()
        return value if np.isfinite(np.asarray(value)).all() else None
    except Exception:
        return None


def shortest(j):
    """min |J' a|^2 + (sum a - 1)^2 over a >= 0 has the direction of the shortest convex combination."""
    if not j.any():
        return np.full(len(j), 1 / len(j))
    j = j / np.linalg.norm(j)
    a, _ = nnls(np.vstack([j.T, np.ones(len(j))]), np.append(np.zeros(j.shape[1]), 1.), maxiter=10000)
    return a / a.sum()


def projected(j, u):
    """min |J' v| over v >= u."""
    x, _ = nnls(j.T, -j.T @ u, maxiter=10000)
    return j @ j.T @ (u + x)


def fair(g, start, power):
    """G w = w^-power, in logarithms and in units of each weight without the other tasks."""
    unit = np.diag(g) ** (-1 / (power + 1))
    c = g * np.outer(unit, unit)
    right = unit ** (1 - power)
    answer = root(lambda u: np.log(np.maximum(c @ np.exp(u), 1e-300) / right) + power * u, np.log(start / unit), tol=1e-14)
    return np.exp(answer.x) * unit if np.abs(answer.fun).max() < 1e-10 else None


def conflict_averse(j, c):
    """max t with j d >= t and |d - g0| <= c |g0|: d - g0 is made of the constraints' multipliers."""
    g0 = j.mean(0)
    d, t = cp.Variable(len(g0)), cp.Variable()
    worst = j @ d >= t
    problem = cp.Problem(cp.Maximize(t), [worst, cp.norm(d - g0) <= c * np.linalg.norm(g0)])
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    # The solver is accurate to 1e-7. For the binding constraints t is the only unknown, and |d - g0| must equal the radius.
    binding = np.flatnonzero(worst.dual_value > 1e-5 * worst.dual_value.max())

    def added(t):
        return np.linalg.lstsq(j[binding] @ j[binding].T, t - j[binding] @ g0, rcond=None)[0]

    radius = c * np.linalg.norm(g0)
    t = brentq(lambda t: np.linalg.norm(added(t) @ j[binding]) - radius, t.value - 1e-4 * radius, t.value + 1e-4 * radius, xtol=1e-18, rtol=1e-15)
    w = np.full(len(j), 1 / len(j))
    w[binding] += added(t)
    assert added(t).min() >= 0 and (j @ (w @ j)).min() > t - 1e-12
    return w


def weights(aggregator, g):
    return aggregator.gramian_weighting(torch.tensor(g)).numpy()


def gramian_case(name, j, scale):
    k, g = len(j), scale * j @ j.T
    trace = np.trace(g)
    n = g / trace if trace else g
    e = np.eye(k) / k
    exact = QuadprogProjector(norm_eps=0., reg_eps=0.)
    full_rank = trace > 0 and np.linalg.matrix_rank(j) == k
    nash = attempt(lambda: NashMTL(k, 0., 1, 100).weighting(torch.tensor(j * np.sqrt(scale))).numpy()) if full_rank else None
    fairgrad = attempt(lambda: weights(FairGrad(2.), n)) if full_rank else None
    root_j = j * np.sqrt(scale)
    case = dict(
        name=name, gradients=rounded(j), scale=scale,
        mgda=shortest(root_j),
        upgrad_products=sum(projected(root_j, u) for u in e),
        dualproj_products=projected(root_j, e.sum(0)),
        upgrad_torchjd=attempt(lambda: weights(UPGrad(projector=exact), g)) if full_rank else None,
        dualproj_torchjd=attempt(lambda: weights(DualProj(projector=exact), g)) if full_rank else None,
        cagrad=attempt(lambda: conflict_averse(j / np.sqrt((j * j).sum()), 0.4)) if full_rank else None,
        cagrad_torchjd=attempt(lambda: weights(CAGrad(0.4, norm_eps=1e-14), n)) if trace else None,
        nash=attempt(lambda: fair(g, weights(FairGrad(1.), n) / np.sqrt(trace), 1.)) if full_rank else None,
        nash_torchjd=nash,
        fairgrad=attempt(lambda: fair(n, fairgrad, 0.5)) if full_rank else None,
        fairgrad_torchjd=fairgrad,
        imtl_g=weights(IMTLG(), n), aligned=weights(AlignedMTL(), n), pcgrad=weights(PCGrad(), g),
    )
    return {key: rounded(value) if isinstance(value, np.ndarray) else value for key, value in case.items()}


def sequences(rng):
    k, steps = 3, 6
    jacobians = np.round(rng.normal(0, 1, (steps, k, 5)) + rng.normal(0, 0.7, (steps, 1, 5)), 2)
    others = np.round(jacobians + rng.normal(0, 0.5, jacobians.shape), 2)
    losses = np.round(np.exp(rng.normal(0, 1, (steps + 1, k))), 3)
    grams = [torch.tensor(j @ j.T) for j in jacobians]
    crosses = [torch.tensor(a @ b.T) for a, b in zip(jacobians, others)]
    out = dict(gradients=rounded(jacobians), others=rounded(others), losses=rounded(losses))

    vac = GradVac(0.5)
    out["gradvac"] = [rounded(vac.gramian_weighting(g / g.trace())) for g in grams]
    pcd = PCD(0.3, 0.9, 0.)
    out["pcd"] = [rounded(pcd.gramian_weighting(g)) for g in grams]
    smooth = CRMOGMWeighting(AlignedMTLWeighting(), 0.9)
    out["smooth"] = [rounded(smooth(g)) for g in grams]
    modo = MoDoWeighting(0.1, 0.1)
    out["modo"] = [rounded(modo(c)) for c in crosses]
    sdm = SDMGradWeighting(10., 0.5, 20, 0.3)
    # Its scale has 1e-8 added, which changes only the last digits.
    out["sdmgrad"] = [rounded(sdm(c)) for c in crosses]
    excess, squares = ExcessMTL(0.01, 1), 0.
    out["excess_risks"], out["excess"] = [], []
    for j in jacobians:
        squares = squares + j * j
        out["excess_risks"].append(rounded((j * j / np.sqrt(squares + 1e-7)).sum(1)))
        out["excess"].append(rounded(excess.weighting(torch.tensor(j)).clone()))

    # GradNorm: alpha 1.5, Adam at .025, the sum kept at K.
    w, first = torch.ones(k, requires_grad=True), torch.tensor(losses[0])
    adam, out["gradnorm"] = torch.optim.Adam([w], lr=0.025), []
    for g, loss in zip(grams, losses):
        out["gradnorm"].append(rounded(w.detach().clone()))
        norms = w * g.diagonal().sqrt()
        rate = torch.tensor(loss) / first
        target = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
        adam.zero_grad()
        (norms - target).abs().sum().backward()
        # The same up to Adam's epsilon: slopes in units of the mean norm.
        w.grad /= norms.mean().detach()
        adam.step()
        w.data *= k / w.data.sum()

    norms = [g.diagonal().sqrt() / torch.tensor(loss) for g, loss in zip(grams, losses)]
    out["db"] = [rounded(n.max() / n / torch.tensor(loss)) for n, loss in zip(norms, losses)]

    def slopes(scalarizer, loss):
        loss = torch.tensor(loss, requires_grad=True)
        scalarizer(loss).backward()
        return rounded(loss.grad)

    dwa, out["dwa"] = scalarization.DWA(2.), []
    for i, loss in enumerate(losses):
        out["dwa"].append(slopes(dwa, loss))
        if i % 2:  # Epochs of two steps.
            dwa.step()
    famo, out["famo"] = scalarization.FAMO(k, lr=0.025, weight_decay=1e-3), []
    for before, after in zip(losses, losses[1:]):
        out["famo"].append(slopes(famo, before))
        famo.update(torch.tensor(after))
    return out


def loss_cases(rng):
    for k in [2, 3, 8]:
        losses = np.round(np.exp(rng.normal(-0.5, 1, k)), 3)
        state = np.round(rng.normal(0, 0.5, k), 2)

        def slopes(f):
            x = torch.tensor(losses, requires_grad=True)
            f(x).backward()
            return rounded(x.grad)

        uw, imtl = scalarization.UW(k), scalarization.IMTLL(k)
        uw.log_var.data = torch.tensor(state)
        next(imtl.parameters()).data = torch.tensor(state)
        stch = scalarization.STCH(0.5, torch.tensor(np.linspace(0.5, 1, k)), torch.tensor(np.linspace(0, 0.1, k)))
        yield dict(losses=rounded(losses), state=rounded(state), uncertainty=slopes(uw), imtl_l=slopes(imtl),
                   geometric=slopes(scalarization.GeometricMean()), log=slopes(lambda x: x.log().sum()),
                   uw_so=slopes(lambda x: (torch.softmax(1 / (2 * x.detach()), 0) * x).sum()), stch=slopes(stch))


def main():
    torch.randperm = ascending
    rng = np.random.default_rng(SEED)
    cases = [gramian_case(*case) for case in gradients(rng)]
    packages = ["numpy", "scipy", "cvxpy", "clarabel", "ecos", "quadprog", "torch", "torchjd"]
    golden = dict(seed=SEED, python=sys.version.split()[0], versions={p: version(p) for p in packages},
                  gramians=cases, sequences=sequences(rng), losses=list(loss_cases(rng)))
    lines = json.dumps(golden, separators=(",", ":"), allow_nan=False).replace('{"name"', '\n{"name"')
    Path(__file__).with_name("balance.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
