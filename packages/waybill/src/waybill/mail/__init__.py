"""A mail sink for one machine: takes every e-mail by SMTP, delivers none, and shows them all."""
