"""The network that six numbers stand for in the tutorial's search, for `mnist_sklearn_mlp.yaml`."""

_SOLVERS = ("sgd", "adam")


def build_estimator(params):
    """Make an ``MLPClassifier``, not fitted, that trains for 10 epochs.

    Args:
        params: ``layer_1`` to ``layer_4``, sizes of hidden layers, rounded, of which the first that is not positive
            ends the list; ``learning_rate_exponent``, to the base of 10; ``solver``, whose floor is 0 for sgd and 1 for
            adam.
    """
    from sklearn.neural_network import MLPClassifier

    sizes = []
    for number in (1, 2, 3, 4):
        size = round(params[f"layer_{number}"])
        if size <= 0:
            break
        sizes.append(size)
    return MLPClassifier(
        sizes,
        solver=_SOLVERS[int(params["solver"])],
        learning_rate_init=10 ** params["learning_rate_exponent"],
        max_iter=10,
    )
