"""Every linear map that commutes with the group of a spec: enumerated, drawn and applied."""
