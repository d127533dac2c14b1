"""Planners: optimisers of a callable cost of action sequences, and policies that stand in for them."""

__all__: list[str] = []
