"""Fine-tuning an encoder's towers together with a composer."""
