"""Train the embedded models: data, degradations, losses and recipes."""

from legato.torchvision_operators import declare_missing

declare_missing()  # before the first import of diffusers
