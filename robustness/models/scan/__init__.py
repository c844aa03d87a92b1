"""Inspects untrusted model files before they are loaded, without Keras.

`hdf5` checks the weights file; `config_safety` searches the configuration for objects that run code or read
other files; `model_size` computes the sizes of all layers (`config_parsing`, `known_layers`, `layer_sizes`);
`limited_process` and `trial_load` load a model whose sizes cannot be computed in a process with limits.

For `robustness.models.loading`. Must not import attacks, engine, runs or reports.
"""
