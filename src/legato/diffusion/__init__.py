"""From noise to latents: schedules, guidance, the denoising loop and its edits."""
