"""What data and predictions looked like when the model was made: what later data is compared with.

The document is `stackyard.data.reference`'s, which monitoring reads; here it is made from the rows trained on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from stackyard.data.reference import Reference, class_names
from stackyard.data.sketches import fit, fit_frame


def describe(inputs: pl.DataFrame, features: pl.DataFrame, outputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Sketches of `inputs` and `features` (a row per example), outputs [rows] or [rows, classes], and labels [rows]."""
    columns = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    truth = pl.Series(np.asarray(labels, np.float64))
    return Reference(
        rows=features.height,
        inputs=fit_frame(inputs),
        features=fit_frame(features),
        outputs=tuple(fit(pl.Series(columns[:, place])) for place in range(columns.shape[1])),
        label=fit(class_names(truth) if columns.shape[1] > 1 else truth),
    ).plain()
