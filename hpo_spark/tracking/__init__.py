"""Telling others of a search, TensorBoard and MLflow: one that is away delays nothing, and lacks nothing later."""

from hpo_spark.tracking.base import Outcome, StudyFacts, Tracker
from hpo_spark.tracking.choice import TrackingChoice, make_trackers
from hpo_spark.tracking.tracking import Tracking

__all__ = ["Outcome", "StudyFacts", "Tracker", "Tracking", "TrackingChoice", "make_trackers"]
