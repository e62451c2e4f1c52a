"""XGBoost without scikit-learn.

xgboost imports scikit-learn whenever it is there, for wrapper classes that serving never touches: 1.5 seconds and
80 MB for every replica and every trial process. It is hidden for the length of the import only, so that a
project's own features may still use it.
"""

from __future__ import annotations

import sys
from typing import cast

if "xgboost" not in sys.modules and "sklearn" not in sys.modules:
    sys.modules["sklearn"] = cast("object", None)  # type: ignore[assignment]
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

import xgboost

__all__ = ["xgboost"]
