"""What can happen to a deployment, one file each, each offering one ``DISASTER``."""
