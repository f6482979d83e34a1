"""Train the embedded models: data, degradations, losses and recipes."""
