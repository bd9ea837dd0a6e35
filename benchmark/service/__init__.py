"""The scoreboard as a service: submissions over HTTP, scored on secret labels."""
