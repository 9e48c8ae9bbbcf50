"""Trainings in processes of their own, which kill themselves with SIGKILL or are killed by the test.

A fork server imports torch once; each training is a fork of it, so that nothing of an earlier one is left.
"""

import json
import multiprocessing
import os
import signal
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "torch._dynamo",
        "diffusers.models.unets.unet_2d",
        "diffusers.pipelines.ddpm.pipeline_ddpm",
        "diffusers.schedulers.scheduling_ddpm",
        "safetensors.torch",
        "mlegfn.training.pretraining",
    ]
)


def start(target, *arguments):
    """Start ``target(*arguments)`` in a process of its own."""
    process = SERVER.Process(target=target, args=arguments)
    process.start()
    return process


def ended(process):
    """Wait for a process; its exit code (−9: SIGKILL)."""
    process.join(120)
    if process.is_alive():
        process.kill()
        raise AssertionError("the training hangs")
    return process.exitcode


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def tiny_training(folder, steps, kill=None, wrong=None):
    """Train a tiny network with dropout to ``steps``, saving every third step, and write its final state.

    kill: (step, "gradient") between the gradient and the update of that 0-based step, (step, "saving") in the
    middle of writing the state after it. wrong: what a resume forgets: see ``spoil``.
    """
    import safetensors.torch
    import torch
    from helpers.exact import TinyNetwork, linear_process
    from helpers.settings import optimizer as optimizer_settings

    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.diffusion.variances import fixed_log_variance
    from mlegfn.randomness import generator
    from mlegfn.training import pretraining
    from mlegfn.training.loop import train
    from mlegfn.training.scratch import Scratch
    from mlegfn.training.state import new_state

    torch.set_num_threads(1)
    folder = Path(folder)
    network = TinyNetwork(dropout=0.3, dtype=torch.float32)
    process = linear_process(6)
    model = DenoisingModel(network, process, fixed_log_variance(process, "small"))
    optimizer = optimizer_settings(lr=0.01, warmup=4, ema_decay=0.8)
    state = new_state(network, optimizer)
    images = torch.rand(10, 1, 2, 2, generator=generator(0, "images")) * 2 - 1

    from types import SimpleNamespace

    gradient = pretraining.pretrain_gradient(model, images, SimpleNamespace(seed=0, batch=4), flip=True)
    logs = []
    scratch = Scratch(folder / "scratch", every_minutes=0, logs=logs)
    scratch.resume(state)
    offset = spoil(state, wrong) if state.step else 0

    def accumulate(step):
        entry = gradient(step + offset)
        if kill == (step, "gradient"):
            die()
        return entry

    def after_step(state, entry):
        logs.append(entry)
        if state.step % 3 == 0 or kill == (state.step - 1, "saving"):
            if kill == (state.step - 1, "saving"):
                safetensors.torch.save_file = half_a_file
            scratch.save(state)

    train(state, accumulate, optimizer, steps, after_step=after_step)
    safetensors.torch.save_file(state.tensors(), folder / "final.safetensors")
    (folder / "logs.json").write_text(json.dumps(logs))


def half_a_file(tensors, path):
    """A power cut while a state is written."""
    Path(path).write_bytes(b"\x40\0\0\0\0\0\0\0{")
    die()


def spoil(state, wrong):
    """Make a resume wrong; returns the offset of its steps."""
    import torch

    from mlegfn.training import pretraining

    if wrong == "moments":
        for moments in state.optimizer.state.values():
            moments["exp_avg"].zero_(), moments["exp_avg_sq"].zero_(), moments["step"].zero_()
    elif wrong == "adam step":
        for moments in state.optimizer.state.values():
            moments["step"].zero_()
    elif wrong == "ema":
        with torch.no_grad():
            for shadow, p in zip(state.ema.shadow_params, state.network.parameters(), strict=True):
                shadow.copy_(p)
    elif wrong == "ema step":
        state.ema.optimization_step = 0
    elif wrong == "dropout":
        pretraining.seed_layers = lambda *key: None
    return 1 if wrong == "noise" else 0
