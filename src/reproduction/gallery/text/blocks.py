"""diffusers' names for the parts of a U-Net, from a settings.training.Network."""


def blocks(network, attention="Attn"):
    """Keyword arguments of diffusers' U-Nets; ``attention``: the blocks' kind at the resolutions of network.attention."""
    kinds = [attention if attends else "" for attends in network.attention]
    return {
        "block_out_channels": tuple(network.block_out_channels),
        "layers_per_block": network.layers_per_block,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "norm_num_groups": network.norm_num_groups,
        "dropout": network.dropout,
    }
