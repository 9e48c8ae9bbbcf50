"""Which figures and tables the page has, in its order; what the papers show there; which claims belong to them."""

from pathlib import Path
from typing import NamedTuple

from reproduction import gallery
from reproduction.site import artifacts

__all__ = ["SECTIONS", "Figure", "Section", "Table"]


class Figure(NamedTuple):
    """The files ``results/<scale>/<experiment>/figures/<name>.*``.

    ``paper``: what the paper shows, beside the claims. ``claims``: which claims of the experiment belong here, by
    {key of the test: values}, all of which must fit; {} = every claim, None = no claim. ``charts``: the interactive
    ones that go with it.
    """

    experiment: str
    name: str
    title: str
    paper: str
    claims: dict | None = None
    charts: tuple = ()

    @property
    def id(self):
        return f"{self.experiment}-{self.name}"

    def picture(self, scale):
        """(kind, bytes) at a scale; None where there is none."""
        return artifacts.picture(scale, self.experiment, self.name)

    def caption(self, scale):
        """The path of its caption at a scale."""
        return artifacts.folder(scale, self.experiment) / "figures" / f"{self.name}.md"

    def has(self, experiment, test):
        """Whether a claim of an experiment with this test belongs here."""
        if experiment != self.experiment or self.claims is None:
            return False
        return all(test.get(key) in values for key, values in self.claims.items())


class Table(NamedTuple):
    """The file ``results/<scale>/<experiment>/<name>.md``."""

    experiment: str
    name: str
    title: str

    def path(self, scale):
        return artifacts.folder(scale, self.experiment) / f"{self.name}.md"

    def id(self, scale):
        return f"table-{self.experiment}-{Path(self.name).name}-{scale}"


class Section(NamedTuple):
    id: str
    title: str
    short: str  # in the navigation
    lead: str
    figures: tuple
    tables: tuple

    @property
    def experiments(self):
        return {figure.experiment for figure in self.figures}


DIVERGENCE = ("divergence_below", "divergences_alike")

SECTIONS = (
    Section(
        "likelihood",
        "Figure 1: likelihood along training",
        "Figure 1",
        "A diffusion model is pretrained with several seeds and saved at several checkpoints. From each, arms train on "
        "for equally many steps and network evaluations, on the same data and noise: `simple` with the usual loss; "
        "`simple_tbc`, which is the paper's MLE-GFN, with trajectory-balance consistency added; `reweighted` with a "
        "gradient of the variational bound of the same length in its place; `vlb` on the bound alone, and `vlb_tbc` on "
        "the bound with the consistency term. Each arm's settings were chosen on validation images. Lower is better.",
        (
            Figure(
                "images",
                "figure1",
                "Test NLL against training",
                "Test NLL on CIFAR-10 against training steps: a grey line for the DDPM baseline, and a coloured one from "
                "each of its checkpoints, fine-tuned with MLE-GFN.",
                {},
                ("nll", "terms"),
            ),
        ),
        (
            Table("images", "tables/nll", "NLL of every model"),
            Table("images", "tables/log_p", "log p itself, beside its bound"),
            Table("images", "tables/search", "How each arm's settings were chosen"),
            Table("images", "tables/paired", "Every run, paired"),
        ),
    ),
    Section(
        "planar",
        "Figure 2: seven problems in the plane",
        "Figure 2",
        "A small network learns seven densities in the plane, so that samples can be held beside the truth.",
        (
            Figure(
                "planar",
                "figure2",
                "Data and samples",
                "Ground truth in the top row, samples of MLE-GFN below it, for seven synthetic problems.",
                {},
            ),
        ),
        (Table("planar", "tables/planar", "NLL and distance to the data"),),
    ),
    Section(
        "consistency",
        "What consistency does to a likelihood",
        "Consistency",
        "log p is the bound plus half of the variance of log w, to second order. From the optimum of the bound, arms train "
        "on the bound plus λ times that variance, with λ of either sign, and on IWAE. On P_B consistency is the gradient "
        "of the bound; on bit strings, P_B learns by either. docs/consistency.md derives what must come of both.",
        (
            Figure(
                "consistency",
                "slope",
                "NLL against the variance of log w",
                "A derivation of ours; the paper has no such figure that we hold.",
                {"kind": ["arm_changes", "slope", "odd", "unseen_by_the_bound"]},
            ),
            Figure(
                "consistency",
                "policy",
                "Which policy consistency trains",
                "A derivation of ours; the paper has no such figure that we hold.",
                {"kind": ["policy_below", "policy_alike", "policy_order"]},
            ),
            Figure(
                "consistency",
                "noising",
                "Rates of noising learned by the bound and by consistency",
                "A derivation of ours; the paper has no such figure that we hold.",
                {"kind": ["noising_below", "noising_alike"]},
            ),
        ),
        (
            Table("consistency", "tables/signed", "Every arm"),
            Table("consistency", "tables/optimum", "How near the optimum of the bound was"),
            Table("consistency", "tables/policy", "Every P_B on bit strings"),
            Table("consistency", "tables/noising", "Every arm of learned noising"),
        ),
    ),
    Section(
        "trajectories",
        "Figure 3: trajectories from noise to image",
        "Figure 3",
        "A GFlowNet's trajectory x_T … x_0 is a diffusion model's path from noise to an image.",
        (
            Figure(
                "images",
                "figure3",
                "Trajectories and samples",
                "Generation trajectories x_T … x_0 on image space, and samples. No claim about it can be decided by a "
                "number; how far samples are from the data is measured in the table of sample quality.",
                charts=("slider",),
            ),
        ),
        (Table("images", "tables/quality", "Sample quality"),),
    ),
    Section(
        "families",
        "Table 1: every model family as a GFlowNet",
        "Table 1",
        "The paper's title claim as code: each family is a pair of policies, P_F that generates and P_B that explains, "
        "and for each the GFlowNet's objective is compared with the family's own, computed by another formula.",
        (
            Figure(
                "families",
                "families",
                "Every family, trained and sampled",
                "Table 1 of the paper lists model families as GFlowNets; it has no such figure.",
            ),
        ),
        (
            Table("families", "tables/table1", "Every comparison of Table 1"),
            Table("families", "tables/families", "What the trained families score"),
        ),
    ),
    Section(
        "bits",
        "The plane as 32 bits, beside EB-GFN",
        "32 bits",
        "A point is 32 Gray-coded bits: P_F fills them one by one, P_B empties them. The published numbers beside ours "
        "are those of EB-GFN (Zhang et al. 2022).",
        (
            Figure(
                "bits",
                "bits",
                "Data and samples of each arm",
                "EB-GFN's setup; the paper of MLE-GFN has no figure of it that we hold.",
                {},
            ),
        ),
        (Table("bits", "tables/bits", "NLL and MMD², beside EB-GFN's"),),
    ),
    Section(
        "divergences",
        "Training GFlowNets with divergences",
        "Divergences",
        "The second paper, On Divergence Measures for Training GFlowNets (arXiv 2410.09355): KL, Rényi-α and Tsallis-α "
        "divergences with control variates, beside the balance losses.",
        (
            Figure(
                "divergences",
                "curves",
                "Learning curves",
                "How close each objective comes to its target, and how fast, on discrete and continuous tasks.",
                {
                    "kind": DIVERGENCE,
                    "task": ("hypergrid", "sets", "sequences", "phylogeny", "phylogeny_mlp"),
                },
                ("curves",),
            ),
            Figure(
                "divergences",
                "variance",
                "Control variates",
                "The trace of the gradient's covariance against the batch size, with and without control variates "
                "(its Figure 2).",
                {"kind": ("variance_below",)},
            ),
            Figure(
                "divergences",
                "banana",
                "The banana",
                "Densities that each objective learns on the banana (its Figure 4).",
                {"kind": DIVERGENCE, "task": ("banana",)},
            ),
            Figure(
                "divergences",
                "mixture",
                "The mixture of Gaussians",
                "Densities that each objective learns on a mixture of nine Gaussians.",
                {"kind": DIVERGENCE, "task": ("mixture",)},
            ),
            Figure(
                "divergences",
                "alpha",
                "From mass covering to mode seeking",
                "What α does to a policy that cannot fit its target; the paper says it in words.",
            ),
        ),
        (
            Table("divergences", "report/objectives", "Which objective is how good where"),
            Table("divergences", "tables/divergences", "Every objective, beside the paper's values"),
            Table("divergences", "tables/gradients", "Covariance of the gradients"),
        ),
    ),
    Section(
        "gallery",
        "The diffusion models of the lecture notes",
        "Gallery",
        "From noising to text-to-image, a station at a time, each a model that a laptop can train. Beside each "
        "figure stands what the notes say there; what must be true of it is decided from its numbers.",
        tuple(
            Figure(
                "gallery",
                name,
                title,
                f"The lecture notes: {notes}.",
                {"station": (name,)},
            )
            for name, (title, notes) in gallery.titles().items()
        ),
        tuple(Table("gallery", f"tables/{name}", title) for name, (title, _) in gallery.titles().items()),
    ),
)
