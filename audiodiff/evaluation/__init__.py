"""Evaluation: estimates against references, generated sounds against real ones, and likelihood."""
