"""A saved view for MLflow's page of runs, under "Views": headline metrics, θ and n in charts.

MLflow stores a saved view as a tag of the experiment. The format is that of version 3.17; versions
that do not know it show their default view.
"""

import base64
import json
import zlib
from typing import Any

KEY = "rau"
TAG = f"mlflow.sharedViewState.{KEY}"
# Capitals come first in MLflow's lists; metrics that a data set does not have are left out.
COLUMNS = ("Headline", "R1", "R5", "R10", "R50", "Rs1", "MAP", "theta", "n")
_SECTION = "rau-theta-n"


def tag_value(created: int) -> str:
    """The tag's value; `created` is in milliseconds since 1970."""
    state = base64.b64encode(zlib.compress(json.dumps(_state()).encode())).decode()
    times = {"createdAt": created, "updatedAt": created}
    return json.dumps({"name": "theta and n", **times, "state": f"deflate;{state}"})


def _state() -> dict[str, Any]:
    return {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"metrics.`{name}`" for name in COLUMNS],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
        "compareRunSections": [
            {"uuid": _SECTION, "name": "theta and n", "display": True, "isReordered": False}
        ],
        "compareRunCharts": [
            _chart(
                "PARALLEL",
                selectedParams=["theta", "n"],
                selectedMetrics=["R10", "R50", "Headline"],
                showAllRuns=False,
            ),
            _chart(
                "CONTOUR",
                xaxis={"key": "theta", "type": "METRIC"},
                yaxis={"key": "n", "type": "METRIC"},
                zaxis={"key": "Headline", "type": "METRIC"},
            ),
        ],
    }


def _chart(kind: str, **own: Any) -> dict[str, Any]:
    common = {"uuid": f"rau-{kind.lower()}", "type": kind, "metricSectionId": _SECTION}
    return {**common, "deleted": False, "isGenerated": False, "runsCountToCompare": 100, **own}
