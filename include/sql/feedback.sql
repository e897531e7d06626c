-- The table of users' thumbs. The names of schema, table and columns are settings (feedback.*).
-- Learning Engine needs only SELECT:  GRANT SELECT ON feedback TO learning_engine;

CREATE TABLE IF NOT EXISTS feedback (
    request_data  jsonb       NOT NULL,
    response_data jsonb       NOT NULL,
    feedback_type varchar(64) NOT NULL,
    -- Without a time zone it is read as UTC; timestamptz works as well.
    created_at    timestamp   NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

COMMENT ON TABLE  feedback               IS 'Users'' thumbs on answers of the served model; one row per vote, never updated';
COMMENT ON COLUMN feedback.request_data  IS 'What the model was asked: an OpenAI chat request, {"prompt": …} or a string';
COMMENT ON COLUMN feedback.response_data IS 'What the model answered: an OpenAI response, {"response": …} or a string';
COMMENT ON COLUMN feedback.feedback_type IS 'thumbs_up or thumbs_down; other spellings are settings';
COMMENT ON COLUMN feedback.created_at    IS 'When the user voted, in UTC';

-- Each window is read as one range of this index. On an append-only table of hundreds of millions of rows, an index
-- USING brin (created_at) is a thousand times smaller and nearly as fast for windows of a day or more.
CREATE INDEX IF NOT EXISTS feedback_created_at ON feedback (created_at);

-- Optional. A user id (feedback.columns.user) enables one vote per user and message, feedback.cap_per_user, and user
-- counts. A conversation id (feedback.columns.conversation) keeps each conversation either in the training set or in
-- the held-out set. Snapshots contain only digests of both.
-- ALTER TABLE feedback ADD COLUMN user_id text, ADD COLUMN conversation_id text;
