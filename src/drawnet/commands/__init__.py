"""One file a command: a frozen dataclass, whose fields are its flags, and `main(arguments)`.

Heavy imports wait until a command runs: `--help` and `list` start without torch.
"""
