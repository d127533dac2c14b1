"""The commands: compose a configuration, build its objects, call the libraries. Only here is Hydra known."""
