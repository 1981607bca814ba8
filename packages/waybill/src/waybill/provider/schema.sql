CREATE TABLE IF NOT EXISTS payment_intents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    client_secret TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    payment_method TEXT,
    description TEXT,
    return_url TEXT,
    metadata TEXT NOT NULL,
    created INTEGER NOT NULL,
    latest_charge TEXT,
    last_payment_error TEXT,
    canceled_at INTEGER,
    cancellation_reason TEXT
);

-- What a search by metadata reads instead of every intent.
CREATE TABLE IF NOT EXISTS intent_metadata (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    payment_intent TEXT NOT NULL REFERENCES payment_intents (id),
    PRIMARY KEY (key, value, payment_intent)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS charges (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    payment_intent TEXT NOT NULL REFERENCES payment_intents (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    payment_method TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created INTEGER NOT NULL,
    decline_code TEXT,
    amount_refunded INTEGER NOT NULL CHECK (amount_refunded BETWEEN 0 AND amount)
);
CREATE INDEX IF NOT EXISTS charges_of_intent ON charges (payment_intent);
CREATE UNIQUE INDEX IF NOT EXISTS one_paid_charge_per_intent
    ON charges (payment_intent) WHERE decline_code IS NULL;

CREATE TABLE IF NOT EXISTS refunds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    charge TEXT NOT NULL REFERENCES charges (id),
    payment_intent TEXT NOT NULL REFERENCES payment_intents (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    reason TEXT,
    metadata TEXT NOT NULL,
    created INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS refunds_of_intent ON refunds (payment_intent);

CREATE TABLE IF NOT EXISTS idempotency_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created);

-- Only what is still to be delivered.
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY,
    payload TEXT NOT NULL,
    created REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhooks_by_due_time ON webhooks (next_attempt_at);
