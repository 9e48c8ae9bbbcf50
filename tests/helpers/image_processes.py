"""Stages of the image experiment in processes of their own (``helpers.killed.start``): ranks, and some that die."""

import os

from helpers.image_stages import run_stage
from helpers.killed import die


def as_rank(rank, size, port, folder, settings, calls):
    """Run stages ``calls`` in ``folder`` as one rank of ``size``, as under torchrun."""
    import torch

    os.chdir(folder)
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for module, item in calls:
        run_stage(module, settings, item, forget=rank == 0)


def pretrain(folder, settings, kill=None):
    """The stage ``pretrain``. kill: "checkpoint" dies when all of the last checkpoint but its record is written."""
    import torch

    from mlegfn.training import checkpoint

    os.chdir(folder)
    torch.set_num_threads(1)
    write = checkpoint.write_json

    def dying(path, value):
        if value["step"] == settings.pretrain.stop:
            die()
        write(path, value)

    if kill == "checkpoint":
        checkpoint.write_json = dying
    run_stage("images.pretrain", settings)


def finetune(folder, settings, kill=None):
    """The stage ``finetune``, arm simple_tbc. kill: dies when so many steps of its trainings are saved."""
    import torch

    from mlegfn.training.scratch import Scratch

    os.chdir(folder)
    torch.set_num_threads(1)
    save, saved = Scratch.save, []

    def dying(scratch, state):
        save(scratch, state)
        saved.append(state.step)
        if len(saved) == kill:
            die()

    Scratch.save = dying
    run_stage("images.finetune", settings, "simple_tbc")
