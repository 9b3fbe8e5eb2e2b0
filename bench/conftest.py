"""Peers are held to one thread before any of them is imported."""

from bench import peers

peers.hold_to("", 1)
