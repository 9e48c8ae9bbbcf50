"""`mlegfn nll PATH`: test bits/dim of any Diffusers DDPM folder or hub id."""

from mlegfn.artifacts import write_json
from mlegfn.checkpoints import read
from reproduction.commands.evaluate import estimator_of, mean_and_error, measure, said
from reproduction.commands.inputs import (
    check_file,
    device_named,
    first_images,
    images_of,
    mean_errors,
    variance_source,
)


def run(options):
    device = device_named(options.device)
    out = check_file(options.json, "--json") if options.json else None
    external = read(
        options.path, options.variance, options.decoder, options.levels, device, options.precision
    )
    images = images_of(options.images, external)
    x0 = first_images(images, "test", options.limit, device)
    if external.variance == "analytic" and external.errors is None:
        external.errors = mean_errors(
            external, images, options.variance_images, images.levels, device, options.batch
        )
    model = external.model(images.levels)
    estimator = estimator_of(options.estimator, model, len(x0), options.evaluations)
    measured = measure(model, x0, estimator, options.evaluations, options.seed, options.batch, options.path)
    source = variance_source(options, external)
    print(
        f"{options.path}: {said(measured.per_image)} bits/dim, clipped {said(measured.per_image_clipped)} "
        f"({len(x0)} test images of {images.label}, T = {model.timesteps}, {measured.evaluations:g} evaluations an "
        f"image, {estimator}; variance {external.variance} by {source}, {external.decoder} decoder of "
        f"{images.levels} levels)"
    )
    if out:
        write_json(out, record(options, external, images, estimator, measured))


def record(options, external, images, estimator, measured):
    """The JSON of one measurement."""
    mean, error = mean_and_error(measured.per_image)
    clipped, clipped_error = mean_and_error(measured.per_image_clipped)
    return {
        "path": options.path,
        "bits_per_dim": mean,
        "standard_error": error,
        "bits_per_dim_clipped": clipped,
        "standard_error_clipped": clipped_error,
        "estimator_standard_error": measured.standard_error,  # of the mean over these images
        "images": len(measured.per_image),
        "dataset": images.record,
        "timesteps": external.scheduler.process.timesteps,
        "estimator": estimator,
        "network_evaluations_per_image": measured.evaluations,
        "seed": options.seed,
        "variance": external.variance,
        "variance_source": variance_source(options, external),
        "epsilon_errors": external.errors if external.variance == "analytic" else None,
        "decoder": external.decoder,
        "precision": options.precision,
        "prediction": external.scheduler.prediction,
        "per_image": measured.per_image.tolist(),
        "per_image_clipped": measured.per_image_clipped.tolist(),
        "terms": measured.terms.tolist(),
    }
