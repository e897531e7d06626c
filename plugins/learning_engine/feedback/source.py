"""One interface to read feedback from PostgreSQL or a file."""

from collections.abc import Iterator

import pyarrow as pa

from learning_engine.config.sections import Feedback
from learning_engine.feedback import files, postgres
from learning_engine.feedback.files import FileSource
from learning_engine.feedback.postgres import PostgresSource
from learning_engine.records.contracts import Window

__all__ = ["FileSource", "PostgresSource", "Source", "read"]

Source = PostgresSource | FileSource


def read(source: Source, window: Window, feedback: Feedback) -> Iterator[pa.RecordBatch]:
    """Yield the raw rows (raw.SCHEMA) in [window.start, window.end), ordered by (created_at, message, user).

    Every source returns the same content for the same rows; PostgreSQL is read in constant memory. The first `next`
    connects. Raises FeedbackUnavailable, FeedbackError.
    """
    if isinstance(source, PostgresSource):
        return postgres.read(source, window, feedback)
    return files.read(source, window, feedback)
