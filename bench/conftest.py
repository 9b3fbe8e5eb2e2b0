"""Peers are held to one thread before any of them is imported."""

from bench import environment

environment.hold_to("", 1)
