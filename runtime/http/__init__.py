"""The HTTP API: each workflow a REST resource, each run a log that clients follow, leave and pick up again."""

from ..listener import AddressUnavailable
from .app import api
from .options import ApiOptions
from .serve import serve
from .streams import Streams
from .tokens import Token

__all__ = ["AddressUnavailable", "ApiOptions", "Streams", "Token", "api", "serve"]
