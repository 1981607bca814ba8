"""A payment provider for one machine: Stripe's payment intents, refunds and signed webhooks."""
