"""One fine-tune: a checkpoint of a baseline, trained on in one arm with given settings."""

from dataclasses import dataclass
from pathlib import Path

from mlegfn.training import distributed
from mlegfn.training.checkpoint import build_network, model_of, read_state, write_checkpoint
from mlegfn.training.compute import place
from mlegfn.training.finetuning import arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.scratch import Scratch
from mlegfn.training.state import new_state
from reproduction.images.inputs import baseline, mean_errors
from reproduction.images.live import recorded

__all__ = ["Finetuned", "finetune"]


@dataclass
class Finetuned:
    """What one fine-tune left: ``points`` {step: folder of the checkpoint}, and ``record``, its metrics."""

    points: dict[int, Path]
    record: dict


def finetune(stage, part, arm, settings, step, seed, data, images, points, with_training_state):
    """Train the checkpoint ``step`` of the baseline ``seed`` on to each of ``points``; returns ``Finetuned``.

    part: the ``Part`` in whose scratch folder states and checkpoints lie; settings: the ``ArmSettings`` of the arm.
    Every rank has to call it; the record's evaluations are those of all ranks.
    """
    of_scale = stage.settings
    network = place(build_network(of_scale, data.record), of_scale.compute, images.device)
    state = new_state(network, settings.optimizer)
    errors = read_state(baseline(stage, step, seed), state)["epsilon_errors"]
    state.begin_again()
    model = model_of(network, of_scale, data.levels, errors)
    network.train()
    objective = finetune_gradient(
        model,
        images,
        settings,
        arm,
        (step,),
        seed,
        of_scale.data.flip,
        errors,
        of_scale.diffusion.variance,
        list(network.parameters()),
    )
    scratch = Scratch(part.scratch, of_scale.machine.save_every_minutes, [], objective.evaluations)
    folders = {point: scratch.points / f"step-{point}" for point in points}
    # A state beyond a point is of use only if what was to be written there has been.
    scratch.resume(state, lambda at: all(folder.exists() for point, folder in folders.items() if point < at))
    with recorded(stage, part.name, state, scratch) as (after_step, saver):
        for point, folder in folders.items():
            if state.step > point:
                continue
            train(
                state,
                objective.accumulate,
                settings.optimizer,
                point,
                after_step=after_step,
                description=f"{arm} from {step}, seed {seed}",
                saver=saver,
            )
            errors = mean_errors(state, of_scale, data, images)
            if distributed.is_first():
                last = with_training_state and point == points[-1]
                write_checkpoint(folder, state, of_scale, data.record, errors, with_training_state=last)
    spent = objective.evaluations.of_all_ranks()
    likelihood, term = arm_loss(arm)
    norms = [entry["grad_norm"] for entry in scratch.logs]
    record = {
        "scale": stage.scale,
        "checkpoint": step,
        "arm": arm,
        "seed": seed,
        "steps": points[-1],
        "likelihood_term": likelihood,
        "term_over_chains": term,
        "lambda": settings.consistency.weight,
        "weight_of_term": objective.weight,
        "optimizer": settings.optimizer.model_dump(),
        "clipped_share": sum(norm > settings.optimizer.clip for norm in norms) / len(norms),
        "network_evaluations": {"forward": spent.forward, "backward": spent.backward},
        "log": scratch.logs,
    }
    return Finetuned(folders, record)
