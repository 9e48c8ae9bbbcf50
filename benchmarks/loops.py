"""The training loops that the benchmarks compare: ours, the plain diffusers loop, and the bare network.

Each is a function of a number of steps; training_step.py runs them at a small scale, gpu/training.py at
DDPM's own size and on a GPU.
"""

import contextlib
import io
from types import SimpleNamespace

SEED = 0


def ours(scale, images, network, model_of_network):
    """A function that advances our training by some steps, as the stage ``pretrain`` does."""
    from mlegfn.training.loop import train
    from mlegfn.training.pretraining import pretrain_gradient
    from mlegfn.training.state import new_state

    settings, logs = scale.pretrain, []
    state = new_state(network, settings.optimizer)
    own = SimpleNamespace(seed=SEED, batch=settings.batch)
    accumulate = pretrain_gradient(model_of_network(network), images, own, scale.data.flip)

    def advance(steps):
        with contextlib.redirect_stderr(io.StringIO()):  # the progress bar is drawn, and not seen
            train(
                state,
                accumulate,
                settings.optimizer,
                state.step + steps,
                after_step=lambda _, entry: logs.append(entry),
            )

    return advance


def stock(scale, images, network, process, fused=None, foreach=False, bf16=False, compiled=False):
    """A function that advances a plain diffusers training by some steps.

    images: float32 in [−1, 1] on the CPU; each batch goes to the network's device, as accelerate sends it.
    bf16: autocast of the network, which is what ``mixed_precision="bf16"`` means; compiled: torch.compile of it.
    """
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel
    from torch.nn.functional import mse_loss
    from torch.utils.data import DataLoader, TensorDataset

    settings = scale.pretrain.optimizer
    device = next(network.parameters()).device
    scheduler = DDPMScheduler(num_train_timesteps=process.timesteps, trained_betas=process.beta[1:].tolist())
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, fused=fused)
    ema = EMAModel(network.parameters(), decay=settings.ema_decay, foreach=foreach)
    loader = DataLoader(TensorDataset(images), batch_size=scale.pretrain.batch, shuffle=True, drop_last=True)
    network.train()
    forward = torch.compile(network) if compiled else network
    torch.manual_seed(SEED)

    def forever():
        while True:
            yield from loader

    batches = forever()

    def advance(steps):
        for _ in range(steps):
            (clean,) = next(batches)
            clean = clean.to(device)
            noise = torch.randn_like(clean)
            t = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), device=device)
            noisy = scheduler.add_noise(clean, noise, t)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                prediction = forward(noisy, t, return_dict=False)[0]
            loss = mse_loss(prediction.float(), noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            ema.step(network.parameters())
            optimizer.zero_grad()
            loss.item()

    return advance


def network_only(network, x, time_, dtype=None, channels_last=False):
    """A function that runs the network forward and backward some times on x."""
    import torch

    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)

    def advance(steps):
        for _ in range(steps):
            network.zero_grad()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bf16"):
                out = network(x, time_, return_dict=False)[0]
            out.float().pow(2).mean().backward()

    return advance
