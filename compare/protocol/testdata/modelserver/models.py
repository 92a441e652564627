"""Trains two versions of a classifier and writes them as MLServer wants them.

v1 and twin learn from the same data. v2 learns from the same data too, with one
feature in other units: training-serving skew.

Usage: models.py DIR HTTP_PORT GRPC_PORT METRICS_PORT
"""

import json
import pathlib
import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

folder = pathlib.Path(sys.argv[1])
http, grpc, metrics = map(int, sys.argv[2:5])
x, y = load_iris(return_X_y=True)
skewed = x.copy()
skewed[:, 2] *= 25.4

for name, features in {"v1": x, "twin": x, "v2": skewed}.items():
    (folder / name).mkdir(parents=True)
    joblib.dump(LogisticRegression(max_iter=5000).fit(features, y), folder / name / "model.joblib")
    (folder / name / "model-settings.json").write_text(json.dumps({
        "name": name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": name},
    }))

(folder / "settings.json").write_text(json.dumps({
    "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
    "parallel_workers": 0, "debug": False,
}))
