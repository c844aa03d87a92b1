"""Models to audit: `load` one by name, file or Kaggle source; `fetch` a file from Kaggle."""

from model_zoo.kaggle_source import fetch as fetch
from model_zoo.registry import ModelInfo as ModelInfo
from model_zoo.registry import list_models as list_models
from model_zoo.registry import load as load
