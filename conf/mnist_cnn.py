"""A small convolutional network whose dense layers are searched for, for `mnist_bayes_40.yaml`."""


def build_model(params, context):
    """Build and compile two convolutions with pooling, then dense layers of one width.

    Args:
        params: ``hidden_layers``, ``hidden_units`` and ``activation`` of the dense layers, the last of the convolutions
            too, and Adam's ``learning_rate``.
        context: Tells the shape of the images and the number of classes.

    Returns:
        A compiled ``keras.Sequential``.
    """
    import keras
    from keras import layers

    activation = params["activation"]
    model = keras.Sequential([keras.Input(context.data.input_shape), layers.Reshape((*context.data.input_shape, 1))])
    for filters in (16, 36):
        model.add(layers.Conv2D(filters, 5, padding="same", activation=activation))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    for _ in range(params["hidden_layers"]):
        model.add(layers.Dense(params["hidden_units"], activation=activation))
    model.add(layers.Dense(context.data.n_classes, activation="softmax"))
    model.compile(
        keras.optimizers.Adam(params["learning_rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model
