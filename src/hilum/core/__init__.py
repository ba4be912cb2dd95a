"""The nouns of radiology as frozen data and state tables; no input, no output, no clock."""
