"""Parts of `experiments/rebasin.py`."""
