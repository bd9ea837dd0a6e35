"""The benchmark: protocols, training, scoring, the scoreboard and the command line `hpp`."""
