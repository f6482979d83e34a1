"""Image diffusion models taught about time; knows no files of video and no flow estimator."""
