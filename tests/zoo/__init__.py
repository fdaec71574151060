"""The zoo: real architectures, drawn from and held to a plain loop over torch's own dropout."""
