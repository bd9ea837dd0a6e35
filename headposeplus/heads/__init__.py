"""Open heads: a source in SynHead's raw layout, rendered from MakeHuman's public-domain assets."""
