"""The forward policy on trees: a graph isomorphism network (GIN) on the forest of ``targets.phylogeny``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from mlegfn.targets.phylogeny import Phylogeny

__all__ = ["TreePolicy", "graphs"]


def graphs(states: Tensor, species: int) -> Tensor:
    """float32 [N, M + n + 1, M] of forests [N, n−1]: three matrices that sum over nodes, one below the other.

    The M = 2n − 1 nodes are n species, then n − 1 slots of clades; an unused slot has zeros everywhere.

        [M, M]  over a node and its neighbours, parent and children: A + 1
        [n, M]  the rows of A + 1 at the roots; row i is of the tree that is called i, zero where there is none
        [1, M]  over all nodes that are used
    """
    single = 1 << torch.arange(species, device=states.device)
    clade = torch.cat([single.expand(len(states), -1), states], 1)  # [N, M], 0 where unused
    used = clade > 0
    child, parent = clade[:, :, None], clade[:, None, :]
    above = (child & parent == child) & (child != parent) & used[:, :, None]
    # Clades that hold another are nested, and a subset is a smaller number: the smallest of them is the parent.
    nearest = torch.where(above, parent, 1 << species).amin(2, keepdim=True)
    edge = above & (parent == nearest)
    near = (edge | edge.mT | torch.diag_embed(used)).float()
    named = (clade & -clade)[:, None, :] == single[:, None]
    root = named & (used & ~above.any(2))[:, None, :]
    return torch.cat([near, root.float() @ near, used[:, None, :].float()], 1)


class TreePolicy(nn.Module):
    """A forest → (logits of P_F [N, A], log F(s) − log Z [N]): GIN of Xu et al. (2019, arXiv 1810.00826), ε = 0.

        h_v ← MLP(h_v + Σ_{u ~ v} h_u),     logit(i, j) = MLP(h_i + h_j, g),     log flow = MLP(g)

    with h_i of the root of the tree that is called i, and g = (Σ_v h_v of the last layer but one, Σ_roots h). Nodes
    start as one-hot: one kind for each species, one for all clades. 2 layers of 64, of two-layer perceptrons with
    LeakyReLU; the readouts are ours  # assumed

    The order of a clade's children does not matter, and species are told apart by their kinds alone, not by which
    of them a tree is called after. A root sees ``layers`` edges down its tree, and what is deeper in g only, where
    it is not said which tree it is in. The last layer is computed at the roots only, since nothing reads it
    elsewhere. *stop* has logit 0: it is allowed where nothing else is.

    :param target: a ``targets.phylogeny.Phylogeny``
    """

    pairs: Tensor

    def __init__(self, target: "Phylogeny", hidden: int = 64, layers: int = 2) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"a graph network needs at least one layer, got {layers}")
        self.species, self.hidden = target.species, hidden
        # The first perceptron's first matrix times one-hot nodes is a row for each kind.
        self.kinds = nn.Parameter(torch.randn(self.species + 1, hidden))
        self.shift = nn.Parameter(torch.zeros(hidden))
        widths = [1] + [2] * (layers - 1)
        linear = nn.ModuleList(nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(n)) for n in widths)
        self.layers = cast("Sequence[Sequence[nn.Linear]]", linear)  # a ModuleList does not say of what
        self.of_root = nn.Linear(hidden, hidden, bias=False)
        self.of_graph = nn.Linear(2 * hidden, 2 * hidden)  # for all pairs, and for the flow
        self.pair, self.flow = nn.Linear(hidden, 1, bias=False), nn.Linear(hidden, 1)
        pairs = target.pairs.T
        self.register_buffer("pairs", F.one_hot(pairs, self.species).sum(1).float(), persistent=False)

    def inputs(self, states: Tensor) -> Tensor:
        """float32 [N, 3n, 2n − 1]: ``graphs``."""
        return graphs(states, self.species)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        nodes = 2 * self.species - 1
        near, roots = inputs[:, :nodes], inputs[:, nodes:]
        h = torch.cat([self.kinds[:-1], self.kinds[-1:].expand(self.species - 1, -1)])
        for layer in self.layers:
            last = layer is self.layers[-1]
            z = (roots if last else near) @ h
            if last:
                z, below = z[:, :-1], z[:, -1]
            z = layer[0](z) if len(layer) == 2 else z + self.shift
            h = F.leaky_relu(layer[-1](F.leaky_relu(z)))
        h = h * (roots[:, :-1].amax(2, keepdim=True) > 0)
        of_pairs, of_flow = self.of_graph(torch.cat([below, h.sum(1)], 1)).split(self.hidden, 1)
        merged = self.pairs @ self.of_root(h)
        logits = self.pair(F.leaky_relu(merged + of_pairs[:, None]))[..., 0]
        return F.pad(logits, (0, 1)), self.flow(F.leaky_relu(of_flow))[:, 0]
