"""TensorBoard's event files, as bytes: scalars, and what its HParams plug-in reads. TensorFlow is not needed.

The one place that imports tensorboard.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from hpo_spark.parameters import Choice, Parameter
from hpo_spark.plain import canonical
from hpo_spark.tracking.names import clean
from hpo_spark.tracking.series import Point
from hpo_spark.trial import Trial, TrialState

__all__ = ["experiment_file", "trial_file"]

_FORMAT = "brain.Event:2"
_SUCCESSES = (TrialState.COMPLETED, "PRUNED")


def experiment_file(space: Mapping[str, Parameter], metrics: Sequence[str], description: str, began: float) -> bytes:
    """The event file that says what is searched and measured.

    Args:
        space: The parameters, by name.
        metrics: Names of scalars, each a column beside the parameters.
        description: For a reader.
        began: When the search began, in seconds since the epoch.
    """
    experiment = api_pb2.Experiment(
        description=clean(description),
        time_created_secs=began,
        hparam_infos=[_hparam(name, parameter) for name, parameter in space.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=clean(name))) for name in metrics],
    )
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    return _file([_hparams_event(metadata.EXPERIMENT_TAG, data, began)])


def trial_file(
    trial: Trial, space: Mapping[str, Parameter], series: Mapping[str, Sequence[Point]], began: float
) -> bytes:
    """The event file of a trial: a session of the experiment, and its scalars.

    Args:
        trial: The trial.
        space: The parameters, by name.
        series: Its scalars, by name.
        began: Stands for the start of a trial that never ran.
    """
    started = began if trial.started is None else trial.started
    ended = trial.ended or started
    # Repeats of one configuration are one group, of which TensorBoard shows the mean.
    first = trial.repeat_of
    start = plugin_data_pb2.SessionStartInfo(
        group_name=f"trial-{trial.number if first is None else first}", start_time_secs=started
    )
    for name, value in trial.params.items():
        kind = _kind(space[name]) if name in space else api_pb2.DATA_TYPE_STRING
        if kind == api_pb2.DATA_TYPE_BOOL:
            start.hparams[clean(name)].bool_value = value
        elif kind == api_pb2.DATA_TYPE_FLOAT64:
            start.hparams[clean(name)].number_value = value
        else:
            start.hparams[clean(name)].string_value = _text(value)
    status = api_pb2.STATUS_SUCCESS if trial.state in _SUCCESSES else api_pb2.STATUS_FAILURE
    if trial.state is TrialState.CANCELLED:
        status = api_pb2.STATUS_UNKNOWN
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=ended)
    begins = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    ends = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    return _file(
        [
            _hparams_event(metadata.SESSION_START_INFO_TAG, begins, started),
            *(_scalar_event(name, point) for name, points in series.items() for point in points),
            _hparams_event(metadata.SESSION_END_INFO_TAG, ends, ended),
        ]
    )


def _hparam(name: str, parameter: Parameter) -> Any:
    info = api_pb2.HParamInfo(name=clean(name), type=_kind(parameter))
    values = parameter.all_values() if isinstance(parameter, Choice) else []
    if info.type == api_pb2.DATA_TYPE_STRING:
        info.domain_discrete.extend([_text(value) for value in values])
    elif values:
        info.domain_discrete.extend(values)
    elif not isinstance(parameter, Choice) and parameter.low is not None and parameter.high is not None:
        info.domain_interval.min_value = parameter.low
        info.domain_interval.max_value = parameter.high
    return info


def _kind(parameter: Parameter) -> Any:
    """The type of a parameter's values: of those that are of several, text."""
    if not isinstance(parameter, Choice):
        return api_pb2.DATA_TYPE_FLOAT64
    kinds = {type(value) for value in parameter.all_values()}
    if kinds == {bool}:
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_FLOAT64 if kinds <= {int, float} else api_pb2.DATA_TYPE_STRING


def _text(value: Any) -> str:
    return clean(value if isinstance(value, str) else canonical(value))


def _hparams_event(tag: str, data: Any, at: float) -> Any:
    summary = summary_pb2.Summary()
    summary.value.add(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
    return event_pb2.Event(wall_time=at, step=0, summary=summary)


def _scalar_event(tag: str, point: Point) -> Any:
    summary = summary_pb2.Summary()
    summary.value.add(tag=clean(tag), simple_value=point.value)
    return event_pb2.Event(wall_time=point.at, step=point.step, summary=summary)


def _file(events: Iterable[Any]) -> bytes:
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(event_pb2.Event(wall_time=time.time(), file_version=_FORMAT).SerializeToString())
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()
