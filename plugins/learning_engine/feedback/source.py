"""Where feedback comes from: one interface over PostgreSQL and files."""

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
    """Raw rows (raw.SCHEMA) in [window.start, window.end), ordered by (created_at, message, user): the same rows give
    the same batches' content from every source, in constant memory from PostgreSQL.

    Lazy: the first `next` connects. Raises FeedbackUnavailable, FeedbackError.
    """
    if isinstance(source, PostgresSource):
        return postgres.read(source, window, feedback)
    return files.read(source, window, feedback)
