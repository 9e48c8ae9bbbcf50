"""What one state costs a network: floating-point operations, and bytes kept for the backward pass."""


def unet_of(scale, shape, device):
    """The scale's U-Net with torch's initial weights on ``device``; ``shape`` is [C, H, W] of its images."""
    import torch

    from mlegfn.networks.unet import build_unet

    with torch.device(device):
        return build_unet(
            shape[0],
            shape[1],
            learned_variance=scale.diffusion.variance == "learned",
            **scale.network.model_dump(),
        )


def flops(scale, shape):
    """{"forward", "forward_backward"}: operations a state, two for a multiply-add, counted by torch's
    flop counter on tensors without content; norms and activations are not counted, as is usual."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = unet_of(scale, shape, "meta")
    x, time = torch.empty(1, *shape, device="meta"), torch.zeros(1, dtype=torch.long, device="meta")
    counted = {}
    for name in ("forward", "forward_backward"):
        with FlopCounterMode(display=False) as counter:
            out = network(x, time, return_dict=False)[0]
            if name == "forward_backward":
                out.sum().backward()
        counted[name] = counter.get_total_flops()
    return counted


def saved_bytes(network, x, time, bf16):
    """Bytes that autograd keeps for the backward pass of one forward: {"activations", "weights"}.

    Every storage once. ``weights`` are the parameters and, under autocast, their bf16 copies: they do not grow
    with the batch. What an operation needs while it runs (workspaces, gradients) is not in it.
    """
    import torch

    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    weight_shapes = {tuple(p.shape) for p in network.parameters()}
    storages, alive = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        alive.append(tensor)  # or its address would be given to the next tensor
        kind = (
            "weights"
            if storage.data_ptr() in parameters or tuple(tensor.shape) in weight_shapes
            else "activations"
        )
        storages[storage.data_ptr()] = (kind, storage.nbytes())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(x.device.type, torch.bfloat16, enabled=bf16),
    ):
        out = network(x, time, return_dict=False)[0]
    total = {"activations": 0, "weights": 0}
    for kind, size in storages.values():
        total[kind] += size
    del out
    return total
