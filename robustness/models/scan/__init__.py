"""What a model file would do if it were loaded, found out without Keras.

`hdf5` checks the weights file; `config_safety` looks in the configuration for whatever runs code;
`model_size` follows the sizes of its layers (`config_parsing`, `known_layers`, `layer_sizes`);
`limited_process` and `trial_load` load a model whose sizes cannot be followed in a process with limits.

For `robustness.models.loading`. Must not import attacks, engine, runs or reports.
"""
