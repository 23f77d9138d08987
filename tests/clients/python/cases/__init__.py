"""The cases of conformance.py, by subject; importing them registers them."""

from cases import content, failing, owner_level, properties, receiving, sending

__all__ = ["content", "failing", "owner_level", "properties", "receiving", "sending"]
