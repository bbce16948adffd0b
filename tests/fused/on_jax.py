"""Run with KERAS_BACKEND=jax: how far members of a stack are from each alone by `Model.fit`, as JSON."""

import json

import fusings
import gains

from hpo_spark import CannotFuse


def main():
    import keras

    assert keras.backend.backend() == "jax"
    keras.config.set_floatx("float64")
    builds = {**fusings.MODELS, "convolution": fusings.convolution}
    found = {name: distances(build) for name, build in builds.items()}
    found["callbacks"] = fusings.callbacks_alone_and_together(
        [{"early_stopping": {"patience": 1, "restore_best_weights": True}}], fusings.USERS, fusings.convolution
    )[0]
    found["models"] = fusings.models_and_checkpoints(fusings.convolution, fusings.USERS, test_every_trial=True)
    found["tried"] = tried(least_gain=0.0), tried(least_gain=1e9)
    print(json.dumps(found))


def distances(build):
    """Outcomes of the objective together and alone, which on JAX is `Model.fit`; dropout draws nothing here."""
    members = [{**member, "dropout": 0.0} for member in fusings.USERS]
    data = fusings.dataset(dtype="float64")
    if build is fusings.with_embedding:
        data = fusings.dataset_of_numbers(fusings.dataset())
    objective = fusings.objective(build, data, epochs=3)
    outcomes, _ = fusings.together(objective, members)
    expected, _ = fusings.alone(objective, members)
    losses = [[{name: one[name] for name in ("loss", "val_loss")} for one in those] for those in (outcomes, expected)]
    return [fusings.far(one, other) for one, other in zip(*losses, strict=True)]


def tried(least_gain):
    """How far large models are from each alone that must gain so much; or why they are not trained together."""
    from hpo_spark.fused import gain

    gain._MIN_GAIN = least_gain
    members = [{"units": 130, "rate": rate} for rate in (0.01, 0.001)]
    objective = fusings.objective(gains.dense, fusings.dataset(dtype="float64"), epochs=2, batch_size=100)
    try:
        outcomes, _ = fusings.together(objective, members)
    except CannotFuse as error:
        return str(error)
    expected, _ = fusings.alone(objective, members)
    return max(abs(one["loss"] - other["loss"]) for one, other in zip(outcomes, expected, strict=True))


if __name__ == "__main__":
    main()
