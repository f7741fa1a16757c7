"""The script that MLflow loads a search from: code, so that nothing is pickled."""

from mlflow.models import set_model

from rau.search.served import ServedSearch

set_model(ServedSearch())
