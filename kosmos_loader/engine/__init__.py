"""KOSMOS-2.5 inference of our own: exact, and near the speed of the memory."""
