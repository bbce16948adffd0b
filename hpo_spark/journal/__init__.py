"""The durable record of a study: what was asked and how it ended, on disk before anybody is told.

records     the format: one JSON object a line, each with a check of itself and of all before
journal     writes it
record      reads it
lease       one driver a folder
"""

from hpo_spark.journal.journal import NAME, Journal
from hpo_spark.journal.lease import Lease
from hpo_spark.journal.record import StudyRecord, has_journal, read_record, read_trials
from hpo_spark.journal.records import FORMAT

__all__ = ["FORMAT", "NAME", "Journal", "Lease", "StudyRecord", "has_journal", "read_record", "read_trials"]
