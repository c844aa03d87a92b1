"""Defines the error messages that the backends share."""

DISCONNECTED = (
    "The loss does not depend on the images, so there is no gradient to follow. Expected a model that "
    "is differentiable from input to output; look for a layer that rounds, takes an argmax, or leaves "
    "the framework, or use an attack that needs no gradient."
)
