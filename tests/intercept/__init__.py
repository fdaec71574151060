"""What is random in a network: masks, layouts, interception, audit."""
