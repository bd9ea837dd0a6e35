"""From predictions to an entry: protocols, labels, checks, metrics, scores."""
