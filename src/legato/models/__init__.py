"""Image diffusion models taught about time; knows no files of video and no flow estimator."""

from legato.torchvision_operators import declare_missing

declare_missing()  # before the first import of diffusers
