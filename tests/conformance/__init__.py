"""What any sampler has to pass, and the networks that MC dropout passes it on."""
