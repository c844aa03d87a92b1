"""The deployed input pipeline: what happens to an uploaded picture until it is the model's image.

`conventions` runs named library code (`keras.load_img`, `torchvision`, ...), `user_function` runs the user's own
code, `upload` encodes pictures as the deployment receives them. `Geometry` is the linear part of a convention,
through which attacks see the model.
"""
