"""Stage ``finetune``: a baseline checkpoint → the same trained on in one arm, saved at several points.

In:  data/<scale>, results/<scale>/checkpoints/pretrain-<step>
Out: results/<scale>/checkpoints/finetune-<step>-<arm>-<seed>/step-<n>, results/<scale>/metrics/finetune/….json
"""

from mlegfn import paths
from mlegfn.artifacts import atomic_directory, write_json
from mlegfn.data import load_images
from mlegfn.stages.inputs import mean_errors, unit_images
from mlegfn.training.checkpoint import build_network, model_of, read_state, write_checkpoint
from mlegfn.training.device import device_of
from mlegfn.training.finetuning import arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.state import new_state


def run(scale_name, scale, step, arm, seed):
    settings, device = scale.finetune, device_of(scale)
    data = load_images(paths.data(scale_name))
    images = unit_images(data.train_images, data.levels, device)
    network = build_network(scale, data.record).to(device)
    state = new_state(network, settings.optimizer)
    record = read_state(paths.pretrained(scale_name, step), state)
    state.step = 0  # counts fine-tuning steps from here on
    errors = record["epsilon_errors"]

    model = model_of(network, scale, data.levels, errors)
    variance = scale.diffusion.variance
    accumulate, evaluations = finetune_gradient(
        model, images, settings, arm, (step,), seed, scale.data.flip, errors, variance
    )
    logs = []
    with atomic_directory(paths.finetuned(scale_name, step, arm, seed)) as folder:
        for point in settings.evaluate_at:
            train(
                state,
                accumulate,
                settings.optimizer,
                point,
                after_step=lambda _, entry: logs.append(entry),
                description=f"{arm} from {step}, seed {seed}",
            )
            write_checkpoint(
                folder / f"step-{point}",
                state,
                scale,
                data.record,
                mean_errors(state, scale, data, images),
                with_training_state=point == settings.evaluate_at[-1],
            )
    likelihood, weight = arm_loss(arm, settings)
    write_json(
        paths.results(scale_name, "metrics", "finetune", f"{step}-{arm}-{seed}.json"),
        {
            "scale": scale_name,
            "checkpoint": step,
            "arm": arm,
            "seed": seed,
            "steps": state.step,
            "likelihood_term": likelihood,
            "lambda": weight,
            "network_evaluations": {"forward": evaluations.forward, "backward": evaluations.backward},
            "images_seen": state.step * (settings.batch + settings.consistency.images),
            "log": logs,
        },
    )
