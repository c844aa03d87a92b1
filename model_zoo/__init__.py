"""Models to audit: `load` returns one by name, file or Kaggle source; `fetch` downloads a file from Kaggle.

A package that offers a model decorates the function that loads it with `zoo_model(ModelInfo(...))`.
"""

from robustness.model_zoo.info import ModelInfo as ModelInfo
from robustness.model_zoo.info import zoo_model as zoo_model
from robustness.model_zoo.kaggle.source import fetch as fetch
from robustness.model_zoo.registry import list_models as list_models
from robustness.model_zoo.registry import load as load
