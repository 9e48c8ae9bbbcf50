"""Which figures and tables the page has, in its order; what the papers show there; which claims belong to them."""

from typing import NamedTuple

from mlegfn import gallery


class Figure(NamedTuple):
    """A file ``results/<scale>/figures/<name>.*`` of ``stage``.

    ``paper``: what the paper shows, beside the claims; ``claims``: (kinds of test, tasks or stations, None for all);
    ``charts``: the interactive ones in charts.py or frames.py that go with it; ``item``: what the stage is of, where
    a scale has several.
    """

    name: str
    stage: str
    title: str
    paper: str
    claims: tuple = ((), None)
    charts: tuple = ()
    item: str | None = None

    def at(self, scale):
        """The name of the stage at a scale."""
        return stage_at(self.stage, scale, self.item)

    def has(self, test):
        """Whether a claim with this test belongs here."""
        kinds, tasks = self.claims
        about = getattr(test, "task", None) or getattr(test, "station", None)
        return test.kind in kinds and (tasks is None or about in tasks)


def stage_at(stage, scale, item):
    return f"{stage}@{scale}" + (f"-{item}" if item else "")


class Page(NamedTuple):
    """A table ``results/<scale>/<path>`` of ``stage``."""

    path: str
    stage: str
    title: str
    item: str | None = None

    def at(self, scale):
        """The name of the stage at a scale."""
        return stage_at(self.stage, scale, self.item)


class Section(NamedTuple):
    id: str
    title: str
    short: str  # in the navigation
    lead: str
    figures: tuple
    tables: tuple


DIVERGENCE = ("divergence_below", "divergences_alike")

SECTIONS = (
    Section(
        "likelihood",
        "Figure 1: likelihood along training",
        "Figure 1",
        "A diffusion model is pretrained and saved at several checkpoints. From each, three arms train on for equally "
        "many steps, on the same data and noise: `simple` with the usual loss, `vlb` on the variational bound, and "
        "`tbc`, which is MLE-GFN: the bound plus trajectory-balance consistency. Lower is better.",
        (
            Figure(
                "figure1",
                "figures",
                "Test NLL against training",
                "Test NLL on CIFAR-10 against training steps: a grey line for the DDPM baseline, and a coloured one from "
                "each of its checkpoints, fine-tuned with MLE-GFN.",
                (("finetune_below",), None),
                ("nll", "terms"),
            ),
        ),
        (
            Page("tables/nll.md", "tables", "NLL of every model"),
            Page("tables/paired.md", "tables", "Every run, paired"),
        ),
    ),
    Section(
        "planar",
        "Figure 2: seven problems in the plane",
        "Figure 2",
        "A small network learns seven densities in the plane, so that samples can be held beside the truth.",
        (
            Figure(
                "figure2",
                "figures",
                "Data and samples",
                "Ground truth in the top row, samples of MLE-GFN below it, for seven synthetic problems.",
                (("planar_below", "planar_within_floor"), None),
            ),
        ),
        (Page("tables/planar.md", "tables", "NLL and distance to the data"),),
    ),
    Section(
        "trajectories",
        "Figure 3: trajectories from noise to image",
        "Figure 3",
        "A GFlowNet's trajectory x_T … x_0 is a diffusion model's path from noise to an image.",
        (
            Figure(
                "figure3",
                "figures",
                "Trajectories and samples",
                "Generation trajectories x_T … x_0 on image space, and samples. No claim about it can be decided by a "
                "number; how far samples are from the data is measured in the table of sample quality.",
                charts=("slider",),
            ),
        ),
        (Page("tables/quality.md", "tables", "Sample quality"),),
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
            Page("tables/table1.md", "families", "Every comparison of Table 1"),
            Page("tables/families.md", "families", "What the trained families score"),
        ),
    ),
    Section(
        "discrete",
        "The plane as 32 bits, beside EB-GFN",
        "32 bits",
        "A point is 32 Gray-coded bits: P_F fills them one by one, P_B empties them. The published numbers beside ours "
        "are those of EB-GFN (Zhang et al. 2022).",
        (
            Figure(
                "discrete",
                "discrete_report",
                "Data and samples of each arm",
                "EB-GFN's setup; the paper of MLE-GFN has no figure of it that we hold.",
                (("discrete_at_most",), None),
            ),
        ),
        (Page("tables/discrete.md", "discrete_report", "NLL and MMD², beside EB-GFN's"),),
    ),
    Section(
        "divergences",
        "Training GFlowNets with divergences",
        "Divergences",
        "The second paper, On Divergence Measures for Training GFlowNets (arXiv 2410.09355): KL, Rényi-α and Tsallis-α "
        "divergences with control variates, beside the balance losses.",
        (
            Figure(
                "divergences-curves",
                "divergences_report",
                "Learning curves",
                "How close each objective comes to its target, and how fast, on discrete and continuous tasks.",
                (DIVERGENCE, ("hypergrid", "sets", "sequences", "phylogeny", "phylogeny_mlp")),
                ("curves",),
            ),
            Figure(
                "divergences-variance",
                "divergences_report",
                "Control variates",
                "The trace of the gradient's covariance against the batch size, with and without control variates "
                "(its Figure 2).",
                (("variance_below",), None),
            ),
            Figure(
                "divergences-banana",
                "divergences_report",
                "The banana",
                "Densities that each objective learns on the banana (its Figure 4).",
                (DIVERGENCE, ("banana",)),
            ),
            Figure(
                "divergences-mixture",
                "divergences_report",
                "The mixture of Gaussians",
                "Densities that each objective learns on a mixture of nine Gaussians.",
                (DIVERGENCE, ("mixture",)),
            ),
            Figure(
                "divergences-alpha",
                "divergences_report",
                "From mass covering to mode seeking",
                "What α does to a policy that cannot fit its target; the paper says it in words.",
            ),
        ),
        (
            Page(
                "report/divergences-objectives.md", "divergences_report", "Which objective is how good where"
            ),
            Page("tables/divergences.md", "divergences_report", "Every objective, beside the paper's values"),
            Page("tables/divergences-gradients.md", "divergences_report", "Covariance of the gradients"),
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
                f"gallery-{name}",
                "station_figure",
                title,
                f"The lecture notes: {notes}.",
                (("gallery_below",), (name,)),
                item=name,
            )
            for name, (title, notes) in gallery.titles().items()
        ),
        tuple(
            Page(f"tables/gallery-{name}.md", "station_figure", title, item=name)
            for name, (title, _) in gallery.titles().items()
        ),
    ),
)
