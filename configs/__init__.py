"""Hydra configuration: YAML files that mirror the packages; each instantiates one class."""
