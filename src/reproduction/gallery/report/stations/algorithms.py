"""The figure of Algorithms 1 and 2: the loss, samples, test images."""

from reproduction.drawing import style
from reproduction.gallery.report.sheets import show


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 2.2), layout="constrained")
    loss, samples, data = figure.subplots(1, 3)
    log = result.details["loss"]
    loss.plot([e["step"] for e in log], [e["loss"] for e in log], color="#0072b2")
    loss.set(xlabel="step", yscale="log", title="Algorithm 1: loss")
    show(samples, result.tensors["samples"], 8, "Algorithm 2: samples")
    show(data, result.tensors["data"], 8, "test images")
    return figure


def caption(result):
    settings = result.settings
    return (
        f"Left, the loss along {settings['steps']} steps of {settings['batch']} images (a U-Net of "
        f"{result.details['parameters']:,} parameters, T = {settings['timesteps']}). Middle, samples by Algorithm 2 with the "
        "averaged weights; right, test images, not chosen."
    )
