"""Stage ``alignment``: how the bound and the variance of log w pull at a baseline, before any fine-tuning.

Consistency lowers −log p ≈ N − ½V to first order only where ∇N·∇V > ½‖∇V‖² (docs/consistency.md). A part is one checkpoint of
one baseline: N = −E[log w] and V = E Var[log w] of training images, for every kind of reverse variances that its network can
have. All kinds see the same states and trajectories, which P_B draws. N is a sum over t, so its gradient is estimated from
independent states, each of another image; V needs joint trajectories, and its gradient is the noisy one.

In:  data/<scale>, results/<scale>/images/checkpoints/baseline
Out: results/<scale>/images/metrics/alignment/<step>-<seed>.json
"""

import torch

from mlegfn.artifacts import write_json
from mlegfn.data.resident import unit_images
from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import build_network, log_variance_of, process_of, read_state
from mlegfn.training.device import device_of
from mlegfn.training.joint import joint_log_weights, mean_product
from mlegfn.training.pretraining import anchor_batch
from mlegfn.training.state import new_state
from reproduction.images.inputs import baseline, read_by, splits

__all__ = ["run"]


def run(stage):
    parts = {
        (step, seed): part_of(stage, step, seed)
        for step in stage.settings.pretrain.checkpoints
        for seed in stage.settings.pretrain.seeds
    }
    unfinished = {key: part for key, part in parts.items() if not part.finished}
    if not unfinished:
        return
    data, _ = splits(stage)
    images = unit_images(data.train_images, data.levels, device_of(stage.settings))
    for (step, seed), part in unfinished.items():
        write_json(part.outputs[0], measured(stage, step, seed, data, images))
        part.finish()


def part_of(stage, step, seed):
    """The ``Part`` of one checkpoint of one baseline."""
    settings = stage.settings
    own = {"checkpoint": step, "seed": seed, "alignment": settings.alignment.model_dump(mode="json")}
    return stage.part(
        f"{step}-{seed}",
        outputs=[stage.path("metrics", "alignment", f"{step}-{seed}.json")],
        settings=read_by(settings, {"network": True, "diffusion": True, "data": {"validation"}}, **own),
        inputs=[stage.data, baseline(stage, step, seed)],
    )


def measured(stage, step, seed, data, images):
    """The JSON of one checkpoint: for each kind of variances the products of the two gradients."""
    settings, own = stage.settings, stage.settings.alignment
    network = averaged_network(stage, step, seed, data, images.device)
    parameters, process = list(network.parameters()), process_of(settings.diffusion)

    def model_with(table):
        return DenoisingModel(
            lambda x, time: network(x, time, return_dict=False)[0],
            process,
            table,
            data.levels,
            settings.diffusion.decoder,
        )

    errors = None
    if "analytic" in own.variances:
        some = images[: settings.diffusion.variance_samples]
        errors = epsilon_errors(model_with(log_variance_of(process, "small", None)), some, batch=1024).mean(1)
    kinds = {}
    for kind in own.variances:
        model = model_with(log_variance_of(process, kind, errors))
        of_bound = [
            gradient(bound(model, images, own.states, seed, (step, number)), parameters)
            for number in range(own.bound_batches)
        ]
        of_variance = [
            gradient(variance(model, images, own, seed, (step, number)), parameters)
            for number in range(own.batches)
        ]
        kinds[kind] = products(torch.stack(of_bound), torch.stack(of_variance))
        print(f"baseline {step}, seed {seed}, {kind}: {kinds[kind]}", flush=True)
    return {
        "scale": stage.scale,
        "checkpoint": step,
        "seed": seed,
        "timesteps": settings.diffusion.timesteps,
        "trained_variance": settings.diffusion.variance,
        **own.model_dump(exclude={"variances"}),
        "variances": kinds,
    }


def bound(model, images, states, seed, key):
    """[], nats an image: N from ``states`` independent states (x_t, t), with a graph."""
    drawn = anchor_batch(model.process, images, seed, ("alignment", key[0]), key[1], states, False)
    return model.bound_terms(drawn.x0, drawn.x_t, drawn.t).mean() * model.timesteps


def variance(model, images, settings, seed, key):
    """[], nats²: V from joint trajectories of ``settings.images`` images, with a graph."""
    draw = generator(seed, "alignment-chains", *key)
    rows = torch.randint(len(images), (settings.images,), generator=draw)  # batches are independent
    return consistency(joint_log_weights(model, images[rows], settings.trajectories, draw)).mean()


def gradient(value, parameters):
    """[P] float64: the gradient of ``value`` in all parameters, one after the other."""
    parts = torch.autograd.grad(value, parameters)
    return torch.cat([part.flatten() for part in parts]).double().cpu()


def products(of_bound, of_variance):
    """‖∇N‖², ∇N·∇V and ‖∇V‖² from independent estimates [G, P], [H, P] of the two gradients, without bias."""
    return {
        "bound_squared": mean_product(of_bound, of_bound),
        "bound_variance": float(of_bound.mean(0) @ of_variance.mean(0)),
        "variance_squared": mean_product(of_variance, of_variance),
    }


def averaged_network(stage, step, seed, data, device):
    """The baseline's network with its averaged weights, in eval mode; its parameters take gradients."""
    network = build_network(stage.settings, data.record).eval().to(device)
    state = new_state(network, stage.settings.pretrain.optimizer)
    read_state(baseline(stage, step, seed), state)
    network.load_state_dict(state.ema_weights())
    return network
