"""The dataset toolkit: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead."""

__version__ = "0.1.0"
