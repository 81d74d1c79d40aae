"""One file per run: `get_config()` returns the frozen dataclass of that run's experiment."""
