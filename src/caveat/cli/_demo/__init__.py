"""The demo: a network learns digits, one digit turns through a full circle, and a report shows when it is not sure."""
