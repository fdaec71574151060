"""Drawing: predict, draws, batches, stopping, memory, threads."""
