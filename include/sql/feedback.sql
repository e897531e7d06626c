-- The table that users' thumbs are written to. Names of schema, table and columns are settings (feedback.*).
-- Reading needs SELECT alone:  GRANT SELECT ON feedback TO learning_engine;

CREATE TABLE IF NOT EXISTS feedback (
    request_data  jsonb       NOT NULL,
    response_data jsonb       NOT NULL,
    feedback_type varchar(64) NOT NULL,
    -- Without a time zone, and then read as UTC; timestamptz does as well.
    created_at    timestamp   NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

COMMENT ON TABLE  feedback               IS 'Thumbs of users on answers of the served model; one row a vote, never updated';
COMMENT ON COLUMN feedback.request_data  IS 'What the model was asked: an OpenAI chat request, {"prompt": …} or a string';
COMMENT ON COLUMN feedback.response_data IS 'What it answered: an OpenAI response, {"response": …} or a string';
COMMENT ON COLUMN feedback.feedback_type IS 'thumbs_up or thumbs_down; further spellings are settings';
COMMENT ON COLUMN feedback.created_at    IS 'When the user voted, in UTC';

-- A window is one range of this index. On an append-only table of hundreds of millions of rows,
-- USING brin (created_at) is a thousandth of its size and nearly as fast for windows of a day or more.
CREATE INDEX IF NOT EXISTS feedback_created_at ON feedback (created_at);

-- Optional. With the user's id (feedback.columns.user) every user has one vote a message, feedback.cap_per_user
-- works, and users are counted; with the conversation's id (feedback.columns.conversation) no conversation is
-- split between training and held-out set. A snapshot holds both as digests only.
-- ALTER TABLE feedback ADD COLUMN user_id text, ADD COLUMN conversation_id text;
