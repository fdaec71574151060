"""The service: model folders behind HTTP; requests that arrive together are computed together, watched and logged."""
