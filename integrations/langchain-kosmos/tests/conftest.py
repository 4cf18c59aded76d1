"""Assertions of the shared contract tell what they compared, as those of a test module do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("kosmos_loader.testing.loaders")
