"""Backup methods, one file each, by what they back up. They import fixtures and the contract, never each other."""
