"""Stage ``finetune``: the baselines' checkpoints → each trained on in one arm, saved at several points.

First the arm's settings are chosen on validation images (search.py); a part is one combination of them, or one checkpoint
of one baseline trained on with the chosen ones.

In:  data/<scale>, results/<scale>/images/checkpoints/baseline
Out: results/<scale>/images/checkpoints/<arm>/<step>-<seed>/step-<n>,
     results/<scale>/images/metrics/finetune/<arm>/{choice,search-*,<step>-<seed>}.json
"""

import functools
import shutil

from mlegfn.artifacts import atomic_directory, write_json
from mlegfn.data.resident import Resident
from mlegfn.training import distributed
from mlegfn.training.device import device_of
from reproduction.images import search
from reproduction.images.arm_training import finetune
from reproduction.images.inputs import TRAINING, baseline, finetuned, read_by, splits


def run(stage, arm):
    @functools.cache
    def prepared():
        data, validation = splits(stage)
        return data, Resident(data.train_images, data.levels, device_of(stage.settings)), validation

    trial = search.choose(stage, arm, prepared)
    for step in stage.settings.pretrain.checkpoints:
        for seed in stage.settings.pretrain.seeds:
            part = part_of(stage, arm, step, seed, trial)
            if not part.finished:
                train_arm(stage, part, arm, step, seed, trial, *prepared()[:2])


def part_of(stage, arm, step, seed, trial):
    """The ``Part`` of one fine-tune. Of ``finetune`` it depends on what this arm reads, and on nothing else."""
    own = {
        "arm": arm,
        "checkpoint": step,
        "seed": seed,
        "evaluate_at": stage.settings.finetune.all.evaluate_at,
        "finetune": stage.settings.finetune.arm(arm, trial).model_dump(mode="json"),
    }
    return stage.part(
        f"{step}-{seed}",
        outputs=[
            finetuned(stage, arm, step, seed),
            stage.path("metrics", "finetune", arm, f"{step}-{seed}.json"),
        ],
        settings=read_by(stage.settings, TRAINING, **own),
        inputs=[stage.data, baseline(stage, step, seed)],
    )


def train_arm(stage, part, arm, step, seed, trial, data, images):
    of_arm, points = stage.settings.finetune.arm(arm, trial), stage.settings.finetune.all.evaluate_at
    trained = finetune(stage, part, arm, of_arm, step, seed, data, images, points, True)
    if distributed.is_first():
        checkpoints, metrics = part.outputs
        with atomic_directory(checkpoints) as whole:
            for folder in trained.points.values():
                shutil.copytree(folder, whole / folder.name)
        write_json(metrics, trained.record)
        part.finish()
    distributed.wait()  # a rank that left would take the others' connection along
