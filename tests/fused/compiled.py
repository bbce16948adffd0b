"""What the tests of groups that XLA compiles do inside a trial process."""

import fusings
import numpy as np


def distances_after(others, members, floatx, data):
    """The same by XLA, after another group; and the hidden layers of all tensors that it compiled for."""
    from hpo_spark.fused import program

    program.forget_mlp_programs()
    with fusings.precision(floatx):
        fusings.together(fusings.objective(data=fusings.dataset(**data), jit_compile=True, epochs=1), others)
        found = fusings.distances(members, floatx, data, with_xla=True)
    rooms = [room for one in program._kept.values() for those in one.rooms.values() for room in those]
    return found, [room.n_layers for room in rooms]


def epochs_by_xla(jit_compile, n_epochs, leaves_after=None):
    """For each epoch of 20 steps whether XLA takes them, where 60 steps pay for it; somebody may leave after one."""
    from unittest import mock

    from hpo_spark.fused import perceptrons, program
    from hpo_spark.objectives.mlp import read_params

    content, found, train = fusings.dataset(), [], program.MlpProgram.train
    models = [read_params({"hidden_units": 3}), read_params({"hidden_units": 4})]

    def noted(self, *arguments):
        found.append(self.form.for_xla)
        return train(self, *arguments)

    with mock.patch.object(perceptrons, "_STEPS_THAT_PAY", 60), mock.patch.object(program.MlpProgram, "train", noted):
        stack = perceptrons.Perceptrons.begin(models, [0, 1], content, 0, jit_compile)
        for epoch in range(n_epochs):
            stack.train(content.train, np.arange(200), 10, 20 * (n_epochs - 1 - epoch))
            if epoch == leaves_after:
                stack = stack.taken([0])
    return found


def trained_by_xla(members, trims, **data):
    """Whether XLA reads some inputs only; of two members states at last, first kernels before, and validation logs."""
    from unittest import mock

    from hpo_spark.fused import inputs, perceptrons
    from hpo_spark.objectives.mlp import read_params

    content, models = fusings.dataset(**data), [read_params(params) for params in members]
    numbers = range(len(models))
    trimmed = inputs.trimmed if trims else lambda part: None
    order = np.arange(200)
    with fusings.precision("float64"), mock.patch.object(perceptrons, "trimmed", trimmed):
        stack = perceptrons.Perceptrons.begin(models, numbers, content, 0, jit_compile=True)
        kernels = [variables[0] for variables in stack.variables(numbers)]
        stack.train(content.train, order, 10)
        storage = stack._storage
        stack.train(content.train, order, 10)
        assert stack._storage is storage  # nothing moves between epochs
        stack.change({1: stack.variables([1])[0]}, {0: 0.01})
        stack.train(content.train, order, 10)
        stack = stack.taken(numbers[:2])
        stack.train(content.train, order, 10)
        return storage.form.is_trimmed, stack.states([0, 1]), kernels[:2], stack.evaluate(content.validation, 7)


def shapes_for_xla(members, **data):
    """Of the tensors that XLA gets: it compiles for each set of them."""
    from unittest import mock

    import tensorflow as tf

    from hpo_spark.fused import perceptrons, program
    from hpo_spark.objectives.mlp import read_params

    content, found, train = fusings.dataset(**data), [], program.MlpProgram.train

    def noted(self, columns, at, handles, *others):
        found.extend(tuple(one.shape) for one in tf.nest.flatten((columns, at, others)))
        return train(self, columns, at, handles, *others)

    models = [read_params(params) for params in members]
    with mock.patch.object(program.MlpProgram, "train", noted):
        stack = perceptrons.Perceptrons.begin(models, range(len(models)), content, 0, jit_compile=True)
        stack.train(content.train, np.arange(200), 10)
    return found


def where_xla_refuses():
    """The logs of two epochs of two groups that XLA cannot compile, those without it, and how often XLA was asked.

    It would not read all inputs.
    """
    import tensorflow as tf

    from hpo_spark.fused import perceptrons, program
    from hpo_spark.objectives.mlp import read_params

    content = fusings.dataset(n_features=100, n_empty=40)
    models = [read_params({"hidden_units": 3}), read_params({"hidden_units": 4})]
    found, asked = [], []
    refused = tf.function(lambda *given: tf.strings.as_string(given[4]), jit_compile=True)

    def ask(*given):
        asked.append(given)
        return refused(*given)

    program.forget_mlp_programs()
    try:
        for jit_compile, is_first in ((True, True), (True, False), (False, False)):
            stack = perceptrons.Perceptrons.begin(models, [0, 1], content, 0, jit_compile)
            if is_first:
                inputs = stack._inputs_for_xla(content.train)
                assert inputs.is_trimmed
                storage = stack._move_for_xla(content.train, inputs, (20, 10), 40)
                program.program_of(storage.form, inputs.of(content.train))._steps = ask
            logs = [stack.train(content.train, np.arange(200), 10) for _ in range(2)]
            found.append([value for one in logs for values in one.values() for value in values.tolist()])
    finally:
        program.forget_mlp_programs()
    return *found, len(asked)


def tensors_for_xla(*groups, deterministic=False, n_steps=200):
    """The forms and rooms of some groups, one after the other, that XLA is to compile."""
    from hpo_spark.fused import perceptrons, program
    from hpo_spark.objectives.mlp import read_params

    program.forget_mlp_programs()
    content, found = fusings.dataset(), []
    for members in groups:
        models = [read_params(params) for params in members]
        stack = perceptrons.Perceptrons.begin(models, range(len(models)), content, 0, True, deterministic)
        storage = stack._move_for_xla(content.train, stack._inputs, (20, 10), n_steps)
        found.append((storage.form, storage._layout.room))
    program.forget_mlp_programs()
    return found


def n_programs_made(*groups):
    """How many programs are made for such groups."""
    from hpo_spark.fused import program

    own, made = program.MlpProgram, []

    def counted(form, part):
        made.append(form)
        return own(form, part)

    program.MlpProgram = counted
    try:
        tensors_for_xla(*groups)
    finally:
        program.MlpProgram = own
    return len(made)
