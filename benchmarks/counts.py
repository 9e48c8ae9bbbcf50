"""How many network evaluations the stages of an image scale ask for: formulas of params.yaml.

They reproduce the counters in results/ (tests/benchmarks/test_budget.py). budget.py makes hours of them.
"""

from dataclasses import dataclass

# What a scale's stages do with a network. The search is a part of the stage `finetune`, log p of both NLL stages.
KINDS = ("pretrain", "search", "finetune", "baseline_nll", "nll", "log_p", "trajectories", "quality")
TEST_IMAGES = {"digits": 360, "cifar10": 10_000}
SAMPLES_AT_ONCE = 256  # mlegfn.quality.draw
LOG_P_BATCH = 1024  # reproduction.images.measuring.log_p


@dataclass
class Work:
    """What is done of one kind in a scale: how many parts (checkpoints, seeds), and network evaluations in states.

    ``forward`` counts every evaluation, ``backward`` those with a gradient (as ``training.mle_gfn.Evaluations``);
    ``passes``: forward passes that must follow each other, whatever the batch.
    """

    parts: int = 0
    forward: int = 0
    backward: int = 0
    passes: int = 0

    def add(self, forward, backward=0, passes=0):
        self.parts += 1
        self.forward += forward
        self.backward += backward
        self.passes += passes


def arms_of(scale):
    """The arms that a scale has settings of."""
    from mlegfn.training.finetuning import ARMS

    return [arm for arm in ARMS if getattr(scale.finetune, arm) is not None]


def settings_of(scale, arm):
    """The ``ArmSettings`` of the first combination that an arm tries; all of them cost the same."""
    return scale.finetune.arm(arm, getattr(scale.finetune, arm).trials()[0])


def variance_evaluations(scale):
    """Evaluations behind one checkpoint's analytic variances (reproduction.images.inputs.mean_errors)."""
    images, limit = scale.diffusion.variance_samples, scale.data.train_limit
    if scale.diffusion.variance != "analytic":
        return 0
    return scale.diffusion.timesteps * (min(images, limit - scale.data.validation) if limit else images)


def chain_evaluations(consistency, term, timesteps):
    """(forward, backward) evaluations of one gradient of a term over chains: ``training.mle_gfn.chain_backward``."""
    steps = timesteps if consistency.chain == "full" else consistency.chain_steps
    width = consistency.images * consistency.trajectories
    exact = consistency.gradient == "exact"
    picked = (steps if exact else min(consistency.gradient_steps, steps)) * width
    one_pass = term == "bound" or (exact and steps * width <= consistency.chunk)
    return picked + (0 if one_pass else steps * width), picked


def finetune_step(settings, arm, timesteps):
    """(forward, backward) evaluations of one step of an arm: ``training.mle_gfn.mle_gfn_backward``.

    settings: what the arm reads (reproduction.images.settings.ArmSettings)
    """
    from mlegfn.training.finetuning import arm_loss, extra_states

    consistency, (_, term) = settings.consistency, arm_loss(arm)
    independent = settings.batch + extra_states(arm, consistency, timesteps)
    with_term = term is not None and consistency.weight != 0
    forward, backward = chain_evaluations(consistency, term, timesteps) if with_term else (0, 0)
    return independent + forward, independent + backward


def length_evaluations(settings, arm, timesteps):
    """(forward, backward) evaluations before the first step, behind μ of `reweighted`; the stages count them nowhere."""
    from mlegfn.training.finetuning import LENGTH_CHAINS, arm_loss

    if arm_loss(arm)[1] != "bound" or settings.consistency.weight == 0:
        return 0, 0
    terms = [chain_evaluations(settings.consistency, term, timesteps) for term in ("consistency", "bound")]
    return tuple(LENGTH_CHAINS * sum(column) for column in zip(*terms))


def finetune(scale, arm):
    """(forward, backward) evaluations that one fine-tune counts."""
    per_step = finetune_step(settings_of(scale, arm), arm, scale.diffusion.timesteps)
    return tuple(count * scale.finetune.all.evaluate_at[-1] for count in per_step)


def whole_finetune(scale, arm, points):
    """The same with what is counted nowhere: μ, and the variances of so many checkpoints."""
    forward, backward = finetune(scale, arm)
    more = length_evaluations(settings_of(scale, arm), arm, scale.diffusion.timesteps)
    return forward + more[0] + points * variance_evaluations(scale), backward + more[1]


def nll_evaluations(scale, images):
    """Evaluations of one NLL of so many images."""
    from mlegfn.diffusion.stratified import allocation
    from mlegfn.training.checkpoint import process_of

    if scale.nll.estimator == "full":
        return images * scale.diffusion.timesteps
    return int(allocation(process_of(scale.diffusion), images, scale.nll.evaluations).sum())


def log_p_work(scale, images):
    """(forward, backward, passes) of the estimate of log p by one model."""
    settings, T = scale.nll.log_p, scale.diffusion.timesteps
    chosen = min(settings.images, images)
    groups = -(-settings.trajectories // max(1, LOG_P_BATCH // chosen))
    return chosen * settings.trajectories * T, 0, groups * T


def test_images(scale, archive_test_images=10_000):
    """How many test images a scale has; an archive's number is not in params.yaml."""
    there = TEST_IMAGES.get(scale.data.source, archive_test_images)
    return min(x for x in (there, scale.data.test_limit, scale.data.per_batch) if x)


def work(scale, archive_test_images=10_000):
    """{kind: Work} of a scale, for each of ``KINDS``."""
    found, images = {kind: Work() for kind in KINDS}, test_images(scale, archive_test_images)
    for _ in scale.pretrain.seeds:
        add_baseline(found, scale, images)
    for arm in arms_of(scale):
        add_search(found["search"], scale, arm)
        for _ in scale.pretrain.seeds:
            add_finetunes(found, scale, arm, images)
    add_samples(found, scale)
    return found


def add_baseline(found, scale, images):
    """One baseline: its segments, each with its variances and its NLL, and log p at the last checkpoint."""
    settings, last = scale.pretrain, 0
    for step in settings.segments:
        trained = (step - last) * settings.batch
        found["pretrain"].add(trained + variance_evaluations(scale), trained)
        found["baseline_nll"].add(nll_evaluations(scale, images))
        last = step
    found["log_p"].add(*log_p_work(scale, images))


def add_search(found, scale, arm):
    """The combinations of an arm, each trained once and measured on validation images."""
    forward, backward = whole_finetune(scale, arm, points=1)
    measured = nll_evaluations(scale, scale.data.validation)
    for _ in getattr(scale.finetune, arm).trials():
        found.add(forward + measured, backward)


def add_finetunes(found, scale, arm, images):
    """An arm's fine-tunes of one baseline, with the NLL of each of their points, and log p of the last of them."""
    points = len(scale.finetune.all.evaluate_at)
    for _ in scale.pretrain.checkpoints:
        found["finetune"].add(*whole_finetune(scale, arm, points))
        found["nll"].add(nll_evaluations(scale, images) * points)
    found["log_p"].add(*log_p_work(scale, images))


def add_samples(found, scale):
    """Figure 3, and the samples that are measured of the baseline and of each arm."""
    T, samples = scale.diffusion.timesteps, scale.quality.samples
    sheet = max(scale.trajectories.shown, scale.trajectories.samples)
    found["trajectories"].add(sheet * T, passes=T)
    for _ in ("baseline", *arms_of(scale)):
        found["quality"].add(samples * T, passes=T * -(-samples // SAMPLES_AT_ONCE))
