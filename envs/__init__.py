"""Gymnasium environments: recorded, simulated and imagined traffic behind one interface."""

__all__: list[str] = []
