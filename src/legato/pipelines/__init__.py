"""One public function per job; joins video, flow, models and diffusion."""
