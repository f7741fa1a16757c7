"""The script by which MLflow loads a search: code, so that nothing is pickled."""

from mlflow.models import set_model

from rau.search.served import ServedSearch

set_model(ServedSearch())
