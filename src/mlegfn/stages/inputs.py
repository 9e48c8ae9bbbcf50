"""What several stages read before they call their library function."""

from mlegfn.data import scale_to_unit


def unit_images(levels_images, levels, device):
    """uint8 levels [N, C, H, W] → float32 in [−1, 1] on ``device``."""
    return scale_to_unit(levels_images, levels).to(device)


def mean_errors(state, scale, data, images):
    """[T] E‖ε − ε_θ‖²/d of the EMA network on the first training images, or None where nothing needs it."""
    from mlegfn.diffusion.likelihood import epsilon_errors
    from mlegfn.training.checkpoint import build_network, model_of

    if scale.diffusion.variance != "analytic":
        return None
    averaged = build_network(scale, data.record)
    averaged.load_state_dict(state.ema_weights())
    averaged = averaged.to(images.device).eval()
    model = model_of(averaged, scale, data.levels)
    return epsilon_errors(model, images[: scale.diffusion.variance_samples], batch=scale.nll.batch).tolist()
