CREATE TABLE events (
	seq     INTEGER PRIMARY KEY,
	model   TEXT NOT NULL,
	rollout INTEGER NOT NULL,
	time    INTEGER NOT NULL,
	kind    TEXT NOT NULL,
	actor   TEXT NOT NULL,
	reason  TEXT NOT NULL,
	data    TEXT NOT NULL
) STRICT;
CREATE INDEX events_model ON events (model, seq);
CREATE TRIGGER events_update BEFORE UPDATE ON events BEGIN
	SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER events_delete BEFORE DELETE ON events BEGIN
	SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER events_insert BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events) BEGIN
	SELECT RAISE(ABORT, 'the journal has no gaps and no doubles');
END;
INSERT INTO events VALUES (1, 'churn', 0, 1774746000000000000, 'seen', 'config', 'the file says from: v1', '{"v":1,"stable":"v1"}');
INSERT INTO events VALUES (2, 'churn', 1, 1774746001000000000, 'started', 'config', 'the file says release: v2', '{"v":1,"stable":"v1","candidate":"v2","definition":"def-v2","steps":[{"kind":"traffic","share":1000,"for_ns":3600000000000},{"kind":"traffic","share":10000}],"key":{"source":"header","name":"x-user-id","absent":"cookie"}}');
INSERT INTO events VALUES (3, 'churn', 1, 1774746002000000000, 'reachable', 'probe', '', '{"v":1}');
PRAGMA application_id = 1751607916;
PRAGMA user_version = 1;
