"""The build: from raw copies to Biwi+, SynHead+, SynBiwi+ and SynHead++."""
