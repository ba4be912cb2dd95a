"""Measurements, each with its rival or its limit beside it; never asserted on."""
