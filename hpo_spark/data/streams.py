"""Streams (``tf.data.Dataset``) that begin anew for each trial, though the function that made them ran once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hpo_spark.data.dataset import Dataset, Part

__all__ = ["Rewound"]

# Which input of an operation is its generator of seeds.
_GENERATORS = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5, "RandomDatasetV2": 2}
_NO_NAME = "hpo_spark: none yet"

logger = logging.getLogger(__name__)


class Rewound:
    """A dataset of streams as it was when it was made.

    A stream that shuffles would go on from where the last trial left it: the order that comes next is part of its
    state. So what is kept is its graph, from which each trial gets a stream in its first state.

    Args:
        dataset: What was made; nobody has read from it yet.
        make: Makes it again, for streams whose graph TensorFlow cannot write down, such as those of more than 2 GB.
    """

    def __init__(self, dataset: Dataset, make: Callable[[], Dataset]) -> None:
        self._made: Dataset | None = dataset
        self._make = make
        try:
            self._kept: Dataset | None = dataset._map(_frozen)
        except Exception as error:
            logger.debug("the stream is made anew for each trial: %s", error)
            self._kept = None

    def dataset(self) -> Dataset:
        """The dataset, in its first state."""
        if self._kept is not None:
            self._made = None
            return self._kept._map(_thawed)
        made, self._made = self._made, None
        return self._make() if made is None else made


class _Graph:
    """The graph of a stream, in the place of the stream."""

    def __init__(self, stream: Any) -> None:
        import tensorflow as tf

        self._spec = stream.element_spec
        variant = tf.data.experimental.to_variant(stream)
        with tf.device("/CPU:0"):
            # 1: whatever state lies outside, such as Python functions and tables, is in this process all the same.
            graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=1)
            self._graph = tf.constant(_with_own_seeds(graph.numpy()))
        # Python functions inside are known by tokens, as long as the stream that has them lives.
        self._stream = stream

    def stream(self) -> Any:
        import tensorflow as tf

        with tf.device("/CPU:0"):
            variant = tf.raw_ops.DatasetFromGraph(graph_def=self._graph)
        return tf.data.experimental.from_variant(variant, self._spec)


def _with_own_seeds(content: bytes) -> bytes:
    """A graph whose shuffles have generators of their own, seeded as at first.

    What is written down refers to the generator of the stream that was, by its name, and would go on with it. Of a name
    that nothing has, TensorFlow makes a new generator from the seeds beside it.
    """
    from tensorflow.core.framework.graph_pb2 import GraphDef

    graph = GraphDef.FromString(content)
    generators = {node.input[_GENERATORS[node.op]] for node in graph.node if node.op in _GENERATORS}
    for node in graph.node:
        if node.name in generators:
            for handle in node.attr["value"].tensor.resource_handle_val:
                handle.name = _NO_NAME
    written: bytes = graph.SerializeToString()
    return written


def _frozen(part: Part) -> Part:
    return Part(_Graph(part.x)) if part.is_stream else part


def _thawed(part: Part) -> Part:
    return Part(part.x.stream()) if isinstance(part.x, _Graph) else part
