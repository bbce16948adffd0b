"""TensorBoard's own readers over a log folder."""

from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups


def scalars(folder):
    """``{tag: [(step, value), ...]}`` of a run, by the event accumulator."""
    accumulator = event_accumulator.EventAccumulator(str(folder), size_guidance={event_accumulator.SCALARS: 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()[event_accumulator.SCALARS]
    }


def hparams(folder):
    """The HParams plug-in's experiment, and ``{group: (params, metrics, status)}``."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(TBContext(logdir=str(folder), data_provider=provider))
    request = api_pb2.GetExperimentRequest(include_metrics=True)
    experiment = get_experiment.Handler(RequestContext(), context, "", request).run()
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100_000,
        include_metrics=True,
        aggregation_type=api_pb2.AGGREGATION_AVG,
        allowed_statuses=api_pb2.Status.values(),
        col_params=[
            *(api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos),
            *(api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos),
        ],
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    return experiment, {
        group.name: (
            {name: _plain(value) for name, value in group.hparams.items()},
            {metric.name.tag: metric.value for metric in group.metric_values},
            {api_pb2.Status.Name(session.status) for session in group.sessions},
        )
        for group in groups
    }


def _plain(value):
    return getattr(value, value.WhichOneof("kind"))
