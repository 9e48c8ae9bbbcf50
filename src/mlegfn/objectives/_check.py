"""What every objective asks of its arguments."""


def log_weights(log_w, least):
    """Refuse log-weights that are not [B, M] with M ≥ ``least`` finite entries."""
    if log_w.ndim != 2:
        raise ValueError(f"log_w must be [B, M] (images × trajectories), got shape {tuple(log_w.shape)}")
    if log_w.shape[1] < least:
        raise ValueError(f"log_w needs at least {least} trajectories an image, got {log_w.shape[1]}")
    # Looking would make the host wait for a GPU; there the training loop finds what is not finite, a little later.
    if not log_w.is_cuda and not log_w.detach().isfinite().all():
        raise ValueError("log_w holds values that are not finite")
