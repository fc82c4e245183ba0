"""The properties of the contract, by subject."""
