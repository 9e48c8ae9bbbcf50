"""`mlegfn finetune PATH --out FOLDER`: train a Diffusers DDPM folder on in one arm, and write another."""

from mlegfn.checkpoints import read, write
from mlegfn.errors import UserError
from mlegfn.training.finetuning import ARMS, arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.state import new_state
from reproduction.commands.evaluate import estimator_of, measure, said
from reproduction.commands.inputs import check_new_folder, device_named, first_images, images_of, mean_errors


def run(options, images_block):
    """``images_block``: the block ``images`` of the scale ``options.scale``; the command line's own values go first."""
    device = device_named(options.device)
    out = check_new_folder(options.out, "--out")
    settings, flip = arm_settings(images_block, options), images_block.data.flip
    steps = options.steps or images_block.finetune.all.evaluate_at[-1]
    external = read(
        options.path, options.variance, device=device, levels=options.levels, precision=options.precision
    )
    check_chain(external, settings, options)
    images = images_of(options.images, external)
    x0 = first_images(images, "train", None, device)
    shown = first_images(images, "test", options.evaluate, device) if options.evaluate else None

    def errors_now():
        return mean_errors(
            external, images, options.variance_images, images.levels, device, settings.consistency.chunk
        )

    def evaluate(when):
        if shown is None:
            return
        model = external.model(images.levels)
        estimator = estimator_of(None, model, len(shown), 100)
        measured = measure(model, shown, estimator, path=options.path)
        print(
            f"{when}: {said(measured.per_image)} bits/dim, clipped {said(measured.per_image_clipped)} "
            f"({len(shown)} test images of {images.label}, {estimator}, variance {external.variance}, "
            f"{external.decoder} decoder of {images.levels} levels)",
            flush=True,
        )

    if external.errors is None:
        external.errors = errors_now()
    evaluate("before")
    state, objective = trained(external, x0, settings, flip, steps, images.levels, options)
    weights = state.ema_weights()
    external.network.load_state_dict(weights)
    external.network.eval()
    external.errors = errors_now()
    likelihood, term = arm_loss(options.arm)
    spent = objective.evaluations
    story = {
        "from": options.path,
        "arm": options.arm,
        "likelihood_term": likelihood,
        "term_over_chains": term,
        "lambda": settings.consistency.weight,
        "weight_of_term": objective.weight,
        "seed": options.seed,
        "scale": options.scale,
        "steps": steps,
        "batch": settings.batch,
        "flip": flip,
        "optimizer": settings.optimizer.model_dump(),
        "consistency": settings.consistency.model_dump(),
        "network_evaluations": {"forward": spent.forward, "backward": spent.backward},
    }
    write(out, external, weights, images.record, external.errors, story)
    evaluate("after")
    print(
        f"{out}: {steps} steps of {options.arm} from {options.path}; open it with DDPMPipeline or `mlegfn nll`"
    )


def trained(external, x0, settings, flip, steps, levels, options):
    """Train the network; returns its ``TrainingState`` and the arm's ``Objective``."""
    state = new_state(external.network, settings.optimizer)
    state.ema.optimization_step = 1  # it starts as the weights themselves; a first step would replace it
    external.network.train()
    try:
        objective = finetune_gradient(
            external.model(levels),
            x0,
            settings,
            options.arm,
            ("external",),
            options.seed,
            flip,
            external.errors,
            external.variance,
            list(external.network.parameters()),
        )
        description = f"fine-tuning, {options.arm}"
        train(state, objective.accumulate, settings.optimizer, steps, description=description)
    except (FloatingPointError, ValueError) as error:  # which of the two depends on where it shows first
        if "finite" not in str(error):
            raise
        raise UserError(f"{options.path}: {error} (--lr, now {settings.optimizer.lr:g})") from None
    return state, objective


def arm_settings(images_block, options):
    """The arm's settings at that scale: the first combination that it lists, but for the command line's own values."""
    finetune, arm = images_block.finetune, options.arm
    there = [name for name in ARMS if getattr(finetune, name) is not None]
    if arm not in there:
        raise UserError(
            f"params.yaml: images.{options.scale}.finetune: no arm {arm!r}; there are {', '.join(there)}"
        )
    first = getattr(finetune, arm).trials()[0]
    given = {key: value for key in ("weight", "lr") if (value := getattr(options, key)) is not None}
    if "weight" in given and "weight" not in first:
        raise UserError(f"--weight {options.weight:g}: the arm {arm} has no term over chains; leave it out")
    settings = finetune.arm(arm, first | given)
    return settings if options.batch is None else settings.model_copy(update={"batch": options.batch})


def check_chain(external, settings, options):
    """Refuse a chain for the consistency term that is longer than the network's."""
    tbc, timesteps = settings.consistency, external.scheduler.process.timesteps
    if tbc.chain != "full" and tbc.chain_steps > timesteps:
        raise UserError(
            f"params.yaml: images.{options.scale}.finetune.all.consistency.chain_steps: {tbc.chain_steps} steps, but "
            f"{options.path} has {timesteps}; lower it, or choose another --scale"
        )
