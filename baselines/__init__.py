"""Methods of domain adaptation: networks, losses, source weights and training steps."""
