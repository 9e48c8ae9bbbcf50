"""`mlegfn finetune PATH --out FOLDER`: train a Diffusers DDPM folder on in one arm, and write another."""

from mlegfn import config
from mlegfn.commands.evaluate import estimator_of, measure, said
from mlegfn.commands.inputs import check_new_folder, device_named, first_images, images_of, mean_errors
from mlegfn.errors import UserError
from mlegfn.external import read, write
from mlegfn.training.finetuning import arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.state import new_state


def run(options):
    device = device_named(options.device)
    out = check_new_folder(options.out, "--out")
    scale = config.load().scale(options.scale)
    settings = settings_of(scale, options)
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
    state = new_state(external.network, settings.optimizer)
    state.ema.optimization_step = 1  # it starts as the weights themselves; a first step would replace it
    accumulate, evaluations = finetune_gradient(
        external.model(images.levels),
        x0,
        settings,
        options.arm,
        ("external",),
        options.seed,
        scale.data.flip,
        external.errors,
        external.variance,
    )
    try:
        train(
            state, accumulate, settings.optimizer, settings.steps, description=f"fine-tuning, {options.arm}"
        )
    except (FloatingPointError, ValueError) as error:  # which of the two depends on where it shows first
        if "finite" not in str(error):
            raise
        raise UserError(f"{options.path}: {error} (--lr, now {settings.optimizer.lr:g})") from None
    weights = state.ema_weights()
    external.network.load_state_dict(weights)
    external.network.eval()
    external.errors = errors_now()
    likelihood, weight = arm_loss(options.arm, settings)
    story = {
        "from": options.path,
        "arm": options.arm,
        "likelihood_term": likelihood,
        "lambda": weight,
        "seed": options.seed,
        "scale": options.scale,
        "steps": settings.steps,
        "batch": settings.batch,
        "flip": scale.data.flip,
        "optimizer": settings.optimizer.model_dump(),
        "consistency": settings.consistency.model_dump(),
        "network_evaluations": {"forward": evaluations.forward, "backward": evaluations.backward},
    }
    write(out, external, weights, images.record, external.errors, story)
    evaluate("after")
    print(
        f"{out}: {settings.steps} steps of {options.arm} from {options.path}; open it with DDPMPipeline or `mlegfn nll`"
    )


def settings_of(scale, options):
    """The scale's ``finetune`` block with the command line's own values in place of some."""
    given = {name: value for name in ("steps", "batch") if (value := getattr(options, name)) is not None}
    optimizer = scale.finetune.optimizer
    if options.lr is not None:
        optimizer = optimizer.model_copy(update={"lr": options.lr})
    return scale.finetune.model_copy(update={**given, "optimizer": optimizer})


def check_chain(external, settings, options):
    """Refuse a chain for the consistency term that is longer than the network's."""
    tbc, timesteps = settings.consistency, external.scheduler.process.timesteps
    if tbc.chain != "full" and tbc.chain_steps > timesteps:
        raise UserError(
            f"params.yaml: scales.{options.scale}.finetune.consistency.chain_steps: {tbc.chain_steps} steps, but "
            f"{options.path} has {timesteps}; lower it, or choose another --scale"
        )
