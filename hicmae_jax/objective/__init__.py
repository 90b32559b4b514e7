"""The pre-training objective: targets, reconstruction and contrastive losses, and their sum."""
