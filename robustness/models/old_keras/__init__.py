"""Runs models that only Keras 2 can load: tf_keras loads the file in a process of its own and answers.

`worker` is that process; `protocol` is what is sent; `model` is the Keras 3 model in this process. It needs
the extra `old-keras` and TensorFlow as the backend.

For `robustness.models.loading`. Must not import attacks, engine, runs or reports.
"""

from robustness.models.old_keras.model import OldKerasModel as OldKerasModel
from robustness.models.old_keras.model import installed as installed
from robustness.models.old_keras.model import opened as opened
