"""Activations and the elementary functions they are made of, each with its backward."""

from fastdl.functional.activation.elementwise import *
