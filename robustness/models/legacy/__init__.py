"""Converts configurations and weights that Keras 1 and 2 have saved to what Keras 3 loads.

`convert` maps a configuration to one of Keras 3: data in, data out, nothing is imported or evaluated by name.
`keras1` translates the names of Keras 1, `layers` single layers of Keras 2, `operations` and `slices`
TensorFlow operations that a model calls, `calls` and `graphs` the connections; `left_out` finds what is not
converted. `weights` reads arrays into a built model, and `archives` renames those of a `.keras` archive.

For `robustness.models.scan` and `robustness.models.loading`.
"""
