"""The errors that are a user's to read: one sentence each, naming the thing and the remedy."""


class CertlipError(Exception):
    """Base of every error whose message is written for the user; the command line prints it without a trace."""


class ConfigError(CertlipError):
    """A configuration file, option or name is wrong."""


class DataError(CertlipError):
    """A data set, weights file or certificate is missing, corrupt or not what it claims to be."""


class UnsupportedLayer(CertlipError):
    """No bound is known for a layer; the message is ``layer name: no bound for Type``."""


class SolverUnavailable(CertlipError):
    """A solver is not installed or has no licence."""


class LimitExceeded(CertlipError):
    """A limit of time or memory was hit, or is predicted to be hit."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ExportError(CertlipError):
    """A torch module and the network exported from it do not compute the same function."""
