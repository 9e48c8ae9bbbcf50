"""Trainings of a small network as one rank of several; a forked process imports this by name."""

import json
import os

import torch
from helpers.settings import image_settings, optimizer
from safetensors.torch import save_file

from mlegfn.training import distributed

RECORD = {"shape": [1, 8, 8], "levels": 17, "label": "digits"}
TRAININGS = ("pretrain", "vlb_tbc", "reweighted", "simple")


def as_rank(rank, size, port, folder, dropout):
    """``TRAININGS``, four steps each from equal weights, as one rank of ``size``, as under torchrun."""
    from mlegfn.data import digits
    from mlegfn.data.resident import Resident
    from mlegfn.training.checkpoint import initial_network, model_of
    from mlegfn.training.finetuning import finetune_gradient
    from mlegfn.training.loop import train
    from mlegfn.training.pretraining import pretrain_gradient
    from mlegfn.training.state import new_state

    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.join()
    settings = image_settings(network={"dropout": dropout})
    settings.finetune.consistency.weight, settings.finetune.consistency.chunk = 0.01, 7
    images = Resident(digits.load().train_images[:64], 17, "cpu")
    for name in TRAININGS:
        state, logs, errors = new_state(initial_network(settings, RECORD, 0), optimizer()), [], [0.5] * 8
        model = model_of(state.network, settings, 17, errors)
        if name == "pretrain":
            accumulate, counted = pretrain_gradient(model, images, settings.pretrain, True), None
        else:
            parameters = list(state.network.parameters())
            made = finetune_gradient(
                model, images, settings.finetune, name, (4,), 0, True, errors, "analytic", parameters
            )
            accumulate, counted = made.accumulate, made.evaluations
        train(state, accumulate, optimizer(), 4, after_step=lambda _, entry, logs=logs: logs.append(entry))
        evaluations = counted and vars(counted.of_all_ranks())
        if distributed.is_first():
            save_file(state.tensors(), folder / f"{name}.safetensors")
            (folder / f"{name}.json").write_text(json.dumps([logs, evaluations]))
