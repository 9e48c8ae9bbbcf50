"""Search for a setting of MLE-GFN that lowers NLL on digits, against controls of equal compute.

    python benchmarks/recipe_search.py [--seeds 3] [--checkpoints 300 1200] [--only NAME …]

Starts from the checkpoints of `mlegfn reproduce` (scale digits). Every setting is run with the arm `tbc`;
each *group* (equal chain, learning rate, reverse variance) also with the controls `simple` and `vlb`, on
the same images, noise and number of network evaluations. Writes benchmarks/results/recipe_digits.json:
per setting, the test bits/dim of every seed and the paired differences to both controls with 95 %
Student intervals over seeds; and the alignment of the consistency gradient with the bound's.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from machine import provenance

from mlegfn.artifacts import write_json
from mlegfn.data import load_images
from mlegfn.data.resident import unit_images
from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import (
    build_network,
    initial_network,
    model_of,
    read_state,
)
from mlegfn.training.finetuning import finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.state import new_state
from mlegfn.trajectory import score
from reproduction.images.inputs import mean_errors
from reproduction.params import load
from reproduction.verdicts.statistics import student

# A group is what all its arms share; a setting is what only `tbc` reads.
FULL = {"chain": "full", "images": 3}
GROUPS = {
    "analytic, full chain": ({"variance": "analytic"}, FULL),
    "analytic, full chain, lr 0.002": ({"variance": "analytic", "lr": 0.002}, FULL),
    "analytic, M=6": ({"variance": "analytic"}, {**FULL, "images": 1, "trajectories": 6}),
    "analytic, respaced 10": (
        {"variance": "analytic"},
        {"chain": "respaced", "chain_steps": 10, "images": 15},
    ),
    "analytic, subtrajectory 5": (
        {"variance": "analytic"},
        {"chain": "subtrajectory", "chain_steps": 5, "images": 30},
    ),
    "small, full chain": ({"variance": "small"}, FULL),
    "large, full chain": ({"variance": "large"}, FULL),
    "learned, full chain": ({"variance": "learned"}, FULL),
}
SETTINGS = [
    ("analytic, full chain", "simple", 1e-5, {}),
    ("analytic, full chain", "simple", 1e-4, {}),
    ("analytic, full chain", "simple", 1e-3, {}),
    ("analytic, full chain", "vlb", 1e-5, {}),
    ("analytic, full chain", "vlb", 1e-4, {}),
    ("analytic, full chain", "vlb", 1e-3, {}),
    ("analytic, full chain", "vlb", 1e-4, {"loss": "huber", "huber_delta": 3.0}),
    ("analytic, full chain, lr 0.002", "vlb", 1e-4, {}),
    ("analytic, M=6", "vlb", 1e-4, {}),
    ("analytic, respaced 10", "vlb", 1e-4, {}),
    ("analytic, subtrajectory 5", "vlb", 1e-3, {}),
    ("small, full chain", "vlb", 1e-5, {}),
    ("large, full chain", "vlb", 1e-4, {}),
    ("learned, full chain", "vlb", 1e-5, {}),
    ("learned, full chain", "vlb", 1e-4, {}),
    ("learned, full chain", "vlb", 1e-3, {}),
]


def group_scale(base, name):
    """The image settings of the scale `digits` with a group's shared ones; ``finetune`` is what one arm reads."""
    shared, chain = GROUPS[name]
    tuned = base.finetune.arm("tbc")
    optimizer = tuned.optimizer.model_copy(update={"lr": shared.get("lr", tuned.optimizer.lr)})
    consistency = tuned.consistency.model_copy(update=chain)
    return base.model_copy(
        update={
            "diffusion": base.diffusion.model_copy(update={"variance": shared["variance"]}),
            "finetune": tuned.model_copy(update={"optimizer": optimizer, "consistency": consistency}),
        }
    )


def base_steps(base):
    """How many steps a fine-tune has."""
    return base.finetune.all.evaluate_at[-1]


class Bench:
    """Data and starting points, shared by all runs."""

    def __init__(self, base):
        self.base = base
        self.data = load_images("data/digits")
        self.train = unit_images(self.data.train_images, self.data.levels, "cpu")
        self.test = unit_images(self.data.test_images, self.data.levels, "cpu")
        self.learned = {}

    def start(self, scale, checkpoint):
        """A state at ``checkpoint`` and the errors behind its analytic variances."""
        network = build_network(scale, self.data.record)
        state = new_state(network, scale.finetune.optimizer)
        if scale.diffusion.variance != "learned":
            errors = read_state(f"results/digits/images/checkpoints/baseline/{checkpoint}", state)[
                "epsilon_errors"
            ]
        else:
            state.load(self.pretrained_learned(scale, checkpoint))
            errors = None
        state.step = 0
        return state, errors

    def pretrained_learned(self, scale, checkpoint):
        """Learned variances need another network: pretrain it as the pipeline does, once."""
        if checkpoint not in self.learned:
            settings = scale.pretrain
            network = initial_network(scale, self.data.record, settings.seed)
            state = new_state(network, settings.optimizer)
            model = model_of(network, scale, self.data.levels)
            accumulate = pretrain_gradient(model, self.train, settings, scale.data.flip)
            train(
                state, accumulate, settings.optimizer, checkpoint, description="pretrain, learned variances"
            )
            self.learned[checkpoint] = {k: v.clone() for k, v in state.tensors().items()}
        return self.learned[checkpoint]

    def evaluate(self, state, scale):
        """Test bits/dim of the EMA weights, and E[Var log w] in nats² over 60 test images × 4 trajectories."""
        averaged = build_network(scale, self.data.record)
        averaged.load_state_dict(state.ema_weights())
        errors = mean_errors(state, scale, self.data, self.train)
        model = model_of(averaged.eval(), scale, self.data.levels, errors)
        bits = bits_per_dim(model, self.test, scale.nll.seed, scale.nll.batch)
        x0 = self.test[::6].repeat_interleave(4, 0)
        with torch.no_grad():
            log_w = score(model, model.sample_pb(x0, generator(0, "recipe spread"))).log_w
        return bits.per_image.mean().item(), log_w.view(-1, 4).var(1).mean().item()

    def run(self, scale, checkpoint, arm, seed):
        """Fine-tune one arm; its result as a JSON-able dict."""
        began = time.perf_counter()
        state, errors = self.start(scale, checkpoint)
        model = model_of(state.network, scale, self.data.levels, errors)
        accumulate, evaluations = finetune_gradient(
            model,
            self.train,
            scale.finetune,
            arm,
            (checkpoint,),
            seed,
            scale.data.flip,
            errors,
            scale.diffusion.variance,
        )
        try:
            train(
                state,
                accumulate,
                scale.finetune.optimizer,
                base_steps(self.base),
                description=f"{arm} {seed}",
            )
        except FloatingPointError as error:
            return {"seed": seed, "diverged": str(error)}
        bits, spread = self.evaluate(state, scale)
        return {
            "seed": seed,
            "bits_per_dim": bits,
            "variance_of_log_w": spread,
            "forward": evaluations.forward,
            "backward": evaluations.backward,
            "seconds": time.perf_counter() - began,
        }


def paired(runs, control):
    """Mean and 95 % interval over seeds of tbc − control, bits/dim."""
    if any("diverged" in run for run in runs + control):
        return None
    values = [a["bits_per_dim"] - b["bits_per_dim"] for a, b in zip(runs, control, strict=True)]
    mean, low, high = student(values)[:3]
    return {"mean": mean, "interval": [low, high], "values": values}


def alignment(bench, scale, checkpoint, batches, images=8):
    """Does the consistency gradient point where the bound's does, and how loud is its noise?

    ``batches`` independent gradients of TBC, of the bound and of L_simple at the EMA weights, each from
    ``images`` × M joint trajectories. Norms and cosines of the *means* are estimated without the bias of
    the noise (products of different batches only); signal_to_noise is ‖mean‖² / tr Cov of one batch.
    """
    from mlegfn.objectives.consistency import consistency
    from mlegfn.training.chains import chain_model, sample_chain
    from mlegfn.training.checkpoint import log_variance_of
    from mlegfn.training.mle_gfn import anchor_loss

    state, errors = bench.start(scale, checkpoint)
    state.network.load_state_dict(state.ema_weights())
    model = model_of(state.network.eval(), scale, bench.data.levels, errors)
    kind, tbc = scale.diffusion.variance, scale.finetune.consistency
    model = chain_model(model, tbc, lambda process: log_variance_of(process, kind, errors))
    parameters = list(state.network.parameters())
    sums = {}
    for batch in range(batches):
        draw = generator(0, "alignment", checkpoint, batch)
        x0 = bench.train[torch.randint(len(bench.train), (images,), generator=draw)]
        chain = sample_chain(model, x0, tbc, draw)
        x0, x_prev, x_t, t = chain.rows(slice(None))
        prediction = model.predict(x_t, t)
        log_w = chain.sum_over_steps(model.log_pf(x_prev, x_t, t, prediction)) + chain.fixed_part()
        losses = {
            "tbc": consistency(log_w.view(-1, tbc.trajectories)).mean(),
            "vlb": anchor_loss(model, x0, x_t, t, prediction, "vlb").mean(),
            "simple": anchor_loss(model, x0, x_t, t, prediction, "simple").mean(),
        }
        for name, loss in losses.items():
            gradient = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            flat = [
                torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradient, strict=True)
            ]
            sums.setdefault(name, []).append(torch.cat([g.flatten() for g in flat]).double())
    gradients = {name: torch.stack(rows) for name, rows in sums.items()}

    def product(a, b):
        a, b = gradients[a], gradients[b]
        return ((a.sum(0) @ b.sum(0) - (a * b).sum()) / (batches * (batches - 1))).item()

    result = {"batches": batches, "images": images, "evaluations_a_batch": chain.count}
    for name, rows in gradients.items():
        noise = rows.var(0).sum().item()
        result[name] = {
            "squared_norm": product(name, name),
            "noise": noise,
            "signal_to_noise": product(name, name) / noise,
        }
    for other in ("vlb", "simple"):
        norm = result["tbc"]["squared_norm"] * result[other]["squared_norm"]
        # No cosine is given where the consistency gradient's own norm is lost in its noise.
        result[f"cosine_tbc_{other}"] = product("tbc", other) / norm**0.5 if norm > 0 else None
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[600])
    parser.add_argument("--only", nargs="+", help="groups to run")
    parser.add_argument("--alignment-batches", type=int, default=100)
    parser.add_argument("--out", default="benchmarks/results/recipe_digits.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, base = time.perf_counter(), load().images["digits"]
    bench, results, alignments = Bench(base), [], []
    record = {
        "command": " ".join(sys.argv),
        "finetune": base.finetune.model_dump(),
        "provenance": provenance(),
    }

    def save():
        record.update(results=results, alignment=alignments, wall_seconds=time.perf_counter() - began)
        write_json(options.out, record)

    for checkpoint in options.checkpoints:
        for name in options.only or GROUPS:
            scale = group_scale(base, name)
            controls = {}
            for arm in ("simple", "vlb"):
                controls[arm] = [bench.run(scale, checkpoint, arm, seed) for seed in range(options.seeds)]
                results.append({"checkpoint": checkpoint, "group": name, "arm": arm, "runs": controls[arm]})
                print(
                    checkpoint,
                    name,
                    arm,
                    [round(r.get("bits_per_dim", 99), 4) for r in controls[arm]],
                    flush=True,
                )
            for group, anchor, weight, own in SETTINGS:
                if group != name:
                    continue
                consistency = scale.finetune.consistency.model_copy(update={"weight": weight, **own})
                tuned = scale.finetune.model_copy(update={"anchor": anchor, "consistency": consistency})
                tried = scale.model_copy(update={"finetune": tuned})
                runs = [bench.run(tried, checkpoint, "tbc", seed) for seed in range(options.seeds)]
                entry = {
                    "checkpoint": checkpoint,
                    "group": name,
                    "arm": "tbc",
                    "anchor": anchor,
                    "weight": weight,
                    **own,
                    "runs": runs,
                    "minus_simple": paired(runs, controls["simple"]),
                    "minus_vlb": paired(runs, controls["vlb"]),
                }
                results.append(entry)
                shown = {
                    k: entry[k] and [round(v, 4) for v in (entry[k]["mean"], *entry[k]["interval"])]
                    for k in ("minus_simple", "minus_vlb")
                }
                print(checkpoint, name, anchor, weight, own, shown, flush=True)
                save()
    for name in ("analytic, full chain", "small, full chain", "analytic, subtrajectory 5"):
        if options.alignment_batches and name in (options.only or GROUPS):
            result = alignment(
                bench, group_scale(base, name), options.checkpoints[0], options.alignment_batches
            )
            alignments.append({"group": name, "checkpoint": options.checkpoints[0], **result})
            print(name, alignments[-1], flush=True)
    save()


if __name__ == "__main__":
    main()
