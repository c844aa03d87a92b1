"""The deployed input pipeline: what happens to an uploaded picture until it is the model's image.

Named conventions (`keras.load_img`, `torchvision`, ...) run the code of a library, `user_function` runs the
user's own, `upload` encodes pictures as the deployment receives them. `Geometry` is the linear part of a
convention, through which attacks see the model.
"""
