"""The one training loop: every stage that trains gives it a function that accumulates a gradient."""

import torch
from tqdm import tqdm

__all__ = ["learning_rate", "train"]


def learning_rate(settings, step):
    """lr of 0-based ``step``: linear from 0 over ``warmup`` steps, then constant (DDPM's code)."""
    return settings.lr * min(1.0, step / settings.warmup) if settings.warmup else settings.lr


def train(state, accumulate, settings, stop, start=0, after_step=None, description="training"):
    """Advance ``state`` (TrainingState) to step ``stop``; resuming is calling it again.

    accumulate(step) leaves a gradient in the network's parameters and returns a dict of numbers;
    it must draw everything from (seed, step). ``settings``: config.Optimizer; its warm-up counts
    from step ``start``. after_step(state, logs) is called when a step is complete.
    Raises FloatingPointError when the gradient is not finite: nothing is written then.
    """
    state.network.train()
    parameters = list(state.network.parameters())  # walked once, not twice a step
    bar = tqdm(
        range(state.step, stop),
        desc=description,
        unit="step",
        initial=state.step,
        total=stop,
        mininterval=1.0,
    )
    for step in bar:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(settings, step - start)
        state.optimizer.zero_grad(set_to_none=True)
        logs = accumulate(step)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        if not norm.isfinite():
            raise FloatingPointError(
                f"the gradient is not finite at step {step}; lower the learning rate or λ"
            )
        state.optimizer.step()
        state.ema.step(parameters)
        state.step = step + 1
        logs["grad_norm"] = norm.item()
        bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
        if after_step is not None:
            after_step(state, logs)
    return state
